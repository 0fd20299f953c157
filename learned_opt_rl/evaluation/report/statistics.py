"""Statistics of returns over seeds and environments, with bootstrap intervals.

The aggregates are those of Agarwal et al. 2021. Intervals are 95% percentile intervals
of the stratified bootstrap: runs are resampled within each environment. The tests
compare both with rliable, whose loop over resamples takes a hundred times as long. Two
rules keep the numbers honest:

- A run that diverged or has no return counts as the worst run in its environment; see
  `failed_values`.
- Fewer than five seeds get no interval. Percentile intervals of few seeds are too
  narrow: they cover the true value less often than 95% of the time.

References:
    Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical
    Precipice", 2021.
"""

import dataclasses
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from learned_opt_rl.evaluation.runs.row import Row

Returns = dict[str, dict[str, dict[int, float]]]
"""Final return by rule, environment and seed."""

Banded = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]
"""Numbers and the ends of their intervals, None with fewer than five seeds."""

METRICS = ("mean", "median", "IQM", "optimality gap")
"""The aggregates that `aggregate` computes."""

MIN_SEEDS = 5
"""The fewest seeds that get an interval. With three seeds, a 95% percentile interval
is just their minimum and maximum."""

RESAMPLES = 2000
"""Bootstrap samples of an aggregate, as in the figures of Agarwal et al. 2021."""

MEAN_RESAMPLES = 10_000
"""Bootstrap samples of the mean in one environment; published cards name this."""

