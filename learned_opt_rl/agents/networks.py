"""The agents' networks: plain dictionaries of arrays and two functions.

The names (``Dense_0/kernel``) are Flax's, so a rule that reads parameter paths sees
what it would see in a Flax agent.
"""

import itertools
from collections.abc import Sequence
from typing import Literal

import jax
import jax.numpy as jnp

Activation = Literal["relu", "tanh"]
"""Nonlinearity of the hidden layers."""

MLP = dict[str, dict[str, jax.Array]]
"""``{"Dense_i": {"kernel": [in, out], "bias": [out]}}``; the bias is optional."""

_ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}


def init_mlp(
    key: jax.Array, sizes: Sequence[int], head_gain: float, *, bias: bool = True
) -> MLP:
    """Draws the parameters of a multi-layer perceptron.

    Args:
        key: A PRNG key.
        sizes: Widths from input to output, ``len(sizes) - 1`` layers.
        head_gain: Gain of the last layer's orthogonal kernel; the others have
            sqrt(2).
        bias: Whether the layers have biases.

    Returns:
        Orthogonal kernels and zero biases, float32.

    Example:
        >>> import jax
        >>> params = init_mlp(jax.random.key(0), (4, 64, 2), head_gain=0.01)
        >>> params["Dense_1"]["kernel"].shape
        (64, 2)
    """
    keys = jax.random.split(key, len(sizes) - 1)
    gains = [2**0.5] * (len(sizes) - 2) + [head_gain]
    return {
        f"Dense_{i}": {
            "kernel": gain * orthogonal(layer_key, shape),
            **({"bias": jnp.zeros(shape[1])} if bias else {}),
        }
        for i, (layer_key, gain, shape) in enumerate(
            zip(keys, gains, itertools.pairwise(sizes), strict=True)
        )
    }


def orthogonal(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Draws a matrix with orthonormal columns (or rows, whichever are fewer).

    The same matrix as `jax.nn.initializers.orthogonal` up to rounding, but by
    Gram-Schmidt: LAPACK's QR decomposition blocks a thread of XLA's CPU pool while it
    waits for others to do its batch, so that a program with several of them under
    ``vmap``, as for agents over seeds, deadlocks on a machine with few cores.

    Args:
        key: A PRNG key.
        shape: ``(rows, columns)``.

    Returns:
        float32 ``[rows, columns]``, uniformly distributed.

    Example:
        >>> import jax
        >>> kernel = orthogonal(jax.random.key(0), (3, 2))
        >>> abs(kernel.T @ kernel).round(5).tolist()
        [[1.0, 0.0], [0.0, 1.0]]
    """
    normal = jax.random.normal(key, (max(shape), min(shape)))

    def add(basis: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
        column = normal[:, i]
        for _ in range(2):  # Once leaves rounding errors; twice is enough.
            column = column - basis @ (basis.T @ column)
        return basis.at[:, i].set(column / jnp.linalg.norm(column)), None

    basis, _ = jax.lax.scan(add, jnp.zeros_like(normal), jnp.arange(min(shape)))
    return basis if shape[0] >= shape[1] else basis.T


def apply_mlp(
    params: MLP, x: jax.Array, activation: Activation
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Evaluates a multi-layer perceptron and keeps what its neurons did.

    Args:
        params: From `init_mlp`.
        x: float32 ``[..., in]``.
        activation: Nonlinearity of the hidden layers.

    Returns:
        The output ``[..., out]``, and per layer its activations ``[..., width]``:
        after the nonlinearity for hidden layers, the raw output for the last.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> params = init_mlp(jax.random.key(0), (4, 64, 2), head_gain=0.01)
        >>> output, activations = apply_mlp(params, jnp.ones((8, 4)), "relu")
        >>> output.shape, activations["Dense_0"].shape
        ((8, 2), (8, 64))
    """
    activations = {}
    for i in range(len(params)):
        layer = params[f"Dense_{i}"]
        x = x @ layer["kernel"]
        if "bias" in layer:
            x = x + jnp.broadcast_to(layer["bias"], x.shape)
        if i < len(params) - 1:
            x = _ACTIVATIONS[activation](x)
        activations[f"Dense_{i}"] = x
    return x, activations
