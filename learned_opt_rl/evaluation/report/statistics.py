"""Statistics of returns that a reviewer accepts: aggregates with intervals.

What is measured of each rule over seeds and environments follows Agarwal et al.; the
intervals are 95% percentile intervals of the stratified bootstrap (runs are drawn
again within each environment), through rliable. Two rules of this module keep it
honest: a run that diverged or has no return counts as the worst return that any run of
that environment had, and fewer than five seeds have no interval. (Percentile intervals
of few seeds are too narrow: they cover the truth less often than in 95%.)

References:
    Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical
    Precipice", 2021.
"""

import contextlib
import dataclasses
import types
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.rundir.jsonl import Row

Returns = dict[str, dict[str, dict[int, float]]]
"""Final return by rule, environment and seed."""

METRICS = ("mean", "median", "IQM", "optimality gap")
"""What `aggregate` computes."""

MIN_SEEDS = 5
"""With fewer seeds no interval is claimed: of three, a 95% percentile interval is the
least and the most of them. Of five to ten it still covers less than it says."""

RESAMPLES = 2000
"""Bootstrap samples of an aggregate."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A number and how sure it is.

    Attributes:
        value: The estimate.
        low: Lower end of its 95% interval; None with fewer than five seeds.
        high: Upper end.
        seeds: How many seeds it rests on.
    """

    value: float
    low: float | None
    high: float | None
    seeds: int

    def to_dict(self) -> dict[str, Any]:
        """The estimate as JSON.

        Returns:
            ``value``, ``interval`` (two numbers or None) and ``seeds``.

        Example:
            >>> Estimate(1.0, None, None, 2).to_dict()
            {'value': 1.0, 'interval': None, 'seeds': 2}
        """
        interval = None if self.low is None else [self.low, self.high]
        return {"value": self.value, "interval": interval, "seeds": self.seeds}


@dataclasses.dataclass(frozen=True)
class Scores:
    """What can be aggregated fairly: every rule on the same environments.

    Attributes:
        environments: The environments.
        matrices: ``[seeds, environments]`` by rule; the seeds are those the rule has
            in all of them.
        left_out: Why a rule is not among the matrices.
    """

    environments: tuple[str, ...]
    matrices: dict[str, np.ndarray]
    left_out: dict[str, str]


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
    low, high = bootstrap_band(
        array[:, None], level=level, resamples=resamples, seed=seed
    )
    return float(low[0]), float(high[0])