# The ends of a 95% interval.
_TAILS = (0.025, 0.975)
# Resamples computed at a time. More would not be faster, and need memory that grows
# with the square of the number of seeds.
_BLOCK = 100


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number and its 95% interval, None with fewer than five seeds."""

    value: float
    low: float | None
    high: float | None
    seeds: int

    def to_dict(self) -> dict[str, Any]:
        """Return the estimate as JSON."""
        interval = None if self.low is None else [self.low, self.high]
        return {"value": self.value, "interval": interval, "seeds": self.seeds}


def plain(value: Any) -> Any:
    """Return nested estimates and arrays as JSON."""
    if isinstance(value, Estimate):
        return value.to_dict()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    return [*map(plain, value)] if isinstance(value, list | tuple) else value


@dataclasses.dataclass(frozen=True)
class Scores:
    """The results of rules that all ran in the same environments."""

    environments: tuple[str, ...]
    # [seeds, environments], the seeds with all environments
    matrices: dict[str, np.ndarray]
    left_out: dict[str, str]  # the reason for each rule that has no matrix


def bootstrap_band(
    values: np.ndarray, resamples: int = 1000
) -> tuple[np.ndarray, np.ndarray]:
    """Return 95% percentile bootstrap intervals of a mean curve, point by point.

    The values are ``[seeds, points]``; ``resamples`` mean curves are drawn.

    References:
        Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.
    """
    seeds = len(values)
    # A fixed seed, so that the same rows give the same report.
    picks = np.random.default_rng(0).integers(seeds, size=(resamples, seeds))
    low, high = np.quantile(values[picks].mean(axis=1), _TAILS, axis=0)
    return low, high


def estimate(values: Sequence[float]) -> Estimate:
    """Estimate the mean of one value per seed."""
    array = np.asarray(values, float)
    mean = float(array.mean())
    if array.size < MIN_SEEDS:
        return Estimate(mean, None, None, array.size)
    low, high = bootstrap_band(array[:, None], MEAN_RESAMPLES)
    return Estimate(mean, float(low[0]), float(high[0]), array.size)


def returns(rows: Iterable[Row]) -> Returns:
    """Return final returns; a failed run gets its environment's `failed_values`.

    Environments in which every run failed are left out.

    References:
        Goldie et al., "Can Learned Optimization Make RL Less Difficult?", 2024: a
        member of the population whose return is NaN gets the worst fitness.
    """
    rows = list(rows)
    floors = failed_values(rows)
    found: Returns = {}
    for row in rows:
        if row.environment in floors:
            value = None if row.failed else row.final_return
            seeds = found.setdefault(row.rule, {}).setdefault(row.environment, {})
            seeds[row.seed] = float(floors[row.environment] if value is None else value)
    return found


def failed_values(rows: Iterable[Row]) -> dict[str, float]:
    """Return the value of a failed run for each environment with a successful run.

    The value is the smaller of two numbers. One is the lowest point of any learning
    curve, usually the return of an untrained agent. The other is ``w - abs(w)`` for the
    worst final return ``w``: 0 for positive returns, twice the worst for negative ones.
    If all final returns are 0, it is -1.

    The worst final return itself is too high where every rule does well: a rule whose
    runs diverge would look as good as the others. Failed runs do not set the value,
    since a run that diverges may have any return.
    """
    finals: dict[str, list[float]] = {}
    lowest: dict[str, float] = {}
    for row in rows:
        if not row.failed and row.final_return is not None:
            name, points = row.environment, [p for p in row.curve if p is not None]
            finals.setdefault(name, []).append(row.final_return)
            lowest[name] = min([*points, lowest.get(name, row.final_return)])
    return {
        name: min(
            lowest[name], min(values) - (abs(min(values)) if any(values) else 1.0)
        )
        for name, values in finals.items()
    }


def scores(found: Returns) -> Scores:
    """Choose environments and rules such that every rule ran in all of them.

    Among the sets of environments that some rule has, this takes the set that keeps the
    most results, so that the missing runs of one rule do not remove those of others.
    """
    sets = sorted({tuple(sorted(games)) for games in found.values()})

    def kept(games: tuple[str, ...]) -> tuple[int, int]:
        rules = sum(set(games) <= set(others) for others in found.values())
        return rules * len(games), len(games)

    # Sorted before, so that ties do not depend on the order of the rows.
    chosen = max(sets, key=kept, default=())
    matrices, left_out = {}, {}
    for rule, games in found.items():
        missing = [name for name in chosen if name not in games]
        common = _common(games[name] for name in chosen if name in games)
        if missing:
            left_out[rule] = f"no return in {', '.join(missing)}"
        elif not common:
            left_out[rule] = "no seed was run in all environments"
        else:
            matrices[rule] = np.array([[games[g][s] for g in chosen] for s in common])
    return Scores(chosen, matrices, left_out)


def aggregate(matrix: np.ndarray) -> dict[str, Estimate]:
    """Estimate the `METRICS` of normalized returns, ``[seeds, environments]``.

    Mean and median are taken over the means of the environments. The interquartile mean
    is the mean of the middle half of all runs. The optimality gap is the average
    shortfall from 1, where a return above 1 has no shortfall.
    """
    return dict(zip(METRICS, _estimates(_aggregates, matrix), strict=True))


def probability_of_improvement(x: np.ndarray, y: np.ndarray) -> Estimate:
    """Estimate P(X > Y) + P(X = Y) / 2 for runs of two rules, mean over environments.

    Both are ``[seeds, environments]``; the numbers of seeds may differ.
    """
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"x has {x.shape[1]} environments and y has {y.shape[1]}; pass the same "
            "environments in the same order"
        )
    return _estimates(_improvement, x, y)[0]


def performance_profile(matrix: np.ndarray, thresholds: np.ndarray) -> Banded:
    """Return the share of runs ``[seeds, environments]`` above each threshold ``[n]``.

    The shares and the ends of their intervals are ``[n]`` each.
    """

    def shares(x: np.ndarray) -> np.ndarray:
        return (x[..., None] > thresholds).mean(axis=(-3, -2))

    return _bootstrap(shares, matrix)


def average_ranks(means: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """Return the rank of each rule, averaged over environments.

    The means of a rule are one per environment. The highest mean has rank 1; equal
    means share the average of their ranks.

    Raises:
        ValueError: If the rules have different numbers of means.

    Example:
        >>> average_ranks({"a": [3.0, 5.0], "b": [1.0, 5.0]})
        {'a': 1.25, 'b': 1.75}
    """
    lengths = {rule: len(own) for rule, own in means.items()}
    if len({*lengths.values()}) > 1:
        raise ValueError(
            f"means have the lengths {lengths}, which must be equal. Pass one mean per "
            "environment for each rule"
        )
    if not means:
        return {}
    found = ranks(np.array([*means.values()], float)).mean(axis=-1)
    return dict(zip(means, found.tolist(), strict=True))


def ranks(values: np.ndarray) -> np.ndarray:
    """Return ranks ``[n, environments]`` of values among the n, 1 for the highest.

    Equal values share the mean of their ranks.
    """
    above = (values[None] > values[:, None]).sum(axis=1)
    equal = (values[None] == values[:, None]).sum(axis=1)  # with itself
    return above + (equal + 1) / 2


def paired_difference(
    x: Mapping[int, float], y: Mapping[int, float]
) -> Estimate | None:
    """Estimate the mean difference X - Y over the seeds that both have.

    The same seed gives every rule the same initial agent, so differences by seed vary
    less than the returns. None without a common seed.
    """
    common = _common([x, y])
    return estimate([x[seed] - y[seed] for seed in common]) if common else None


def _common(games: Iterable[Mapping[int, float]]) -> list[int]:
    sets = [set(seeds) for seeds in games]
    return sorted(set.intersection(*sets)) if sets else []


def _aggregates(x: np.ndarray) -> np.ndarray:
    """Return the `METRICS`, ``[..., 4]``, of ``[..., seeds, environments]``."""
    means = x.mean(axis=-2)
    runs = np.sort(x.reshape(*x.shape[:-2], -1), axis=-1)
    # What scipy.stats.trim_mean computes; scipy.stats takes a second to import.
    cut = runs.shape[-1] // 4
    metrics = (
        means.mean(axis=-1),
        np.median(means, axis=-1),
        runs[..., cut : runs.shape[-1] - cut].mean(axis=-1),
        np.maximum(1 - runs, 0).mean(axis=-1),
    )
    return np.stack(metrics, axis=-1)


def _improvement(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the Mann-Whitney statistic over its maximum, ``[..., 1]``."""
    # A win is 1, a tie 0 and a loss -1, so the mean m is a probability of (m + 1) / 2.
    signs = np.sign(x[..., :, None, :] - y[..., None, :, :])
    return (signs.mean(axis=(-3, -2, -1)) + 1)[..., None] / 2


