"""Drifts: penalties of a policy loss for moving the policy too far.

A drift is an elementwise function ``(ratio, advantage) -> drift``. Mirror learning
requires a drift that is never negative, and 0 and flat where the ratio is 1. Any such
drift gives a policy improvement step; PPO's clipping is one of them. `check` tests
whether a function is a drift. `losses.policy_loss` takes any drift.

References:
    Kuba et al. 2022, "Mirror Learning: A Unifying Framework of Policy Optimisation".
    Lu et al. 2022, "Discovered Policy Optimisation".

Example:
    >>> from learned_opt_rl.rules import drifts, losses
    >>> import jax.numpy as jnp
    >>> ratio, advantage = jnp.array([1.0, 1.5]), jnp.array([1.0, -1.0])
    >>> loss = losses.policy_loss(ratio, advantage, drifts.dpo())
"""

from learned_opt_rl.rules._drift.check import DriftReport as DriftReport
from learned_opt_rl.rules._drift.check import Failure as Failure
from learned_opt_rl.rules._drift.check import check as check
from learned_opt_rl.rules._drift.forms import Drift as Drift
from learned_opt_rl.rules._drift.forms import PPODrift as PPODrift
from learned_opt_rl.rules._drift.forms import dpo as dpo
from learned_opt_rl.rules._drift.forms import from_function as from_function
from learned_opt_rl.rules._drift.forms import ppo as ppo

__all__ = [
    "Drift",
    "DriftReport",
    "Failure",
    "PPODrift",
    "check",
    "dpo",
    "from_function",
    "ppo",
]


def __dir__() -> list[str]:
    return __all__
