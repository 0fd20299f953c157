"""Run rules, compare them, and report the results.

The names below load on first use, because they import jax:

- `compare` runs rules on environments and returns a `Report`: tables, figures, frames;
- `load` reads the `Report` of a folder, and `write` writes its page and files;
- `run` trains one agent per seed with a rule and returns a `Row` per seed;
- `Comparison`, `prepare` and `execute` are the parts of `compare`;
- `read_rows` reads the rows of a folder's ``rows.jsonl``.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from learned_opt_rl.evaluation.comparing import compare as compare
    from learned_opt_rl.evaluation.report.report import Report as Report
    from learned_opt_rl.evaluation.report.report import load as load
    from learned_opt_rl.evaluation.report.write import write as write
    from learned_opt_rl.evaluation.runs.compare import execute as execute
    from learned_opt_rl.evaluation.runs.plan import Comparison as Comparison
    from learned_opt_rl.evaluation.runs.plan import prepare as prepare
    from learned_opt_rl.evaluation.runs.row import Row as Row
    from learned_opt_rl.evaluation.runs.row import append_rows as append_rows
    from learned_opt_rl.evaluation.runs.row import read_rows as read_rows
    from learned_opt_rl.evaluation.runs.run import run as run

_HOMES = {
    "Comparison": "runs.plan",
    "Report": "report.report",
    "Row": "runs.row",
    "append_rows": "runs.row",
    "compare": "comparing",
    "execute": "runs.compare",
    "load": "report.report",
    "prepare": "runs.plan",
    "read_rows": "runs.row",
    "run": "runs.run",
    "write": "report.write",
}

__all__ = [*_HOMES]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_HOMES)
