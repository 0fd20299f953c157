"""Add a table of contents to the documentation of each module, and slim pages."""

import inspect
import re
from typing import Any

from sphinx.application import Sphinx

# Names, punctuation and spaces have the color of plain text; marked up, they would be
# half of a page. In source code, numbers and the like are also left plain.
_PLAIN = re.compile(r'<span class="(?:n|nn|p|o|w|bp|pre)">([^<]*)</span>')
_SOURCE = re.compile(r'<span class="(?:nb|si|sa|ow|kc|mi|mf|ne)">([^<]*)</span>')


def setup(app: Sphinx) -> dict[str, Any]:
    """Connect the hooks below."""
    app.setup_extension("sphinx.ext.autodoc")
    # After napoleon, which replaces the sections of docstrings.
    app.connect("autodoc-process-docstring", _add_table, priority=900)
    app.connect("html-page-context", _slim)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def _add_table(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Append the name and the first line of each public member of a module."""
    if what != "module":
        return
    rows = []
    for member in getattr(obj, "__all__", [n for n in vars(obj) if n[0] != "_"]):
        value = getattr(obj, member)
        if _is_listed(member, value, obj, options):
            first = inspect.getdoc(value).partition("\n")[0]
            rows += [f"   * - :py:obj:`{member} <{name}.{member}>`", f"     - {first}"]
    if len(rows) > 4:  # a table of two would only repeat the page
        lines += ["", ".. list-table::", "   :widths: 30 70", "", *rows, ""]


def _is_listed(member: str, value: Any, module: Any, options: Any) -> bool:
    """Return whether autodoc documents a member on this page."""
    if not (inspect.isclass(value) or inspect.isroutine(value)):
        return False
    excluded = options.get("exclude-members") or ()
    imported = options.get("imported-members")
    here = value.__module__ == module.__name__ or bool(imported)
    return here and member not in excluded and bool(inspect.getdoc(value))


def _slim(app: Sphinx, page: str, template: str, context: Any, doctree: Any) -> None:
    body = _PLAIN.sub(r"\1", context.get("body", ""))
    context["body"] = _SOURCE.sub(r"\1", body) if "_modules/" in page else body
