"""A page without network or scripts, in which all text from rows is only text."""

import base64
import html
import pathlib
import string
from collections.abc import Iterable

from learned_opt_rl.evaluation.report.tables import Table

_TEMPLATE = pathlib.Path(__file__).with_name("report.html")


def page(title: str, parts: Iterable[str]) -> bytes:
    """The page; ``parts`` come from the functions below."""
    template = string.Template(_TEMPLATE.read_text(encoding="utf-8"))
    body = "\n".join(parts)
    # A lone surrogate, which JSON may hold, has no UTF-8.
    filled = template.substitute(title=text(title), body=body)
    return filled.encode("utf-8", "replace")


def text(value: object) -> str:
    """Any value as harmless text."""
    shown = "".join(c if c.isprintable() or c == "\n" else "?" for c in str(value))
    return html.escape(shown, quote=True)


def heading(title: str, level: int = 2) -> str:
    """A heading of a section."""
    return f"<h{level}>{text(title)}</h{level}>"


def paragraph(words: str, kind: str = "") -> str:
    """A paragraph; ``kind`` is ``"soft"``, ``"note"`` or nothing."""
    return f'<p class="{kind}">{text(words)}</p>' if kind else f"<p>{text(words)}</p>"


def code(lines: str) -> str:
    """Text as it is."""
    return f"<pre>{text(lines)}</pre>"


def table(cells: Table) -> str:
    """A table, its header first."""

    def line(tag: str, values: Iterable[str]) -> str:
        return f"<tr>{''.join(f'<{tag}>{text(v)}</{tag}>' for v in values)}</tr>"

    rows = "\n".join(line("td", values) for values in cells[1:])
    head = f"<thead>{line('th', cells[0])}</thead>"
    return f'<div class="scroll"><table>{head}<tbody>\n{rows}\n</tbody></table></div>'


def picture(svg: bytes, caption: str) -> str:
    """An SVG as an image: its text can neither run nor clash with another's."""
    data = base64.b64encode(svg).decode()
    image = f'<img src="data:image/svg+xml;base64,{data}" alt="{text(caption)}">'
    return f"<figure>{image}<figcaption>{text(caption)}</figcaption></figure>"
