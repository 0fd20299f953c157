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
"""``{"Dense_i": {"kernel": [in, out], "bias": [out]}}``."""

_ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}


def init_mlp(key: jax.Array, sizes: Sequence[int], head_gain: float) -> MLP:
    """Draws the parameters of a multi-layer perceptron.

    Args:
        key: A PRNG key.
        sizes: Widths from input to output, ``len(sizes) - 1`` layers.
        head_gain: Gain of the last layer's orthogonal kernel; the others have
            sqrt(2).

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
            "kernel": jax.nn.initializers.orthogonal(gain)(layer_key, shape),
            "bias": jnp.zeros(shape[1]),
        }
        for i, (layer_key, gain, shape) in enumerate(
            zip(keys, gains, itertools.pairwise(sizes), strict=True)
        )
    }


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
        x = x + jnp.broadcast_to(layer["bias"], x.shape)
        if i < len(params) - 1:
            x = _ACTIVATIONS[activation](x)
        activations[f"Dense_{i}"] = x
    return x, activations
