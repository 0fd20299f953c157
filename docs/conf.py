"""Sphinx configuration; also writes one page per artifact, from its card."""

import os
import pathlib
import sys
from typing import Any

import jax
from sphinx.application import Sphinx

HERE = pathlib.Path(__file__).resolve().parent
# Sphinx wants the folder before the build writes the pictures into it.
(HERE / "_generated/static").mkdir(parents=True, exist_ok=True)
sys.path[:0] = [str(HERE), str(HERE.parent)]

from _artifact_pages import write_pages  # noqa: E402
from _board_page import write_board  # noqa: E402
from _cite_page import write_citations  # noqa: E402
from _conformance_page import write_conformance  # noqa: E402
from _lpg_figures import write_lpg_figures  # noqa: E402
from _readme import write_percent  # noqa: E402
from _results_page import (  # noqa: E402
    write_archive,
    write_bench,
    write_distilled,
    write_elsewhere,
    write_evolved,
    write_missing_features,
    write_proposals,
    write_published,
    write_starts,
    write_symbolic,
    write_table,
    write_windows,
)

from learned_opt_rl._version import __version__  # noqa: E402

# Signatures would show the module it is compiled in, jaxlib._jax.
jax.Array.__module__, jax.Array.__qualname__ = "jax", "Array"

project = "learned-opt-rl"
author = "The learned-opt-rl contributors"
project_copyright = "2026, The learned-opt-rl contributors"
release = version = __version__

extensions = [
    "_mathml",
    "_summaries",
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "_generated/*.md"]  # pages include the generated parts
html_theme = "furo"
html_math_renderer = "mathml"
html_static_path = ["_static", "_generated/static"]
html_css_files = ["site.css"]
html_favicon = "_static/favicon.svg"
html_copy_source = False
# Without the list of pages, which would be half of the size of a page of source code.
html_sidebars = {
    "_modules/**": [f"sidebar/{part}.html" for part in ("brand", "search")]
}
html_title = f"learned-opt-rl {version}"

nb_execution_mode = "off"
myst_enable_extensions = ["colon_fence", "deflist"]
myst_heading_anchors = 3
copybutton_exclude = ".linenos, .gp, .go"

autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# With -n every unresolved reference to a name of ours is an error; those to other
# projects resolve only with their inventories.
nitpick_ignore_regex = [
    (r"py:.*", r"(?!learned_opt_rl\b).*"),
    # Users do not build these: parts of a checked function, plans of comparisons.
    (r"py:class", r"learned_opt_rl\.(expressions|agents|evaluation)\._.*"),
    (r"py:class", r"learned_opt_rl\.(agents\.config|envs\.adapter)\._.*"),
    (r"py:class", r"learned_opt_rl\.rules\._core\.reseed\.State"),  # a type variable
    # Keywords, and the names of the bundled artifacts.
    (r"py:class", r"learned_opt_rl\.rules\._core\.(options|names)\..*"),
]

# Links into other projects need their inventories from the network, and -W makes a
# failed download fatal: so they are made only where asked for.
if os.environ.get("DOCS_INTERSPHINX"):
    extensions.append("sphinx.ext.intersphinx")
    intersphinx_mapping = {
        "python": ("https://docs.python.org/3", None),
        "numpy": ("https://numpy.org/doc/stable", None),
        "jax": ("https://docs.jax.dev/en/latest", None),
        "optax": ("https://optax.readthedocs.io/en/latest", None),
    }


# What our own artifacts are compared with: where they began, and tuned Adam.
EVOLVED_OVER = ("distilled/sign_momentum", "adam")

# (page, report, its rows) and the columns that are shown.
BENCHMARKS = {
    ("environments", "environments", "environments"): (
        "environment observation steps_per_second compile_seconds"
    ),
    ("purejaxrl", "purejaxrl", "rows"): (
        "environment loop steps_per_second times_purejaxrl"
    ),
    ("evolution_parts", "evolution", "parts"): "preset part processor_seconds share",
    ("evolution_populations", "evolution", "populations"): (
        "preset devices population single_steps_per_second "
        "population_steps_per_second relative relative_processor"
    ),
    ("scale_checks", "scale", "checks"): (
        "run_on task_seconds seconds predicted campaign_seconds processor_seconds MiB "
        "worker_MiB"
    ),
    ("scale_campaigns", "scale", "campaigns"): (
        "campaign steps workers hours dollars GiB computing"
    ),
    ("costs", "costs", "compilation"): (
        "rule state_bytes_per_parameter update_500_leaves run_500_leaves "
        "update_1e7_parameters run_1e7_parameters temporary_MiB update_8_agents "
        "run_8_agents"
    ),
    ("scale_limits", "scale", "limits"): (
        "task_seconds 8_workers 64_workers 1000_workers"
    ),
}


def _write_artifact_pages(app: Sphinx) -> None:
    """Write the artifact pages before Sphinx reads its sources."""
    write_pages(HERE / "_generated", HERE.parent / "results")
    write_conformance(HERE / "_generated")
    write_citations(HERE / "_generated" / "cite.md", HERE.parent / "CITATION.cff")
    write_percent(HERE / "_generated", HERE.parent / "results")
    write_board(HERE / "_generated", HERE.parent / "results")
    raw = HERE.parent / "results"
    pretrained = HERE.parent / "pretrained"
    rows = raw / "minatar_1e6.jsonl", raw / "lpo_symbolic_ant_1e6.jsonl"
    write_distilled(HERE / "_generated", pretrained, *rows)
    _write_results(HERE / "_generated", raw)


def _write_results(generated: pathlib.Path, raw: pathlib.Path) -> None:
    write_table(generated, raw / "breakout_1e6.jsonl")
    evolved = [raw / f"minatar{kind}_1e6.jsonl" for kind in ("", "_redistilled")]
    write_evolved(generated / "minatar_1e6.md", evolved, EVOLVED_OVER)
    write_missing_features(generated, raw / "missing_features.jsonl")
    files = raw / "proposed_optimizer_2e5.jsonl", raw / "minatar_2e5.jsonl"
    write_elsewhere(generated / "elsewhere_2e5.md", *files)
    write_published(generated, raw / "minatar_1e7.jsonl")
    write_starts(generated / "distill_random.md", raw / "distill_random")
    write_windows(generated, raw)
    write_proposals(generated / "propose_drift.md", raw / "propose_drift")
    write_archive(generated, raw / "discover_optimizer")
    for name in ("lpo_minatar", "minatar_same"):
        write_symbolic(generated, raw / f"symbolic_{name}")
    write_lpg_figures(generated, raw / "lpg_analysis")
    for (page, report, rows), columns in BENCHMARKS.items():
        path, source = generated / f"{page}.md", raw / f"{report}.json"
        write_bench(path, source, rows, columns.split())


def _skip_field_aliases(
    app: Sphinx, what: str, name: str, obj: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out a named tuple's fields, which its Attributes section describes."""
    generated = (getattr(obj, "__doc__", None) or "").startswith("Alias for field")
    return True if generated else None


def setup(app: Sphinx) -> None:
    """Connect the hooks above."""
    app.connect("builder-inited", _write_artifact_pages)
    app.connect("autodoc-skip-member", _skip_field_aliases)