def bootstrap_band(
    values: np.ndarray, *, level: float = 0.95, resamples: int = 1000, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap intervals of the mean curve of some seeds, point by point.

    Args:
        values: ``[seeds, points]``, two seeds or more.
        level: Coverage at each point.
        resamples: How many mean curves are drawn.
        seed: Of the resampling.

    Returns:
        Lower and upper ends, ``[points]`` each.

    Example:
        >>> low, high = bootstrap_band(np.array([[0.0, 1.0], [2.0, 1.0]]))
        >>> low.tolist(), high.tolist()
        ([0.0, 1.0], [2.0, 1.0])
    """
    n = len(values)
    picks = np.random.default_rng(seed).integers(n, size=(resamples, n))
    tail = (1 - level) / 2
    low, high = np.quantile(values[picks].mean(axis=1), (tail, 1 - tail), axis=0)
    return low, high


def estimate(values: Sequence[float]) -> Estimate:
    """The mean over seeds, with its interval from five seeds on.

    Args:
        values: One per seed, at least one.

    Returns:
        The estimate.

    Example:
        >>> estimate([1.0, 2.0])
        Estimate(value=1.5, low=None, high=None, seeds=2)
    """
    array = np.asarray(values, float)
    known = array.size >= MIN_SEEDS
    ends = bootstrap_interval(values) if known else (None, None)
    return Estimate(float(array.mean()), *ends, array.size)


def failed(row: Row) -> bool:
    """Whether a run counts as the worst: it diverged, or has no finite return.

    Args:
        row: From `results.read`.

    Returns:
        The answer.

    Example:
        >>> failed({"final_return": 0.4, "diverged": True})
        True
    """
    return bool(row.get("diverged")) or row["final_return"] is None


def returns(rows: Iterable[Row]) -> Returns:
    """Final returns, in which a failed run has the worst return of its environment.

    Args:
        rows: Of one setting (`comparable.settings`).

    Returns:
        By rule, environment and seed. An environment where no run at all has a return
        is left out.

    References:
        Goldie et al., "Can Learned Optimization Make RL Less Difficult?", 2024: a
        member of the population whose return is NaN has the worst fitness.

    Example:
        >>> run = {"environment": "ant", "diverged": False}
        >>> found = returns(
        ...     [
        ...         run | {"rule": "adam", "seed": 0, "final_return": 2.0},
        ...         run | {"rule": "sgd", "seed": 0, "final_return": None},
        ...     ]
        ... )
        >>> found["sgd"]
        {'ant': {0: 2.0}}
    """
    rows = list(rows)
    worst: dict[str, float] = {}
    for row in rows:
        if row["final_return"] is not None:
            name = row["environment"]
            worst[name] = min(worst.get(name, np.inf), row["final_return"])
    found: Returns = {}
    for row in rows:
        name = row["environment"]
        if name in worst:
            value = worst[name] if failed(row) else row["final_return"]
            seeds = found.setdefault(row["rule"], {}).setdefault(name, {})
            seeds[row["seed"]] = float(value)
    return found


def scores(found: Returns) -> Scores:
    """Picks environments and rules such that every rule has run on all of them.

    Of the sets of environments that some rule has, the one is taken that keeps the most
    results, so that one rule's missing runs do not cost the others theirs.

    Args:
        found: From `returns`, perhaps normalised.

    Returns:
        The scores; no environments if there are no returns.

    Example:
        >>> chosen = scores({"adam": {"ant": {0: 1.0}, "hopper": {0: 2.0}}})
        >>> chosen.environments, chosen.matrices["adam"].tolist()
        (('ant', 'hopper'), [[1.0, 2.0]])
    """
    sets = sorted({tuple(sorted(games)) for games in found.values()})

    def kept(games: tuple[str, ...]) -> tuple[int, int]:
        rules = sum(set(games) <= set(others) for others in found.values())
        return rules * len(games), len(games)

    chosen = max(sets, key=kept, default=())
    matrices, left_out = {}, {}
    for rule, games in found.items():
        missing = [name for name in chosen if name not in games]
        common = _common(games[name] for name in chosen if name in games)
        if missing:
            left_out[rule] = f"no return in {', '.join(missing)}"
        elif not common:
            left_out[rule] = "no seed that all environments have"
        else:
            matrices[rule] = np.array([[games[g][s] for g in chosen] for s in common])
    return Scores(chosen, matrices, left_out)


def aggregate(
    matrix: np.ndarray, *, resamples: int | None = None
) -> dict[str, Estimate]:
    """Mean, median, interquartile mean and optimality gap of one rule.

    Args:
        matrix: Normalised returns, ``[seeds, environments]``.
        resamples: Bootstrap samples, by default `RESAMPLES`.

    Returns:
        An estimate for each of `METRICS`: mean and median of the environments' means;
        the mean of the middle half of all runs; and how far runs fall short of 1 on
        average, what is above 1 counting as 1.

    Raises:
        MissingExtraError: If rliable is not installed.

    Example:
        >>> aggregate(np.array([[1.0, 3.0]]))["mean"]  # doctest: +SKIP
        Estimate(value=2.0, low=None, high=None, seeds=1)
    """
    metrics = _rliable("metrics")
    functions = (
        metrics.aggregate_mean,
        metrics.aggregate_median,
        metrics.aggregate_iqm,
        metrics.aggregate_optimality_gap,
    )

    def all_metrics(sample: np.ndarray) -> np.ndarray:
        return np.array([function(sample) for function in functions])

    values, low, high = _interval(matrix, all_metrics, len(matrix), resamples)
    return {
        metric: Estimate(float(values[i]), _end(low, i), _end(high, i), len(matrix))
        for i, metric in enumerate(METRICS)
    }


def probability_of_improvement(
    x: np.ndarray, y: np.ndarray, *, resamples: int | None = None
) -> Estimate:
    """How likely a run of X returns more than one of Y in the same environment.

    Args:
        x: Returns of X, ``[seeds, environments]``.
        y: Returns of Y in the same environments; the seeds may be others.
        resamples: Bootstrap samples, by default `RESAMPLES`.

    Returns:
        The mean over environments of P(X > Y) + P(X = Y) / 2.

    Raises:
        MissingExtraError: If rliable is not installed.
        ValueError: If the environments differ in number.

    Example:
        >>> probability_of_improvement(np.ones((1, 2)), np.zeros((1, 2)))
        ... # doctest: +SKIP
        Estimate(value=1.0, low=None, high=None, seeds=1)
    """
    if x.shape[1] != y.shape[1]:
        raise ValueError(
            f"x has {x.shape[1]} environments and y has {y.shape[1]}; give both the "
            "same ones, in the same order"
        )

    def probability(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        # The Mann-Whitney statistic that rliable.metrics computes, a hundred times
        # faster: it is what a bootstrap spends its time on.
        return np.array([(np.sign(x[:, None] - y[None]).mean() + 1) / 2])

    seeds = min(len(x), len(y))
    values, low, high = _interval([x, y], probability, seeds, resamples)
    return Estimate(float(values[0]), _end(low, 0), _end(high, 0), seeds)


def performance_profile(
    matrix: np.ndarray, thresholds: np.ndarray, *, resamples: int | None = None
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """The share of runs that return more than each threshold.

    Args:
        matrix: Normalised returns, ``[seeds, environments]``.
        thresholds: ``[n]``.
        resamples: Bootstrap samples, by default `RESAMPLES`.

    Returns:
        Shares and the ends of their intervals, ``[n]`` each; None for the ends with
        fewer than five seeds.

    Raises:
        MissingExtraError: If rliable is not installed.

    Example:
        >>> performance_profile(np.array([[0.5, 2.0]]), np.array([0.0, 1.0]))[0]
        ... # doctest: +SKIP
        array([1. , 0.5])
    """

    def shares(sample: np.ndarray) -> np.ndarray:
        return (sample[..., None] > thresholds).mean(axis=(0, 1))

    return _interval(matrix, shares, len(matrix), resamples)


def paired_difference(
    x: Mapping[int, float], y: Mapping[int, float]
) -> Estimate | None:
    """The mean difference X - Y over the seeds that both have.

    The same seed gives every rule the same initial agent, so differences seed by seed
    vary less than the returns do; seeds are drawn again in pairs.

    Args:
        x: Return by seed.
        y: Return by seed.

    Returns:
        The estimate, None if no seed is common.

    Example:
        >>> paired_difference({0: 3.0, 1: 5.0, 7: 9.0}, {0: 1.0, 1: 2.0})
        Estimate(value=2.5, low=None, high=None, seeds=2)
    """
    common = _common([x, y])
    return estimate([x[seed] - y[seed] for seed in common]) if common else None


def has_rliable() -> bool:
    """Whether aggregates can be computed here.

    Returns:
        The answer.

    Example:
        >>> has_rliable() in (True, False)
        True
    """
    try:
        _rliable("metrics")
    except MissingExtraError:
        return False
    return True


def _common(games: Iterable[Mapping[int, float]]) -> list[int]:
    sets = [set(seeds) for seeds in games]
    return sorted(set.intersection(*sets)) if sets else []


def _interval(
    data: np.ndarray | list[np.ndarray],
    function: Callable[..., np.ndarray],
    seeds: int,
    resamples: int | None,
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray | None]:
    """A point estimate and, from five seeds on, rliable's interval."""
    library = _rliable("library")
    if seeds < MIN_SEEDS:
        arrays = data if isinstance(data, list) else [data]
        return function(*arrays), None, None
    with _numpy_seed(0):
        points, intervals = library.get_interval_estimates(
            {"it": data}, function, reps=resamples or RESAMPLES
        )
    return points["it"], *intervals["it"]


@contextlib.contextmanager
def _numpy_seed(seed: int) -> Iterator[None]:
    """Seed NumPy's global generator: rliable draws from it, whatever it is told."""
    before = np.random.get_state()
    np.random.seed(seed)
    try:
        yield
    finally:
        np.random.set_state(before)


def _end(ends: np.ndarray | None, index: int) -> float | None:
    return None if ends is None else float(ends[index])


def _rliable(module: str) -> types.ModuleType:
    try:
        import rliable.library
        import rliable.metrics
    # With pandas 3 it is not an ImportError that importing rliable raises.
    except (ImportError, TypeError) as error:
        raise MissingExtraError(
            f"aggregates need rliable ({error}): pip install 'learned-opt-rl[rliable]'"
        ) from error
    return getattr(rliable, module)
