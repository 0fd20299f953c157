"""Results as tables: mean final returns with bootstrap intervals."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from learned_opt_rl.evaluation.results import Row, grouped

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


def bootstrap_interval(
    values: Sequence[float],
    *,
    level: float = 0.95,
    resamples: int = 10_000,
    seed: int = 0,
) -> tuple[float, float]:
    """Percentile bootstrap interval of a mean.

    Args:
        values: One per seed.
        level: Coverage.
        resamples: How many means are drawn.
        seed: Of the resampling; the same values always give the same interval.

    Returns:
        ``(low, high)``; NaN for fewer than two values, which say nothing of spread.

    References:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.

    Example:
        >>> low, high = bootstrap_interval([1.0, 2.0, 3.0, 4.0])
        >>> 1.0 <= low < 2.5 < high <= 4.0
        True
    """
    array = np.asarray(values, float)
    if array.size < 2:
        return float("nan"), float("nan")
    picks = np.random.default_rng(seed).integers(
        array.size, size=(resamples, array.size)
    )
    tail = (1 - level) / 2
    low, high = np.quantile(array[picks].mean(axis=1), (tail, 1 - tail))
    return float(low), float(high)


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
    cells = [_HEADER, ["---"] * len(_HEADER), *_cells(rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


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
    lines = [_HEADER, *_cells(rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def _cells(rows: Iterable[Row]) -> list[tuple[str, ...]]:
    return [
        (
            summary.rule,
            summary.environment,
            str(summary.num_seeds),
            f"{summary.mean:.2f}",
            f"{summary.low:.2f} to {summary.high:.2f}"
            if summary.num_seeds > 1
            else "-",
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
