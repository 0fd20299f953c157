"""Dense layers and a GRU over a table with one column per parameter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt_rl.rules._core.weights import Weights

# By default a GPU would round the products to TF32 and lose parity with the published
# weights; on a CPU this changes nothing.
_PRECISION = jax.lax.Precision.HIGHEST

# Columns per pass on a CPU: the layers of so many parameters fit its last-level cache.
BLOCK = 2**16


def dot(kernel: jax.Array, x: jax.Array) -> jax.Array:
    """Return ``kernel[i, o], x[i, n] -> [o, n]``."""
    return jax.lax.dot_general(
        kernel, x, (((0,), (0,)), ((), ())), precision=_PRECISION
    )


def gru(weights: Weights, table: jax.Array) -> jax.Array:
    """Run Flax's ``GRUCell``, all gates in one product.

    Args:
        weights: ``ir``, ``iz``, ``in``, ``hr``, ``hz`` and ``hn``.
        table: ``[inputs + units, n]``: the inputs, and below them the state.

    Returns:
        The new state, ``[units, n]``.
    """
    kernel, bias = gru_kernel(weights)
    gates = dot(kernel, table) + bias
    size = gates.shape[0] // 4
    h = table[weights["in"]["kernel"].shape[0] :]
    # sigmoid(a) = (1 + tanh(a / 2)) / 2, which is cheaper; gru_kernel halved a.
    reset, update = 0.5 + 0.5 * jnp.tanh(gates[: 2 * size].reshape(2, size, -1))
    candidate = jnp.tanh(gates[2 * size : 3 * size] + reset * gates[3 * size :])
    return candidate + update * (h - candidate)


def gru_kernel(weights: Weights) -> tuple[jax.Array, jax.Array]:
    """Return one kernel ``[inputs + g, 4 g]``: gates r, z, n from x, n from h."""
    w = weights
    nothing_from_x = jnp.zeros_like(w["in"]["kernel"])
    nothing_from_h = jnp.zeros_like(w["hn"]["kernel"])
    columns = [
        (0.5 * w["ir"]["kernel"], 0.5 * w["hr"]["kernel"], 0.5 * w["ir"]["bias"]),
        (0.5 * w["iz"]["kernel"], 0.5 * w["hz"]["kernel"], 0.5 * w["iz"]["bias"]),
        (w["in"]["kernel"], nothing_from_h, w["in"]["bias"]),
        (nothing_from_x, w["hn"]["kernel"], w["hn"]["bias"]),
    ]
    kernel = [jnp.concatenate([x, h]) for x, h, _ in columns]
    bias = [bias for _, _, bias in columns]
    return jnp.concatenate(kernel, axis=1), jnp.concatenate(bias)[:, None]


def in_blocks(
    network: Callable[[Weights, jax.Array], Any],
    weights: Weights,
    table: jax.Array,
    columns: int | None = None,
) -> Any:
    """Run a network on a block of columns at a time, where that is faster.

    The layers' outputs are ten times the table: in blocks, they stay in a CPU's cache.

    Args:
        network: ``(weights, table) -> outputs``, arrays whose last axis is n.
        weights: Its weights.
        table: ``[rows, n]``.
        columns: At most so many columns at a time; by default `BLOCK` on a CPU, and
            all columns elsewhere.

    Returns:
        What ``network(weights, table)`` returns.
    """
    size = table.shape[1]
    if columns is None:
        columns = BLOCK if jax.default_backend() == "cpu" else size
    count = -(-size // max(columns, 1))
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