def _estimates(
    metric: Callable[..., np.ndarray], *matrices: np.ndarray
) -> list[Estimate]:
    seeds = min(map(len, matrices))
    values, low, high = _bootstrap(metric, *matrices)
    if low is None or high is None:
        return [Estimate(value, None, None, seeds) for value in values.tolist()]
    ends = zip(values.tolist(), low.tolist(), high.tolist(), strict=True)
    return [Estimate(*one, seeds) for one in ends]


def _bootstrap(metric: Callable[..., np.ndarray], *matrices: np.ndarray) -> Banded:
    """Return a metric and, from five seeds on, the ends of its interval.

    The metric maps matrices of ``[..., seeds, environments]`` to ``[..., k]``.
    """
    if min(map(len, matrices)) < MIN_SEEDS:
        return metric(*matrices), None, None
    rng = np.random.default_rng(0)
    drawn = [
        metric(*(_resampled(matrix, rng) for matrix in matrices))
        for _ in range(-(-RESAMPLES // _BLOCK))
    ]
    low, high = np.quantile(np.concatenate(drawn), _TAILS, axis=0)
    return metric(*matrices), low, high


def _resampled(matrix: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Draw runs again within each environment, ``[_BLOCK, seeds, environments]``."""
    picks = rng.integers(len(matrix), size=(_BLOCK, *matrix.shape))
    return np.take_along_axis(matrix[None], picks, axis=1)
