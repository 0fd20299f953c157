"""A comparison's report: a page, its numbers as JSON, and its pictures.

From a shell, ``learned-opt-rl report FOLDER``. The same rows always give the same
bytes, in whatever order they were made.
"""

import json
import pathlib
from collections.abc import Iterable, Sequence
from typing import Any

from learned_opt_rl.evaluation.report import (
    as_json,
    comparable,
    gather,
    page,
    statistics,
    tables,
)
from learned_opt_rl.evaluation.report.measures import BASELINE, measure
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.rundir.jsonl import Row

ROWS, FAILURES = "rows.jsonl", "failures.jsonl"


def write(
    folder: str | pathlib.Path,
    *,
    normalization: str = "auto",
    baseline: str = BASELINE,
) -> list[pathlib.Path]:
    """Writes the report of a comparison beside its rows.

    Args:
        folder: With ``rows.jsonl``, and ``failures.jsonl`` if something raised.
        normalization: How returns are brought to a common scale, one of
            `normalization.METHODS`.
        baseline: The rule that others are compared with.

    Returns:
        The files: ``report.html`` (self-contained), ``report.json`` (all numbers; only
        its ``timing`` depends on the machine's speed), ``leaderboard.json`` and the
        pictures in ``plots/``. Without rliable there are no aggregates, without
        matplotlib no pictures, and the page says so.

    Raises:
        ValueError: If there are no rows, one is damaged, or the normalization is
            unknown or has no reference.

    Example:
        >>> write("no/such/folder")
        Traceback (most recent call last):
        ...
        ValueError: no/such/folder/rows.jsonl has no rows; run a comparison first
    """
    folder = pathlib.Path(folder)
    rows = _sorted(comparable.checked(jsonl.read(folder / ROWS), f"{folder / ROWS}"))
    failures = sorted(jsonl.read(folder / FAILURES), key=json.dumps)
    found = gather.gather(rows, normalization, baseline=baseline)
    data = as_json.to_json(rows, found, failures)
    pictures = page.draw(found, folder / "plots")
    contents = {
        "report.html": page.page(data, found, pictures),
        "report.json": _json(data),
        "leaderboard.json": _json(_leaderboard(rows, ROWS)),
    }
    for name, content in contents.items():
        write_atomically(folder / name, content)
    files = [path for picture in pictures for path in picture.paths]
    return [*(folder / name for name in contents), *files]


def summary_text(
    rows: Iterable[Row], *, normalization: str = "auto", baseline: str = BASELINE
) -> str:
    """The most important results for a terminal.

    Args:
        rows: From `jsonl.read` or `runs.run`.
        normalization: As for `write`.
        baseline: As for `write`.

    Returns:
        For each setting a table of environments, one of aggregates, and notes.

    Raises:
        ValueError: As for `write`.

    Example:
        >>> row = {"rule": "adam", "environment": "ant", "seed": 0, "curve": [1.0]}
        >>> row |= {"final_return": 1.0, "total_timesteps": 1000}
        >>> summary_text([row]).split()[:3]
        ['environment', 'rule', 'seeds']
    """
    parts = []
    chosen = _sorted(comparable.checked(rows))
    for result in gather.gather(
        chosen, normalization, baseline=baseline, intervals=False
    ):
        parts += [result.setting.label] if result.setting.label else []
        parts.append(
            tables.render(tables.environments(result.measures, baseline), "plain")
        )
        if result.aggregates:
            method = result.normalised.method
            heading = "not normalised" if method == "raw" else f"normalised by {method}"
            merged = page.with_improvement(result)
            parts.append(tables.render(tables.aggregates(merged, heading), "plain"))
        parts += [f"- {note}" for note in result.notes]
    if not statistics.has_rliable():
        parts.append(gather.NO_RLIABLE)
    return "\n\n".join(parts)


def leaderboard_rows(paths: Sequence[str | pathlib.Path]) -> list[dict[str, Any]]:
    """The lines of a leaderboard, from files of results.

    Args:
        paths: JSON Lines files; each line of the leaderboard names its file.

    Returns:
        Dictionaries with ``rule``, ``environment``, ``mean`` (None if no run has a
        return), ``interval`` (None with fewer than five seeds), ``seeds``, ``failed``,
        ``steps``, ``agent``, ``variant``, ``revision`` and ``source``; by environment
        and length, the best first.

    Raises:
        ValueError: If a file has no rows, or a damaged one.

    Example:
        >>> leaderboard_rows([])
        []
    """
    lines = []
    for path in paths:
        rows = comparable.checked(jsonl.read(path), str(path))
        lines += _leaderboard(_sorted(rows), pathlib.Path(path).as_posix())
    return sorted(lines, key=_rank)


def _leaderboard(rows: list[Row], source: str) -> list[dict[str, Any]]:
    lines = []
    for setting in comparable.settings(rows):
        groups = jsonl.grouped(setting.rows)
        for found in measure(setting.rows):
            group = groups[found.rule, found.environment]
            final = found.final.to_dict() if found.final else {}
            lines.append(
                {
                    "rule": found.rule,
                    "environment": found.environment,
                    "mean": final.get("value"),
                    "interval": final.get("interval"),
                    "seeds": len(found.seeds),
                    "failed": found.failed,
                    "steps": found.steps,
                    "agent": group[0].get("agent") or "ppo",
                    "variant": setting.variant,
                    "revision": ", ".join(
                        sorted({str(row.get("revision") or "unknown") for row in group})
                    ),
                    "source": source,
                }
            )
    return sorted(lines, key=_rank)


def _rank(line: dict[str, Any]) -> tuple:
    worst_last = -line["mean"] if line["mean"] is not None else float("inf")
    where = (line["environment"], line["steps"], line["agent"], str(line["variant"]))
    return *where, worst_last, line["rule"], line["source"]


def _sorted(rows: list[Row]) -> list[Row]:
    """Rows in an order that tells nothing of how they were made."""
    # Stable: of rows that repeat each other, the last still comes last.
    return sorted(rows, key=lambda r: (r["environment"], r["rule"], r["seed"]))


def _json(data: Any) -> bytes:
    text = json.dumps(data, indent=1, sort_keys=True, allow_nan=False)
    return (text + "\n").encode()
