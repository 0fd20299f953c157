"""One agent's step through Optim4RL: inputs, towers, update."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.rules import _optim4rl_network as network
from learned_opt_rl.rules._leaves import as_row, split
from learned_opt_rl.rules._per_agent import Network, per_agent
from learned_opt_rl.rules._weights import Weights


class Inputs(NamedTuple):
    """What one agent gives, leaf by leaf.

    Attributes:
        gradients: Leaves of any float dtype, clipped.
        carries: Leaves ``[2 * units, *shape]`` float32.
    """

    gradients: Sequence[jax.Array]
    carries: Sequence[jax.Array]


class StepOutputs(NamedTuple):
    """The direction to move against, and the towers' memory.

    Attributes:
        ratio: ``[n]`` float32, ``M / sqrt(V)`` of all parameters in leaf order.
        carries: Per leaf ``[2 * units, *shape]`` float32.
    """

    ratio: jax.Array
    carries: list[jax.Array]


def _step(
    rule: network.Rule, weights: Weights, inputs: Inputs, run: Network
) -> StepOutputs:
    # Meta-gradients pass through the towers, not through what they see.
    rows = jnp.concatenate([as_row(g) for g in inputs.gradients], axis=1)
    gradient = jax.lax.stop_gradient(rows)
    carry = jnp.concatenate([c.reshape(c.shape[0], -1) for c in inputs.carries], axis=1)
    (x_1, x_2), (h_1, h_2) = rule.inputs(gradient), jnp.split(carry, 2)
    outputs, carry = run(weights, jnp.concatenate([x_1, h_1, x_2, h_2]))
    ratio = rule.ratio(jnp.sign(gradient[0]), outputs)
    return StepOutputs(ratio, split(carry, inputs.gradients))


STEPS = {
    version: per_agent(functools.partial(_step, rule), network.apply)
    for version, rule in network.RULES.items()
}
