"""Running one agent's step through a network. Where speed is decided."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from learned_opt_rl.rules._weights import Weights

# Parameters per pass on a CPU, so that the layers stay in its last-level cache.
BLOCK = 2**16

Inputs = TypeVar("Inputs")
Outputs = TypeVar("Outputs")
Network = Callable[[Weights, jax.Array], Any]
"""From weights and a table ``[rows, n]`` to arrays whose last axis is n."""


def per_agent(
    step: Callable[[Weights, Inputs, Network], Outputs], network: Network
) -> Callable[[Weights, Inputs], Outputs]:
    """A step with its network, run in the way that suits the platform.

    Args:
        step: ``(weights, inputs, network) -> outputs`` of one agent, pytrees of
            arrays; calls the network it is given on a table of all parameters.
        network: ``(weights, table) -> outputs``, column by column.

    Returns:
        ``(weights, inputs) -> outputs``. Make it once, at import: jax caches
        compilations by it.
    """

    def blocked(weights: Weights, table: jax.Array) -> Any:
        return in_blocks(network, weights, table)

    def anywhere(weights: Weights, inputs: Inputs) -> Outputs:
        return step(weights, inputs, network)

    # A CPU gains nothing from several agents side by side and loses its cache to them,
    # so that each would cost twice what it costs alone; a loop costs what it should.
    @jax.custom_batching.sequential_vmap
    def on_cpu(weights: Weights, inputs: Inputs) -> Outputs:
        return step(weights, inputs, blocked)

    @jax.custom_jvp
    def run(weights: Weights, inputs: Inputs) -> Outputs:
        return jax.lax.platform_dependent(weights, inputs, cpu=on_cpu, default=anywhere)

    # Under differentiation the plain step runs: a sequential vmap has no transpose
    # rule.
    @run.defjvp
    def _(primals: Any, tangents: Any) -> Any:
        outputs, output_tangents = jax.jvp(anywhere, primals, tangents)
        # The loop over agents gives every output a batch axis. vmap expects the same
        # here, so each output must depend, if only by a zero, on whatever may be
        # batched.
        empty = [jnp.ravel(x)[:0] for x in jax.tree.leaves(primals)]
        zero = sum(jnp.sum(x, dtype=jnp.float32) for x in empty)
        return jax.tree.map(lambda y: y + zero, outputs), output_tangents

    return run


def in_blocks(
    network: Network, weights: Weights, table: jax.Array, columns: int = BLOCK
) -> Any:
    """A network a block of columns at a time: its layers are ten times the table.

    Args:
        network: ``(weights, table) -> outputs``.
        weights: Its weights.
        table: ``[rows, n]``.
        columns: At most this many columns at a time.

    Returns:
        What ``network(weights, table)`` does.
    """
    size = table.shape[1]
    count = -(-size // columns)
    if count <= 1:
        return network(weights, table)
    width = -(-size // count)
    padded = jnp.pad(table, ((0, 0), (0, count * width - size)))

    def block(start: jax.Array) -> Any:
        part = jax.lax.dynamic_slice_in_dim(padded, start, width, axis=1)
        return network(weights, part)

    blocks = jax.lax.map(block, width * jnp.arange(count))
    return jax.tree.map(
        lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1)[:, :size], blocks
    )
