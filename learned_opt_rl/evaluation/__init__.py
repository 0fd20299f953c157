"""Run rules, compare them, and report the results.

The names below load on first use, because they import jax:

- `run` trains one agent per seed with a rule and returns a `Row` per seed;
- `Comparison`, `prepare` and `execute` run many rules into a folder, resumably;
- `read_rows` reads such a folder's ``rows.jsonl``, and `write` makes its report.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from learned_opt_rl.evaluation.report.write import write as write
    from learned_opt_rl.evaluation.runs.compare import Comparison as Comparison
    from learned_opt_rl.evaluation.runs.compare import execute as execute
    from learned_opt_rl.evaluation.runs.compare import prepare as prepare
    from learned_opt_rl.evaluation.runs.row import Row as Row
    from learned_opt_rl.evaluation.runs.row import append_rows as append_rows
    from learned_opt_rl.evaluation.runs.row import read_rows as read_rows
    from learned_opt_rl.evaluation.runs.run import run as run

_HOMES = {
    "Comparison": "runs.compare",
    "Row": "runs.row",
    "append_rows": "runs.row",
    "execute": "runs.compare",
    "prepare": "runs.compare",
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
