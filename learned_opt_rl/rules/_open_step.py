"""One agent's step through OPEN: momenta, table, network. Where speed is decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.features import update_momenta
from learned_opt_rl.rules import _open_network as network
from learned_opt_rl.rules._open_table import TableInputs, feature_table


class StepOutputs(NamedTuple):
    """What the network says, and its memory, after one step.

    Attributes:
        outputs: ``[3, n]`` float32, parameters in leaf order.
        momenta: Per leaf ``[6, *shape]`` float32, updated.
        carries: Per leaf ``[units, *shape]`` float32; empty when feed-forward.
    """

    outputs: jax.Array
    momenta: list[jax.Array]
    carries: list[jax.Array]


@jax.custom_jvp
def step(weights: network.Weights, inputs: TableInputs) -> StepOutputs:
    """Update the momenta and run the network, for every parameter of one agent.

    Args:
        weights: Nested dict as ``open_shapes`` lists it, float32.
        inputs: What the agent gives; its momenta are those before the step.

    Returns:
        The network's outputs, the new momenta and GRU state.
    """
    return jax.lax.platform_dependent(weights, inputs, cpu=_on_cpu, default=_anywhere)


# Under differentiation the plain step runs: a sequential vmap has no transpose rule.
@step.defjvp
def _step_jvp(primals: Any, tangents: Any) -> Any:
    outputs, output_tangents = jax.jvp(_anywhere, primals, tangents)
    # The loop over agents gives every output a batch axis. vmap expects the same here,
    # so each output must depend, if only by a zero, on whatever may be batched.
    empty = [jnp.ravel(x)[:0] for x in jax.tree.leaves(primals)]
    zero = sum(jnp.sum(x, dtype=jnp.float32) for x in empty)
    return jax.tree.map(lambda y: y + zero, outputs), output_tangents


def _anywhere(weights: network.Weights, inputs: TableInputs) -> StepOutputs:
    return _step(weights, inputs, network.apply)


# A CPU gains nothing from several agents side by side and loses its cache to them, so
# that each would cost twice what it costs alone; a loop costs what it should.
@jax.custom_batching.sequential_vmap
def _on_cpu(weights: network.Weights, inputs: TableInputs) -> StepOutputs:
    return _step(weights, inputs, network.apply_in_blocks)


def _step(
    weights: network.Weights,
    inputs: TableInputs,
    run: Callable[[network.Weights, jax.Array], network.Outputs],
) -> StepOutputs:
    momenta = [
        update_momenta(m, g)
        for m, g in zip(inputs.momenta, inputs.gradients, strict=True)
    ]
    outputs, carry = run(weights, feature_table(inputs._replace(momenta=momenta)))
    carries = [] if carry is None else split(carry, inputs.params)
    return StepOutputs(outputs, momenta, carries)


def split(rows: jax.Array, leaves: Any) -> list[jax.Array]:
    """Cut ``[..., n]`` rows into one ``[..., *shape]`` array per leaf.

    Args:
        rows: Values for all n parameters, in leaf order.
        leaves: The parameters; only their shapes are used.

    Returns:
        The pieces, in leaf order, of the dtype of ``rows``.
    """
    pieces, start = [], 0
    for leaf in leaves:
        piece = rows[..., start : start + leaf.size]
        pieces.append(piece.reshape(*rows.shape[:-1], *leaf.shape))
        start += leaf.size
    return pieces
