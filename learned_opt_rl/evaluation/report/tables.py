"""Results as tables: mean final returns with bootstrap intervals."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Literal

import numpy as np

from learned_opt_rl.evaluation.report.measures import BASELINE, Measures
from learned_opt_rl.evaluation.report.statistics import METRICS, Estimate
from learned_opt_rl.evaluation.report.statistics import (
    bootstrap_interval as bootstrap_interval,
)
from learned_opt_rl.rundir.jsonl import Row, grouped

Table = list[tuple[str, ...]]
"""Cells as text, the header first."""

_HEADER = (
    "rule",
    "environment",
    "seeds",
    "final return",
    "95% interval",
    "steps/s",
    "compile s",
    "wall s",
)


@dataclasses.dataclass(frozen=True)
class Summary:
    """One rule on one environment over all seeds.

    Attributes:
        rule: Its name.
        environment: The environment's name.
        num_seeds: How many runs this summarises.
        mean: Mean final return; a run without a finite return makes it NaN.
        low: Lower end of the 95% bootstrap interval of the mean, NaN for one seed.
        high: Upper end.
        steps_per_second: Environment steps per second of all agents together, without
            compilation, mean over runs.
        compile_seconds: Mean over runs.
        wall_seconds: Mean over runs, without compilation.
    """

    rule: str
    environment: str
    num_seeds: int
    mean: float
    low: float
    high: float
    steps_per_second: float
    compile_seconds: float
    wall_seconds: float


def summarise(rows: Iterable[Row]) -> list[Summary]:
    """Groups rows by rule and environment, in order of first appearance.

    Args:
        rows: From `runs.run` or `results.read`.

    Returns:
        One summary per rule and environment.

    Example:
        >>> row = {
        ...     "rule": "adam",
        ...     "environment": "Catch-bsuite",
        ...     "final_return": 1.0,
        ...     "steps_per_second": 2e5,
        ...     "compile_seconds": 3.0,
        ...     "wall_seconds": 5.0,
        ... }
        >>> summarise([row])[0].mean
        1.0
    """
    return [_summary(*key, group) for key, group in grouped(rows).items()]


def markdown(rows: Iterable[Row]) -> str:
    """The summaries as a Markdown table.

    Args:
        rows: From `runs.run` or `results.read`.

    Returns:
        The table, a header and a line per rule and environment.

    Example:
        >>> markdown([]).startswith("| rule | environment | seeds | final return |")
        True
    """
    return render([_HEADER, *_cells(rows)], "markdown")


def plain(rows: Iterable[Row]) -> str:
    """The summaries as a table for a terminal.

    Args:
        rows: From `runs.run` or `results.read`.

    Returns:
        The table, columns aligned.

    Example:
        >>> plain([]).split()[:3]
        ['rule', 'environment', 'seeds']
    """
    return render([_HEADER, *_cells(rows)], "plain")


def render(table: Table, style: Literal["plain", "markdown"]) -> str:
    """Sets a table for a terminal or for Markdown.

    Args:
        table: Cells, the header first; names in the first two columns.
        style: ``"plain"`` aligns columns; ``"markdown"`` needs no aligning.

    Returns:
        The lines.

    Example:
        >>> print(render([("rule", "x"), ("adam", "1")], "markdown"))
        | rule | x |
        | --- | --- |
        | adam | 1 |
    """
    if style == "markdown":
        rule = ("---",) * len(table[0])
        lines = [table[0], rule, *(map(_markdown_cell, line) for line in table[1:])]
        return "\n".join(f"| {' | '.join(line)} |" for line in lines)
    table = [tuple(_one_line(cell) for cell in line) for line in table]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in table
    )


def environments(measures: Iterable[Measures], baseline: str = BASELINE) -> Table:
    """What was measured of each rule in each environment.

    Args:
        measures: From `measures.measure`.
        baseline: The rule they are compared with.

    Returns:
        The table; nothing in it depends on how fast the machine was.

    Example:
        >>> environments([])[0][:4]
        ('environment', 'rule', 'seeds', 'final return [95%]')
    """
    header = (
        "environment",
        "rule",
        "seeds",
        "final return [95%]",
        f"minus {title(baseline)}, paired [95%]",
        "AUC [95%]",
        f"steps to {title(baseline)}'s return",
        "dormant at the end",
        "NaN updates",
        "failed",
    )
    return [
        header,
        *(
            (
                m.environment,
                m.rule,
                str(len(m.seeds)),
                cell(m.final),
                cell(m.paired),
                cell(m.auc),
                "-" if m.steps_to_baseline is None else f"{m.steps_to_baseline:,.0f}",
                "-" if m.dormant is None else f"{m.dormant:.1%}",
                "-" if m.nan_updates is None else str(m.nan_updates),
                str(m.failed),
            )
            for m in measures
        ),
    ]


def timings(measures: Iterable[Measures], baseline: str = BASELINE) -> Table:
    """How long runs took; `environments` has what they achieved.

    Args:
        measures: From `measures.measure`.
        baseline: The rule they are compared with.

    Returns:
        The table; all agents that ran together share its seconds.

    Example:
        >>> timings([])[0]
        ('environment', 'rule', 'steps/s', 'compile s', 'wall s',
         "s to Adam's return")
    """
    header = (
        "environment",
        "rule",
        "steps/s",
        "compile s",
        "wall s",
        f"s to {title(baseline)}'s return",
    )
    return [
        header,
        *(
            (
                m.environment,
                m.rule,
                _number(m.steps_per_second, ",.0f"),
                _number(m.compile_seconds, ".1f"),
                _number(m.wall_seconds, ".1f"),
                _number(m.seconds_to_baseline, ".1f"),
            )
            for m in measures
        ),
    ]


def aggregates(found: Mapping[str, Mapping[str, Estimate]], heading: str) -> Table:
    """Aggregates over environments, a line per rule.

    Args:
        found: By rule, from `statistics.aggregate`; also other estimates by name.
        heading: Of the column of rules.

    Returns:
        The table.

    Example:
        >>> aggregates({"adam": {"IQM": Estimate(1.0, 0.9, 1.1, 3)}}, "rule")
        [('rule', 'seeds', 'IQM [95%]'), ('adam', '3', '1.00 [0.90, 1.10]')]
    """
    named = {name: None for estimates in found.values() for name in estimates}
    columns = [
        *(m for m in METRICS if m in named),
        *(n for n in named if n not in METRICS),
    ]
    lines = [
        (
            rule,
            str(min((e.seeds for e in estimates.values()), default=0)),
            *(cell(estimates.get(name)) for name in columns),
        )
        for rule, estimates in found.items()
    ]
    return [(heading, "seeds", *(f"{name} [95%]" for name in columns)), *lines]


def cell(estimate: Estimate | None) -> str:
    """An estimate as text; too few seeds have no interval, and that is said.

    Args:
        estimate: Or None, where there is none.

    Returns:
        Such as ``1.00 [0.90, 1.10]``.

    Example:
        >>> cell(Estimate(1.0, None, None, 2))
        '1.00 (2 seeds)'
    """
    if estimate is None:
        return "-"
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.2f} ({seeds(estimate.seeds)})"
    return f"{estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"


def title(baseline: str) -> str:
    """What a baseline is called in a heading.

    Args:
        baseline: A rule.

    Returns:
        Its name; of tuned Adam, Adam.

    Example:
        >>> title("adam"), title("adam:1e-3")
        ('Adam', 'adam:1e-3')
    """
    return "Adam" if baseline == BASELINE else baseline


def seeds(number: int) -> str:
    """A number of seeds in words.

    Args:
        number: How many.

    Returns:
        The words.

    Example:
        >>> seeds(1)
        '1 seed'
    """
    return f"{number} seed{'' if number == 1 else 's'}"


def _number(value: float | None, form: str) -> str:
    return "-" if value is None else f"{value:{form}}"


def _one_line(text: str) -> str:
    """Text without what would break a line or steer a terminal."""
    return "".join(c if c.isprintable() else "?" for c in text)


def _markdown_cell(text: str) -> str:
    return _one_line(text).replace("|", r"\|").replace("<", "&lt;")


def _cells(rows: Iterable[Row]) -> list[tuple[str, ...]]:
    return [
        (
            summary.rule,
            summary.environment,
            str(summary.num_seeds),
            "--" if np.isnan(summary.mean) else f"{summary.mean:.2f}",
            "-"
            if summary.num_seeds == 1 or np.isnan(summary.mean)
            else f"{summary.low:.2f} to {summary.high:.2f}",
            f"{summary.steps_per_second:,.0f}",
            f"{summary.compile_seconds:.1f}",
            f"{summary.wall_seconds:.1f}",
        )
        for summary in summarise(rows)
    ]


def _summary(rule: str, environment: str, rows: list[Row]) -> Summary:
    returns = [
        float("nan") if row["final_return"] is None else row["final_return"]
        for row in rows
    ]

    def mean(field: str) -> float:
        return float(np.mean([row[field] for row in rows]))

    return Summary(
        rule,
        environment,
        len(rows),
        float(np.mean(returns)),
        *bootstrap_interval(returns),
        mean("steps_per_second"),
        mean("compile_seconds"),
        mean("wall_seconds"),
    )
