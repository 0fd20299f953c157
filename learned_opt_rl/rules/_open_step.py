"""One agent's step through OPEN's network: momenta, table, network, update."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.features import update_momenta
from learned_opt_rl.rules import _open_network as network
from learned_opt_rl.rules._leaves import split
from learned_opt_rl.rules._open_table import feature_table
from learned_opt_rl.rules._per_agent import Network, per_agent

SCALE = 1e-3  # alpha_1 = alpha_2 = alpha_3 of the paper, appendix C


class StepOutputs(NamedTuple):
    """What the network says, and its memory, after one step.

    Attributes:
        outputs: ``[outputs, n]`` float32, parameters in leaf order.
        momenta: Per leaf ``[6, *shape]`` float32, updated.
        carries: Per leaf ``[units, *shape]`` float32; empty when feed-forward.
    """

    outputs: jax.Array
    momenta: list[jax.Array]
    carries: list[jax.Array]


Step = Callable[[network.Weights, Any], StepOutputs]
"""Weights and one agent's inputs, whose momenta are those before the step."""


def step_reading(table: Callable[[Any], jax.Array]) -> Step:
    """A step that updates the momenta and runs the network, for every parameter.

    Args:
        table: From inputs (with ``params``, ``gradients``, ``momenta`` and
            ``carries``, leaf by leaf) to the ``[features + units, n]`` float32 table.

    Returns:
        The step.
    """

    def step(weights: network.Weights, inputs: Any, run: Network) -> StepOutputs:
        momenta = [
            update_momenta(m, g)
            for m, g in zip(inputs.momenta, inputs.gradients, strict=True)
        ]
        outputs, carry = run(weights, table(inputs._replace(momenta=momenta)))
        carries = [] if carry is None else split(carry, inputs.params)
        return StepOutputs(outputs, momenta, carries)

    return per_agent(step, network.apply)


step = step_reading(feature_table)


def deterministic_update(outputs: jax.Array) -> jax.Array:
    """``[n]`` updates to subtract, of the first two outputs; equation 7."""
    return SCALE * outputs[0] * jnp.exp(SCALE * outputs[1])


def zero_mean(update: jax.Array) -> jax.Array:
    """Without its mean, and in optax's sign; equation 9."""
    return jnp.mean(update) - update
