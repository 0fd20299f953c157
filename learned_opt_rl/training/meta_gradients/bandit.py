"""The bandit that chooses the hyperparameters of lifetimes, per environment.

References:
    Oh et al., "Discovering Reinforcement Learning Algorithms", 2020, equation 6.
"""

from typing import NamedTuple

import numpy as np

_LAST = 10  # lifetimes in the mean return of an arm, as in the paper


class Bandit(NamedTuple):
    """What a bandit knows of the arms of an environment.

    Attributes:
        returns: float32 ``[arms, 10]``, returns of each arm's last 10 lifetimes, a ring
            buffer; NaN where unused, and for a lifetime without a return.
        counts: int32 ``[arms]``, lifetimes so far.
    """

    returns: np.ndarray
    counts: np.ndarray


def init(arms: int) -> Bandit:
    """Return a bandit that has seen no lifetime."""
    returns = np.full((arms, _LAST), np.nan, np.float32)
    return Bandit(returns, np.zeros(arms, np.int32))


def probabilities(bandit: Bandit, bonus: float, temperature: float) -> np.ndarray:
    """Return the probability of each arm, float64 ``[arms]``.

    Arms without a lifetime come first, with equal probability. A lifetime without a
    return counts as 0 or, if that is less, as the lowest return of any arm: an arm that
    breaks lives must not gain by it. Both are our choices; the paper states neither.
    """
    new = bandit.counts == 0
    if new.any():
        return new / new.sum()
    used = np.arange(_LAST) < bandit.counts[:, None]
    known = np.isfinite(bandit.returns)
    worst = bandit.returns[known].min(initial=0.0)
    returns = np.where(known, bandit.returns, worst).astype(np.float64)
    mean = returns.mean(axis=1, where=used)
    logits = (mean + bonus / np.sqrt(bandit.counts)) / temperature
    weights = np.exp(logits - logits.max())
    return weights / weights.sum()


def update(bandit: Bandit, arm: int, value: float | None) -> Bandit:
    """Return the bandit after a lifetime with an arm ended, with a return or None."""
    returns, counts = bandit.returns.copy(), bandit.counts.copy()
    returns[arm, counts[arm] % _LAST] = np.nan if value is None else value
    counts[arm] += 1
    return Bandit(returns, counts)
