"""Measures of one rule in one environment, over its seeds."""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any, Literal

import numpy as np

from learned_opt_rl.evaluation.report import statistics
from learned_opt_rl.evaluation.report.statistics import Estimate
from learned_opt_rl.evaluation.runs.row import Row, grouped

BASELINE = "adam"
"""The default baseline, which is tuned Adam."""

TIMING = ("seconds_to_baseline", "wall_seconds", "steps_per_second", "compile_seconds")
"""The measures that depend on the speed of the machine."""


@dataclasses.dataclass(frozen=True)
class Measures:
    """One rule in one environment; times exclude compilation."""

    rule: str
    environment: str
    seeds: tuple[int, ...]
    steps: float
    final: Estimate | None  # final return; None if no run in this environment has one
    # area under the learning curve, which is the mean over the run
    auc: Estimate | None
    # Environment steps of one agent until the mean curve reaches the mean final return
    # of the baseline; None if it never does.
    steps_to_baseline: float | None
    dormant: float | None  # share of dormant neurons at the end; None if not measured
    nan_updates: int | None  # updates of all runs with an entry that was not finite
    failed: int  # runs that diverged or in which no episode ended
    too_short: int  # those of them in which no episode ended
    # The value of each failed run in ``final`` and ``auc``; None if all runs in this
    # environment failed. See `statistics.failed_values`.
    failed_as: float | None
    # Difference from the baseline, seed by seed; None if a run of either failed.
    paired: Estimate | None
    seconds_to_baseline: float | None  # of all agents together
    wall_seconds: float | None  # mean over the runs
    steps_per_second: float | None  # of all agents that ran together
    compile_seconds: float | None  # mean over the runs

    def to_dict(self) -> dict[str, Any]:
        """Return the measures as JSON, without the `TIMING`."""
        kept = {key: value for key, value in vars(self).items() if key not in TIMING}
        return statistics.plain(kept)


def measure(rows: Iterable[Row], baseline: str = BASELINE) -> list[Measures]:
    """Measure every rule in every environment of one setting, in the rows' order."""
    rows = list(rows)
    found, floors = statistics.returns(rows), worst_points(rows)
    failed = statistics.failed_values(rows)
    groups = grouped(rows)
    return [
        _measures(
            group,
            groups.get((baseline, name), []),
            found,
            floors.get(name),
            failed.get(name),
        )
        for (_, name), group in groups.items()
    ]


def worst_points(
    rows: Iterable[Row], field: Literal["curve", "dormant"] = "curve"
) -> dict[str, float]:
    """Return the lowest point of any curve by environment, for missing points."""
    lowest: dict[str, float] = {}
    for row in rows:
        known = [point for point in getattr(row, field) if point is not None]
        if known:
            name = row.environment
            lowest[name] = min(*known, lowest.get(name, known[0]))
    return lowest


def curve_matrix(
    curves: Sequence[Sequence[float | None]],
    floor: float,
    max_points: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Interpolate the curves of several runs, of any lengths, to common points.

    Missing points get the value ``floor``. Longer curves are thinned to about
    ``max_points`` points, including the last. Returns shares of the run, ``[points]``
    in (0, 1], and values, ``[runs, points]``.
    """
    longest = max(map(len, curves))
    step = -(-longest // max_points) if max_points else 1
    # Counts down from the end, so that the last point is among them.
    shares = np.arange(longest, 0, -step)[::-1] / longest
    values = []
    for curve in curves:
        full = np.array([floor if point is None else point for point in curve], float)
        own = np.arange(1, len(full) + 1) / len(full)
        values.append(np.interp(shares, own, full))
    return shares, np.array(values)


def _measures(
    group: list[Row],
    others: list[Row],  # of the baseline
    found: statistics.Returns,
    floor: float | None,
    failed_as: float | None,
) -> Measures:
    rule, name = group[0].rule, group[0].environment
    baseline = others[0].rule if others else None
    steps = group[0].total_timesteps
    mine = found.get(rule, {}).get(name, {})
    other = found.get(baseline or "", {}).get(name, {})
    share = _share_to_reach(group, floor, failed_as, other)
    # The value of a failed run is a convention, so differences from it mean nothing.
    has_pairs = baseline != rule and not any(row.failed for row in [*group, *others])
    wall = _mean(row.wall_seconds for row in group)
    nan_updates = [r.nan_updates for r in group if r.nan_updates is not None]
    return Measures(
        rule=rule,
        environment=name,
        seeds=tuple(sorted(row.seed for row in group)),
        steps=steps,
        final=statistics.estimate([*mine.values()]) if mine else None,
        auc=_area(group, failed_as),
        # Of one agent: agents that run together do not share their steps.
        steps_to_baseline=share and share * group[0].steps_run,
        dormant=_mean(row.dormant[-1] for row in group if row.dormant),
        nan_updates=sum(nan_updates) if nan_updates else None,
        failed=sum(row.failed for row in group),
        too_short=sum(row.too_short for row in group),
        failed_as=failed_as,
        paired=statistics.paired_difference(mine, other) if has_pairs else None,
        seconds_to_baseline=share and wall and share * wall,
        wall_seconds=wall,
        steps_per_second=_mean(row.steps_per_second for row in group),
        compile_seconds=_mean(row.compile_seconds for row in group),
    )


def _share_to_reach(
    group: list[Row],
    floor: float | None,
    failed_as: float | None,
    other: dict[int, float],
) -> float | None:
    """Return the share of the run after which the mean curve reaches a mean return."""
    if floor is None or failed_as is None or not other:
        return None
    curves = [[failed_as] if row.failed else row.curve for row in group]
    shares, values = curve_matrix(curves, floor)
    reached = values.mean(axis=0) >= np.mean([*other.values()])
    return float(shares[reached.argmax()]) if reached.any() else None


def _area(group: list[Row], failed_as: float | None) -> Estimate | None:
    """Estimate the area under the curves, None if all runs failed."""
    if failed_as is None:
        return None
    return statistics.estimate(
        [failed_as if row.failed or row.auc is None else row.auc for row in group]
    )


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None
