"""The verdict of a promotion: are the new weights worse than the current version?"""

import dataclasses
import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np

from learned_opt_rl.evaluation.report import normalization, statistics
from learned_opt_rl.evaluation.report.statistics import Estimate, Returns
from learned_opt_rl.evaluation.runs.row import Row


class WorseError(ValueError):
    """The new weights return less than the current version; nothing changed."""


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """The runs before a promotion."""

    new: list[Row]  # of the new weights
    others: list[Row]  # of the baselines
    baseline: str | None  # the baseline that known failures are relative to
    # of the current version, if other weights have the name
    old: list[Row] = dataclasses.field(default_factory=list)


class Verdict(NamedTuple):
    """A comparison of two rules by their normalized returns, averaged over games.

    Attributes:
        new: Score of the new weights.
        current: Score of the current version.
        difference: New minus current, over the seeds that both have.
        text: The same in words, with the interval.
    """

    new: float
    current: float
    difference: Estimate
    text: str


def judge(
    new: Iterable[Row],
    current: Iterable[Row],
    others: Iterable[Row],
    baseline: str | None,
) -> Verdict:
    """Compare two rules seed by seed; raise ValueError if they share no seed.

    The unit is the published return of tuned Adam (Goldie et al. 2024, section 6.2).
    Where an environment has none, it is the absolute mean return of the ``baseline``
    among the rows of ``others``, or the largest return without a baseline.
    """
    rows = [
        *(dataclasses.replace(row, rule="new") for row in new),
        *(dataclasses.replace(row, rule="current") for row in current),
        *(row for row in others if row.rule == baseline),
    ]
    names = sorted({row.environment for row in rows})
    returns, description = _normalized(rows, names, baseline)
    scores = {rule: _scores(returns[rule]) for rule in ("new", "current")}
    common = sorted(scores["new"].keys() & scores["current"].keys())
    difference = statistics.paired_difference(scores["new"], scores["current"])
    if difference is None:
        raise ValueError(
            "the two rules have no seed in common that ran in all environments; run "
            "both with the same seeds"
        )
    ours, theirs = (float(np.mean([scores[r][s] for s in common])) for r in scores)
    text = (
        f"mean normalized return {ours:.4g} compared with {theirs:.4g}, a difference "
        f"of {shown(difference)}, over {', '.join(names)} after "
        f"{rows[0].total_timesteps:,} steps, {description}"
    )
    return Verdict(ours, theirs, difference, text)


def shown(difference: Estimate) -> str:
    """Write a difference over paired seeds with its interval."""
    seeds = f"{difference.seeds} paired seed{'s' * (difference.seeds > 1)}"
    if difference.low is None:
        return f"{difference.value:.3g} ({seeds}, too few for an interval)"
    ends = f"[{difference.low:.3g}, {difference.high:.3g}]"
    return f"{difference.value:.3g} {ends} (95%, {seeds})"


def _normalized(
    rows: Sequence[Row], environments: Sequence[str], baseline: str | None
) -> tuple[Returns, str]:
    """Return normalized returns, and a description of their unit."""
    if set(environments) <= set(normalization.published("adam")):
        found = normalization.normalize(rows, "published")
        return found.returns, found.description
    returns = statistics.returns(rows)
    units = {e: _unit(returns, e, baseline) for e in environments}
    scaled = {
        rule: {e: {s: v / units[e] for s, v in by.items()} for e, by in games.items()}
        for rule, games in returns.items()
    }
    of = f"absolute mean final return of {baseline}" if baseline else "largest return"
    unit = f"the {of} in each environment"
    return scaled, f"divided by {unit}"


def _unit(returns: Returns, environment: str, baseline: str | None) -> float:
    """Return the baseline's mean size, or the largest return if that is 0."""
    seen = {rule: [*by.get(environment, {}).values()] for rule, by in returns.items()}
    own = abs(float(np.mean(seen.get(baseline or "") or [0.0])))
    return own or max(map(abs, itertools.chain(*seen.values()))) or 1.0


def _scores(games: dict[str, dict[int, float]]) -> dict[int, float]:
    """Return the mean over environments of each seed that ran in all of them."""
    common = set.intersection(*(set(seeds) for seeds in games.values()))
    return {
        seed: float(np.mean([seeds[seed] for seeds in games.values()]))
        for seed in sorted(common)
    }
