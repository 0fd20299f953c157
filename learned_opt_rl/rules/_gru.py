"""Dense layers and a GRU over a table with one column per parameter."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from learned_opt_rl.rules._weights import Weights

# Without it a GPU would round the products to TF32 and lose parity with the
# published weights; on a CPU it changes nothing.
_PRECISION = jax.lax.Precision.HIGHEST


def dot(kernel: jax.Array, x: jax.Array) -> jax.Array:
    """``kernel[i, o], x[i, n] -> [o, n]``."""
    return jax.lax.dot_general(
        kernel, x, (((0,), (0,)), ((), ())), precision=_PRECISION
    )


def gru(weights: Weights, table: jax.Array) -> jax.Array:
    """Flax's ``GRUCell``, all gates in one product.

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
    # sigmoid(a) = (1 + tanh(a / 2)) / 2, cheaper; gru_kernel halved a.
    reset, update = 0.5 + 0.5 * jnp.tanh(gates[: 2 * size].reshape(2, size, -1))
    candidate = jnp.tanh(gates[2 * size : 3 * size] + reset * gates[3 * size :])
    return candidate + update * (h - candidate)


def gru_kernel(weights: Weights) -> tuple[jax.Array, jax.Array]:
    """One kernel ``[inputs + g, 4 g]`` for all gates: r, z, n from x, n from h."""
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
