"""The agents' networks: plain dictionaries of arrays, and functions of them.

The names (``Dense_0/kernel``) are Flax's, so rules that read parameter paths see those
of a Flax agent. `init_network` and `apply_network` follow a configuration and may have
convolutions; `init_mlp` and `apply_mlp` are their dense part.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt_rl.agents.config import Activation, ConvLayer, RunConfig

MLP = dict[str, dict[str, jax.Array]]
"""``{"Dense_i": {"kernel": [in, out], "bias": [out]}}``; the bias is optional."""

Network = dict[str, Any]
"""An `MLP`, after ``{"Conv_i": {"kernel": [k, k, in, out], "bias": [out]}}`` if there
are convolutions, and with ``"log_std"`` in the actor of continuous actions."""

_ACTIVATIONS = {"relu": jax.nn.relu, "tanh": jnp.tanh}


def init_network(
    key: jax.Array,
    config: RunConfig,
    observation_shape: tuple[int, ...],
    outputs: int,
    head_gain: float,
    *,
    bias: bool = True,
) -> Network:
    """Draw the parameters of a network for observations of an environment.

    Args:
        key: A PRNG key.
        config: Uses ``hidden`` and ``conv``.
        observation_shape: Shape of one observation; ``(height, width, channels)`` with
            ``conv``.
        outputs: Width of the last layer.
        head_gain: Gain of the last layer's kernel.
        bias: Whether the layers have biases.

    Returns:
        Orthogonal kernels and zero biases, float32.

    Raises:
        ValueError: The convolutions do not fit the observations.

    Example:
        >>> import jax
        >>> from learned_opt_rl.agents import PPOConfig
        >>> config = PPOConfig(conv=((16, 3, 1),), hidden=(32,))
        >>> params = init_network(jax.random.key(0), config, (10, 10, 4), 3, 0.01)
        >>> {name: layer["kernel"].shape for name, layer in params.items()}
        {'Conv_0': (3, 3, 4, 16), 'Dense_0': (1024, 32), 'Dense_1': (32, 3)}
    """
    dense_key = key
    if config.conv:
        # Layers of both kinds are numbered from 0, so they must not share a key.
        key, dense_key = jax.random.split(key)
    convolutions: Network = {}
    for i, shape in enumerate(_kernel_shapes(config.conv, observation_shape)):
        matrix = orthogonal(
            jax.random.fold_in(key, i), (math.prod(shape[:3]), shape[3])
        )
        convolutions[f"Conv_{i}"] = {
            "kernel": 2**0.5 * matrix.reshape(shape),
            **({"bias": jnp.zeros(shape[3])} if bias else {}),
        }
    features = math.prod(_shape_after(config.conv, observation_shape))
    sizes = (features, *config.hidden, outputs)
    return {**convolutions, **init_mlp(dense_key, sizes, head_gain, bias=bias)}


def apply_network(
    params: Network, x: jax.Array, config: RunConfig
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Evaluate a network and keep the activations of its layers.

    Args:
        params: From `init_network`.
        x: From `prepare`.
        config: Uses ``conv`` and ``activation``.

    Returns:
        The output ``[..., out]``, and the activations of each layer: ``[..., width]``
        as in `apply_mlp`, ``[..., height, width, filters]`` for a convolution.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from learned_opt_rl.agents import PPOConfig
        >>> config = PPOConfig(conv=((16, 3, 2),), hidden=(32,))
        >>> params = init_network(jax.random.key(0), config, (10, 10, 4), 3, 0.01)
        >>> output, layers = apply_network(params, jnp.ones((8, 10, 10, 4)), config)
        >>> output.shape, layers["Conv_0"].shape
        ((8, 3), (8, 4, 4, 16))
    """
    activations = {}
    for i, (_, _, stride) in enumerate(config.conv):
        x = _ACTIVATIONS[config.activation](_convolve(params[f"Conv_{i}"], x, stride))
        activations[f"Conv_{i}"] = x
    if config.conv:
        x = x.reshape(*x.shape[:-3], -1)
    output, dense = apply_mlp(params, x, config.activation)
    return output, {**activations, **dense}


