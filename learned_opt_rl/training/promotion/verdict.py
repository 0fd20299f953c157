"""Whether new weights are worse than those that have the name now."""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from learned_opt_rl.evaluation.report import normalization, statistics
from learned_opt_rl.evaluation.report.statistics import Estimate, Returns
from learned_opt_rl.evaluation.runs.row import Row
from learned_opt_rl.rundir import jsonl


class WorseError(ValueError):
    """The new weights return less than those that have the name; nothing changed."""


class Verdict(NamedTuple):
    """Two rules, by the mean over environments of normalized returns.

    Attributes:
        new: Of the new weights.
        holder: Of those that have the name.
        difference: New minus holder, over seeds that both have.
        text: The same in words, with the interval.
    """

    new: float
    holder: float
    difference: Estimate
    text: str


def judge(
    new: Iterable[jsonl.Row],
    holder: Iterable[jsonl.Row],
    others: Iterable[jsonl.Row],
    baseline: str,
) -> Verdict:
    """Compares two rules seed by seed.

    Args:
        new: Rows of the new weights.
        holder: Of those that have the name, in the same environments.
        others: Of baselines.
        baseline: One of them, whose mean return, without its sign, is the unit where
            no returns are published for all environments.

    Returns:
        The verdict.

    Raises:
        ValueError: No seed is common.

    References:
        Goldie et al. 2024, section 6.2 (returns over those of tuned Adam).

    Example:
        >>> def run(rule, seed, value):
        ...     made = {
        ...         "rule": rule,
        ...         "environment": "ant",
        ...         "seed": seed,
        ...         "curve": [1.0],
        ...     }
        ...     return made | {"final_return": value, "total_timesteps": 1000}
        >>> new, old = [run("n", 0, 9.0)], [run("n", 0, 6.0)]
        >>> judge(new, old, [run("sgd", 0, 3.0)], "sgd").difference.value > 0
        True
    """
    rows = [
        *(Row.from_json(row | {"rule": "new"}) for row in new),
        *(Row.from_json(row | {"rule": "holder"}) for row in holder),
        *(Row.from_json(row) for row in others if row["rule"] == baseline),
    ]
    names = sorted({row.environment for row in rows})
    returns, description = _normalized(rows, names, baseline)
    scores = {rule: _scores(returns[rule]) for rule in ("new", "holder")}
    common = sorted(scores["new"].keys() & scores["holder"].keys())
    difference = statistics.paired_difference(scores["new"], scores["holder"])
    if difference is None:
        raise ValueError("the two have no seed in common that ran in all environments")
    ours, theirs = (float(np.mean([scores[r][s] for s in common])) for r in scores)
    text = (
        f"mean normalized return {ours:.4g} against {theirs:.4g}, difference "
        f"{shown(difference)}, over {', '.join(names)} at "
        f"{rows[0].total_timesteps:,} steps, {description}"
    )
    return Verdict(ours, theirs, difference, text)


def shown(difference: Estimate) -> str:
    """A difference with its interval.

    Args:
        difference: Over paired seeds.

    Returns:
        Such as ``-0.1 [-0.2, 0.05] (95%, 5 paired seeds)``.

    Example:
        >>> shown(Estimate(0.25, None, None, 1))
        '0.25 (1 paired seed, too few for an interval)'
    """
    seeds = f"{difference.seeds} paired seed{'s' * (difference.seeds > 1)}"
    if difference.low is None:
        return f"{difference.value:.3g} ({seeds}, too few for an interval)"
    ends = f"[{difference.low:.3g}, {difference.high:.3g}]"
    return f"{difference.value:.3g} {ends} (95%, {seeds})"


def _normalized(
    rows: Sequence[Row], environments: Sequence[str], baseline: str
) -> tuple[Returns, str]:
    """Returns in units that no environment lacks, and what those are."""
    if set(environments) <= set(normalization.published("adam")):
        found = normalization.normalize(rows, "published")
        return found.returns, found.description
    returns = statistics.returns(rows)
    units = {e: _unit(returns, e, baseline) for e in environments}
    scaled = {
        rule: {e: {s: v / units[e] for s, v in by.items()} for e, by in games.items()}
        for rule, games in returns.items()
    }
    return scaled, f"divided by the size of {baseline}'s mean final return in each"


def _unit(returns: Returns, environment: str, baseline: str) -> float:
    """Never 0; where the baseline returns nothing, the largest return of any."""
    seen = {rule: [*by.get(environment, {}).values()] for rule, by in returns.items()}
    own = abs(float(np.mean(seen.get(baseline) or [0.0])))
    return own or max(map(abs, itertools.chain(*seen.values()))) or 1.0


def _scores(games: dict[str, dict[int, float]]) -> dict[int, float]:
    """Mean over environments, by seed, of the seeds that all have."""
    common = set.intersection(*(set(seeds) for seeds in games.values()))
    return {
        seed: float(np.mean([seeds[seed] for seeds in games.values()]))
        for seed in sorted(common)
    }
