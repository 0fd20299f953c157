"""The report of a comparison: a page, its numbers as JSON, and its figures.

From a shell: ``learned-opt-rl report FOLDER``. The same rows give the same bytes, in
whatever order they were made.
"""

import importlib.util
import json
import pathlib
from collections.abc import Iterable
from typing import Any

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.evaluation.report import as_json, comparable, gather, page, tables
from learned_opt_rl.evaluation.report.gather import Results
from learned_opt_rl.evaluation.report.measures import BASELINE
from learned_opt_rl.evaluation.runs.row import Row, grouped
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import write_atomically

ROWS, FAILURES = "rows.jsonl", "failures.jsonl"


def write(
    folder: str | pathlib.Path,
    *,
    normalization: str = "auto",
    baseline: str = BASELINE,
) -> tuple[str, list[pathlib.Path]]:
    """Write the report of a comparison next to its rows.

    Args:
        folder: Contains ``rows.jsonl``, and ``failures.jsonl`` if a run raised.
        normalization: How to bring returns to a common scale, one of
            `normalization.METHODS`.
        baseline: The rule that others are compared with.

    Returns:
        A summary for the terminal, and the files written: ``report.html``
        (self-contained), ``report.json`` (all numbers; only its ``timing`` depends on
        the speed of the machine), ``leaderboard.json`` and the figures in ``plots/``.

    Raises:
        MissingExtraError: As for `require_extras`.
        ValueError: If there are no rows, one is damaged, or the normalization is
            unknown or has no reference.

    Example:
        >>> write("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: no/such/folder/rows.jsonl has no rows; run a comparison first
    """
    require_extras()
    folder = pathlib.Path(folder)
    rows = _sorted(comparable.read(folder / ROWS))
    failures = sorted(jsonl.read(folder / FAILURES), key=json.dumps)
    found = gather.gather(rows, normalization, baseline=baseline)
    varied = gather.axes(found)
    data = as_json.to_json(rows, found, varied, failures)
    text = summary(found)
    pictures = page.draw(found, varied, folder / "plots")
    contents = {
        "report.html": page.page(data, found, pictures),
        "report.json": _json(data),
        "leaderboard.json": _json(_leaderboard(found)),
    }
    for name, content in contents.items():
        write_atomically(folder / name, content)
    files = [path for picture in pictures for path in picture.paths]
    return text, [*(folder / name for name in contents), *files]


def require_extras() -> None:
    """Check the packages of a report; for use before runs that take hours.

    Raises:
        MissingExtraError: If one of them is not installed.
    """
    for name in ("jinja2", "matplotlib", "tabulate"):
        if importlib.util.find_spec(name) is None:
            raise MissingExtraError(
                f"reports need {name}: pip install 'learned-opt-rl[eval]'"
            )


def summary(found: Iterable[Results]) -> str:
    """Return tables and notes of the most important results, for a terminal.

    Args:
        found: From `gather.gather`.
    """
    parts = []
    for result in found:
        parts += [result.setting.label] if result.setting.label else []
        shown = tables.environments(result.measures, result.baseline)
        parts.append(tables.render(shown, "plain"))
        if result.aggregates:
            method = result.normalized.method
            heading = "not normalized" if method == "raw" else f"normalized by {method}"
            merged = page.with_improvement(result)
            parts.append(tables.render(tables.aggregates(merged, heading), "plain"))
        parts += [f"- {note}" for note in result.notes]
    return "\n\n".join(parts)


def _leaderboard(found: Iterable[Results]) -> list[dict[str, Any]]:
    """Return a line per rule, environment and setting, the best of each first."""
    lines = []
    for result in found:
        groups = grouped(result.setting.rows)
        for m in result.measures:
            group = groups[m.rule, m.environment]
            revisions = sorted({row.revision or "unknown" for row in group})
            lines.append(
                {
                    "rule": m.rule,
                    "environment": m.environment,
                    "mean": m.final and m.final.value,
                    "interval": m.final and m.final.to_dict()["interval"],
                    "seeds": len(m.seeds),
                    "failed": m.failed,
                    "steps": m.steps,
                    "agent": group[0].agent,
                    "variant": result.setting.variant,
                    "revision": ", ".join(revisions),
                    "source": ROWS,
                }
            )
    return sorted(lines, key=_rank)


def _rank(line: dict[str, Any]) -> tuple:
    worst_last = -line["mean"] if line["mean"] is not None else float("inf")
    where = (line["environment"], line["steps"], line["agent"], str(line["variant"]))
    return *where, worst_last, line["rule"]


def _sorted(rows: list[Row]) -> list[Row]:
    """Sort rows in an order that does not depend on how they were made."""
    # Stable: of rows that repeat each other, the last still comes last.
    return sorted(rows, key=lambda row: (row.environment, row.rule, row.seed))


def _json(data: Any) -> bytes:
    text = json.dumps(data, indent=1, sort_keys=True, allow_nan=False)
    return (text + "\n").encode()
