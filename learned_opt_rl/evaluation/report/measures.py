"""What is measured of a rule in an environment, over its seeds."""

import dataclasses
from collections.abc import Iterable, Sequence

import numpy as np

from learned_opt_rl.evaluation.report import statistics
from learned_opt_rl.evaluation.report.statistics import Estimate
from learned_opt_rl.rundir.jsonl import Row, grouped

BASELINE = "adam"
"""The rule whose final return others race to, where no other is asked for."""


@dataclasses.dataclass(frozen=True)
class Measures:
    """One rule in one environment.

    Attributes:
        rule: Its name.
        environment: The environment's name.
        seeds: Of its runs.
        steps: Environment steps of a run.
        final: Final return; None if no run in this environment has one.
        auc: Area under the learning curve, that is, the mean over the run.
        steps_to_baseline: Environment steps of one agent after which the mean curve
            first reaches the baseline's mean final return; None if never or without.
        dormant: Share of dormant neurons at the end; None if it was not measured.
        nan_updates: Optimiser updates with an entry that is not finite, of all runs;
            None if not counted.
        failed: Runs that diverged or have no return; in ``final`` and ``auc`` they
            count as the worst observed in the environment.
        paired: Difference of final returns from the baseline's, seed by seed.
        seconds_to_baseline: Wall-clock seconds to there, of all agents run together.
        wall_seconds: Mean over the runs, without compilation.
        steps_per_second: The same; of all agents together.
        compile_seconds: The same.
    """

    rule: str
    environment: str
    seeds: tuple[int, ...]
    steps: float
    final: Estimate | None
    auc: Estimate | None
    steps_to_baseline: float | None
    dormant: float | None
    nan_updates: int | None
    failed: int
    paired: Estimate | None
    seconds_to_baseline: float | None
    wall_seconds: float | None
    steps_per_second: float | None
    compile_seconds: float | None


def measure(rows: Iterable[Row], baseline: str = BASELINE) -> list[Measures]:
    """Measures every rule in every environment.

    Args:
        rows: Of one setting (`comparable.settings`).
        baseline: The rule that all are compared with.

    Returns:
        In the order of the rows.

    Example:
        >>> row = {"rule": "adam", "environment": "ant", "seed": 0, "curve": [1.0, 2.0]}
        >>> (found,) = measure([row | {"final_return": 2.0, "total_timesteps": 1000}])
        >>> found.auc.value, found.steps_to_baseline
        (1.5, 1000.0)
    """
    groups = grouped(rows)
    found = statistics.returns(row for group in groups.values() for row in group)
    floors = worst_points(row for group in groups.values() for row in group)
    areas = _areas(groups.values())
    return [
        _measures(group, found, floors.get(key[1]), areas, baseline)
        for key, group in groups.items()
    ]


def worst_points(rows: Iterable[Row]) -> dict[str, float]:
    """The lowest point of any learning curve, by environment.

    Args:
        rows: In any order.

    Returns:
        By environment, where there is any finite point. It stands for the points of a
        curve that are missing.

    Example:
        >>> worst_points([{"environment": "ant", "curve": [None, 3.0, 1.0]}])
        {'ant': 1.0}
    """
    worst: dict[str, float] = {}
    for row in rows:
        points = [point for point in row["curve"] if point is not None]
        if points:
            name = row["environment"]
            worst[name] = min(worst.get(name, np.inf), *points)
    return worst


def curve_matrix(
    curves: Sequence[Sequence[float | None]],
    floor: float,
    max_points: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Curves of several runs on common points.

    Args:
        curves: One per run; lengths may differ.
        floor: What a missing point counts as.
        max_points: Thin longer curves to about so many points, the last one kept.

    Returns:
        Shares of the run, ``[points]`` in (0, 1], and values, ``[runs, points]``.

    Example:
        >>> shares, values = curve_matrix([[1.0, 2.0], [None, 4.0]], floor=0.0)
        >>> shares.tolist(), values.tolist()
        ([0.5, 1.0], [[1.0, 2.0], [0.0, 4.0]])
    """
    longest = max(map(len, curves))
    # From the end, so that the last point is among them.
    step = -(-longest // max_points) if max_points else 1
    shares = np.arange(longest, 0, -step)[::-1] / longest
    values = []
    for curve in curves:
        full = np.array([floor if point is None else point for point in curve], float)
        own = np.arange(1, len(full) + 1) / len(full)
        values.append(np.interp(shares, own, full))
    return shares, np.array(values)


def _measures(
    group: list[Row],
    found: statistics.Returns,
    floor: float | None,
    areas: dict[tuple[str, str], list[float]],
    baseline: str,
) -> Measures:
    first = group[0]
    rule, name = first["rule"], first["environment"]
    mine = found.get(rule, {}).get(name, {})
    other = found.get(baseline, {}).get(name, {})
    share = _share_to_reach(group, floor, other)
    wall = _mean(group, "wall_seconds")
    nan_updates = [row.get("nan_updates") for row in group]
    counted = [count for count in nan_updates if count is not None]
    dormant = [row["dormant"][-1] for row in group if row.get("dormant")]
    ends = [value for value in dormant if value is not None]
    return Measures(
        rule=rule,
        environment=name,
        seeds=tuple(sorted(row["seed"] for row in group)),
        steps=first["total_timesteps"],
        final=statistics.estimate([*mine.values()]) if mine else None,
        auc=statistics.estimate(areas[rule, name]) if name in _names(areas) else None,
        steps_to_baseline=share and share * first["total_timesteps"],
        dormant=float(np.mean(ends)) if ends else None,
        nan_updates=sum(counted) if counted else None,
        failed=sum(map(statistics.failed, group)),
        paired=None if rule == baseline else statistics.paired_difference(mine, other),
        seconds_to_baseline=share and wall and share * wall,
        wall_seconds=wall,
        steps_per_second=_mean(group, "steps_per_second"),
        compile_seconds=_mean(group, "compile_seconds"),
    )


def _share_to_reach(
    group: list[Row], floor: float | None, other: dict[int, float]
) -> float | None:
    """The share of the run after which the mean curve reaches a rule's final mean."""
    if floor is None or not other:
        return None
    shares, values = curve_matrix([row["curve"] for row in group], floor)
    reached = values.mean(axis=0) >= np.mean([*other.values()])
    return float(shares[reached.argmax()]) if reached.any() else None


def _areas(groups: Iterable[list[Row]]) -> dict[tuple[str, str], list[float]]:
    """Areas under the curves; a failed run has the worst of its environment."""
    own = {
        (row["rule"], row["environment"], row["seed"]): _area(row)
        for group in groups
        for row in group
    }
    worst: dict[str, float] = {}
    for (_, name, _), (area, _) in own.items():
        if area is not None:
            worst[name] = min(worst.get(name, np.inf), area)
    areas: dict[tuple[str, str], list[float]] = {}
    for (rule, name, _), (area, has_failed) in own.items():
        if name in worst:
            value = worst[name] if has_failed or area is None else area
            areas.setdefault((rule, name), []).append(value)
    return areas


def _area(row: Row) -> tuple[float | None, bool]:
    """The area where it is known, and whether the run failed."""
    area = row.get("auc")
    if area is None and None not in row["curve"]:
        area = float(np.mean(row["curve"]))
    return area, statistics.failed(row)


def _names(areas: dict[tuple[str, str], list[float]]) -> set[str]:
    return {name for _, name in areas}


def _mean(group: list[Row], field: str) -> float | None:
    values = [row[field] for row in group if row.get(field) is not None]
    return float(np.mean(values)) if values else None