def prepare(
    observation: jax.Array, observation_shape: tuple[int, ...], config: RunConfig
) -> jax.Array:
    """Turn observations of any dtype into a network's input.

    Args:
        observation: ``[..., *observation_shape]``.
        observation_shape: Shape of one observation.
        config: Uses ``conv`` and ``input_divisor``.

    Returns:
        float32 ``[..., features]``, or ``[..., height, width, channels]`` for
        convolutions.
    """
    lead = observation.shape[: observation.ndim - len(observation_shape)]
    if not config.conv:
        observation = observation.reshape(*lead, -1)
    x = observation.astype(jnp.float32)
    # Skip a division by a constant 1; a traced divisor must stay in the program.
    one = isinstance(config.input_divisor, float | int) and config.input_divisor == 1
    return x if one else x / config.input_divisor


def _convolve(layer: dict[str, jax.Array], x: jax.Array, stride: int) -> jax.Array:
    """Convolve without padding, as one product with all patches side by side.

    XLA's own convolution is several times slower on a CPU once agents with different
    kernels are vmapped: it becomes a grouped convolution.
    """
    size, _, _, filters = layer["kernel"].shape
    rows, columns = ((n - size) // stride * stride + 1 for n in x.shape[-3:-1])
    patches = [
        x[..., i : i + rows : stride, j : j + columns : stride, :]
        for i in range(size)
        for j in range(size)
    ]
    x = jnp.concatenate(patches, axis=-1) @ layer["kernel"].reshape(-1, filters)
    return x + jnp.broadcast_to(layer["bias"], x.shape) if "bias" in layer else x


def _kernel_shapes(
    conv: tuple[ConvLayer, ...], observation_shape: tuple[int, ...]
) -> list[tuple[int, int, int, int]]:
    return [
        (size, size, _shape_after(conv[:i], observation_shape)[-1], filters)
        for i, (filters, size, _) in enumerate(conv)
    ]


def _shape_after(
    conv: tuple[ConvLayer, ...], observation_shape: tuple[int, ...]
) -> tuple[int, ...]:
    """Return the shape of one observation after the convolutions."""
    shape = observation_shape
    for filters, size, stride in conv:
        if len(shape) != 3 or min(shape[:2]) < size:
            raise ValueError(
                f"conv={conv} does not fit observations of shape {observation_shape}: "
                f"a layer with kernel {size} gets {shape} but needs (height, width, "
                "channels), at least as high and wide as the kernel"
            )
        height, width = ((n - size) // stride + 1 for n in shape[:2])
        shape = (height, width, filters)
    return shape


def init_mlp(
    key: jax.Array, sizes: Sequence[int], head_gain: float, *, bias: bool = True
) -> MLP:
    """Draw a multi-layer perceptron of these widths, from input to output.

    The arguments are those of `init_network`.
    """
    keys = jax.random.split(key, len(sizes) - 1)
    # sqrt(2) keeps the scale of activations through ReLU.
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
    """Draw a matrix with orthonormal columns (or rows, whichever are fewer).

    The matrix equals that of `jax.nn.initializers.orthogonal` up to rounding, but
    Gram-Schmidt computes it. LAPACK's QR decomposition blocks a thread of XLA's CPU
    pool while it waits for other threads. A program with several of them under
    ``vmap``, as for agents over seeds, then deadlocks on a machine with few cores.

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
        for _ in range(2):  # One pass leaves rounding errors; two are enough.
            column = column - basis @ (basis.T @ column)
        return basis.at[:, i].set(column / jnp.linalg.norm(column)), None

    basis, _ = jax.lax.scan(add, jnp.zeros_like(normal), jnp.arange(min(shape)))
    return basis if shape[0] >= shape[1] else basis.T


def apply_mlp(
    params: Network, x: jax.Array, activation: Activation
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Evaluate a multi-layer perceptron on ``[..., in]``; keep its activations.

    Entries of ``params`` not called ``"Dense_i"`` are ignored.

    Returns:
        The output ``[..., out]``, and the activations ``[..., width]`` of each layer:
        after the nonlinearity for hidden layers, the raw output for the last.
    """
    activations = {}
    depth = sum(name.startswith("Dense_") for name in params)
    for i in range(depth):
        layer = params[f"Dense_{i}"]
        x = x @ layer["kernel"]
        if "bias" in layer:
            x = x + jnp.broadcast_to(layer["bias"], x.shape)
        if i < depth - 1:
            x = _ACTIVATIONS[activation](x)
        activations[f"Dense_{i}"] = x
    return x, activations
