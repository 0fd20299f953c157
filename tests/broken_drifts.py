"""Drifts that each break the contract in one way, and what catches it.

All are PPO's drift but for the fault. ``DRIFTS`` maps the fault to the checks that must
fail, no others, and to words of the first one's reason.
"""

import jax.numpy as jnp

from learned_opt_rl.rules import drifts
from tests.broken_rules import Broken, is_traced

DRIFTS: dict[str, Broken] = {}

ppo = drifts.ppo(0.2)


def breaks(*checks, words=""):
    """Register a drift under the checks that find it out; the first one tells."""

    def register(drift):
        DRIFTS[drift.__name__] = Broken(lambda: drift, checks, words)
        return drift

    return register


@breaks("gives_values", words="the drift is float32[], that of the ratio is float32[5]")
def is_a_mean(ratio, advantage):
    return jnp.mean(ppo(ratio, advantage))


@breaks("gives_values", words="it raised TypeError")
def wants_a_width(ratio, advantage, epsilon):
    return drifts.ppo(epsilon)(ratio, advantage)


@breaks("elementwise", "transforms", words="apart, the drift")
def normalizes_the_batch(ratio, advantage):
    return ppo(ratio, advantage) / (1 + jnp.mean(jnp.abs(advantage)))


@breaks("mirror_conditions", words="negative: ")
def rewards_moving_where_it_was_bad(ratio, advantage):
    return (ratio - 1) ** 2 * advantage


@breaks("mirror_conditions", words="not zero at r = 1: 0.1 at r = 1")
def charges_for_standing_still(ratio, advantage):
    return ppo(ratio, advantage) + 0.1


@breaks("flat_at_one", words="its derivative at ratio 1 is [")
def slopes_at_one(ratio, advantage):
    return jnp.where(ratio >= 1, (ratio - 1) * jnp.abs(advantage), 0)


@breaks("transforms", words="the jitted drift")
def behaves_otherwise_when_traced(ratio, advantage):
    values = ppo(ratio, advantage)
    return 2 * values if is_traced(values) else values


@breaks("policy_gradient", words="the policy loss and its gradient")
def overflows_at_large_ratios(ratio, advantage):
    return (jnp.expm1(ratio - 1) - (ratio - 1)) * jnp.abs(advantage)


@breaks("policy_gradient", words="the policy loss and its gradient")
def has_no_derivative_at_large_ratios(ratio, advantage):
    # The usual trap of `where`: 0 * NaN in the branch that is not taken.
    rest = jnp.sqrt(30 - ratio)
    return ppo(ratio, advantage) + jnp.where(ratio < 30, 0 * rest, 0)
