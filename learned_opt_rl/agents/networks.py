"""The agents' networks and policies: dictionaries of arrays, and functions of them.

The names (``Dense_0/kernel``) are Flax's, so rules that read parameter paths see those
of a Flax agent. `init_network` and `apply_network` follow a configuration and may have
convolutions; `init_mlp` and `apply_mlp` are their dense part.
"""

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

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

    ``observation_shape`` is that of one observation; convolutions need ``(height,
    width, channels)`` and raise ValueError if they do not fit. The kernels are
    orthogonal, the last one scaled by ``head_gain``; biases are 0.
    """
    dense_key = key
    if config.conv:
        # Layers of both kinds are numbered from 0, so they must not share a key.
        key, dense_key = jax.random.split(key)
    shapes = _shapes(config.conv, observation_shape)
    convolutions: Network = {}
    for i, (filters, size, _) in enumerate(config.conv):
        shape = (size, size, shapes[i][-1], filters)
        layer_key = jax.random.fold_in(key, i)
        matrix = orthogonal(layer_key, (math.prod(shape[:3]), filters))
        convolutions[f"Conv_{i}"] = {
            "kernel": 2**0.5 * matrix.reshape(shape),
            **({"bias": jnp.zeros(filters, jnp.float32)} if bias else {}),
        }
    sizes = (math.prod(shapes[-1]), *config.hidden, outputs)
    return {**convolutions, **init_mlp(dense_key, sizes, head_gain, bias=bias)}


def apply_network(
    params: Network, x: jax.Array, config: RunConfig
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Evaluate a network on ``x`` from `prepare`; keep the activations of its layers.

    The output is ``[..., out]``. Activations are ``[..., width]`` as in `apply_mlp`,
    and ``[..., height, width, filters]`` after a convolution.
    """
    activations = {}
    for i, (_, _, stride) in enumerate(config.conv):
        x = _ACTIVATIONS[config.activation](_convolve(params[f"Conv_{i}"], x, stride))
        activations[f"Conv_{i}"] = x
    if config.conv:
        x = x.reshape(*x.shape[:-3], -1)
    output, dense = apply_mlp(params, x, config.activation, tabular=tabular(config))
    return output, {**activations, **dense}


def prepare(
    observation: jax.Array, observation_shape: tuple[int, ...], config: RunConfig
) -> jax.Array:
    """Turn observations ``[..., *observation_shape]`` into a network's input.

    The input is float32 ``[..., features]``, or an image for convolutions.
    """
    lead = observation.shape[: observation.ndim - len(observation_shape)]
    if not config.conv:
        observation = observation.reshape(*lead, -1)
    x = observation.astype(jnp.float32)
    return x if divides_by_one(config) else x / config.input_divisor


def divides_by_one(config: RunConfig) -> bool:
    """Return whether `prepare` need not divide; it must by a traced divisor."""
    return isinstance(config.input_divisor, float | int) and config.input_divisor == 1


def tabular(config: RunConfig) -> bool:
    """Return whether agents of a configuration can look up the rows of a table.

    They have one layer, and it sees observations as they are.
    """
    scaled = getattr(config, "normalize_observations", False)
    return not (config.hidden or config.conv or scaled) and divides_by_one(config)


def looks_up(width: int) -> bool:
    """Return whether `apply_mlp` looks tabular observations of a width up."""
    return width in _INDEXED


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


def _shapes(
    conv: tuple[ConvLayer, ...], observation_shape: tuple[int, ...]
) -> list[tuple[int, ...]]:
    """Return the shapes of one observation before and after each convolution."""
    shapes = [observation_shape]
    for filters, size, stride in conv:
        shape = shapes[-1]
        if len(shape) != 3 or min(shape[:2]) < size:
            raise ValueError(
                f"conv={conv} does not fit observations of shape {observation_shape}: "
                f"a layer with kernel {size} gets {shape} but needs (height, width, "
                "channels), at least as high and wide as the kernel"
            )
        height, width = ((n - size) // stride + 1 for n in shape[:2])
        shapes.append((height, width, filters))
    return shapes


def init_mlp(
    key: jax.Array, sizes: Sequence[int], head_gain: float, *, bias: bool = True
) -> MLP:
    """Draw a multi-layer perceptron of these widths, from input to output."""
    keys = jax.random.split(key, len(sizes) - 1)
    # sqrt(2) keeps the scale of activations through ReLU.
    gains = [2**0.5] * (len(sizes) - 2) + [head_gain]
    return {
        f"Dense_{i}": {
            "kernel": gain * orthogonal(layer_key, shape),
            **({"bias": jnp.zeros(shape[1], jnp.float32)} if bias else {}),
        }
        for i, (layer_key, gain, shape) in enumerate(
            zip(keys, gains, itertools.pairwise(sizes), strict=True)
        )
    }


def orthogonal(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Draw a float32 matrix with orthonormal columns (or rows, if they are fewer).

    The matrix equals that of `jax.nn.initializers.orthogonal` up to rounding, but
    Gram-Schmidt computes it. LAPACK's QR decomposition blocks a thread of XLA's CPU
    pool while it waits for other threads. A program with several of them under
    ``vmap``, as for agents over seeds, then deadlocks on a machine with few cores.
    """
    normal = jax.random.normal(key, (max(shape), min(shape)), jnp.float32)

    def add(basis: jax.Array, i: jax.Array) -> tuple[jax.Array, None]:
        column = normal[:, i]
        for _ in range(2):  # One pass leaves rounding errors; two are enough.
            column = column - basis @ (basis.T @ column)
        return basis.at[:, i].set(column / jnp.linalg.norm(column)), None

    basis, _ = jax.lax.scan(add, jnp.zeros_like(normal), jnp.arange(min(shape)))
    return basis if shape[0] >= shape[1] else basis.T


def apply_mlp(
    params: Network, x: jax.Array, activation: Activation, *, tabular: bool = False
) -> tuple[jax.Array, dict[str, jax.Array]]:
    """Evaluate a multi-layer perceptron on ``[..., in]``; keep its activations.

    Activations are ``[..., width]``: after the nonlinearity for hidden layers, the raw
    output for the last. With ``tabular``, ``x`` may come from
    `envs.Environment.tabular` if there is only one layer. Entries of ``params`` not
    called ``"Dense_i"`` are ignored. An ``x`` of another width than the first kernel's
    raises TypeError.
    """
    activations = {}
    depth = sum(name.startswith("Dense_") for name in params)
    for i in range(depth):
        layer = params[f"Dense_{i}"]
        kernel = layer["kernel"]
        indexed = tabular and depth == 1 and looks_up(x.shape[-1])
        if indexed and x.shape[-1] != kernel.shape[0]:
            x = _look_up(x, kernel)
        else:
            x = x @ kernel
        if "bias" in layer:
            x = x + jnp.broadcast_to(layer["bias"], x.shape)
        if i < depth - 1:
            x = _ACTIVATIONS[activation](x)
        activations[f"Dense_{i}"] = x
    return x, activations


_INDEXED = (1, 2)
"""Widths of the tabular observations that are looked up.

A chain has the index alone, a grid world has the time after it. Other widths stay
errors of the shape.
"""


def _look_up(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """Return the product of ``[index, *entries]`` and a kernel.

    The index stands for a one-hot part before the entries. Its row is looked up, since
    a product with thousands of zeros would take nearly all the time of a tabular agent.
    """
    rest = x.shape[-1] - 1
    index = x[..., 0].astype(jnp.int32)
    row = kernel.at[index].get(mode="promise_in_bounds")
    return row + x[..., 1:] @ kernel[kernel.shape[0] - rest :] if rest else row


class Categorical(NamedTuple):
    """A distribution over discrete actions."""

    logits: jax.Array  # float32 [..., num_actions]
    log_probs: jax.Array  # Log-softmax of the logits.

    def sample(self, key: jax.Array) -> jax.Array:
        """Draw actions, int32 ``[...]``."""
        return jax.random.categorical(key, self.logits).astype(jnp.int32)

    def mode(self) -> jax.Array:
        """Return the most probable actions, int32 ``[...]``."""
        return self.logits.argmax(-1).astype(jnp.int32)

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Return the log-probabilities of actions, float32 ``[...]``."""
        return select(self.log_probs, action)

    def entropy(self) -> jax.Array:
        """Return the mean entropy over observations, float32 scalar."""
        return -(jnp.exp(self.log_probs) * self.log_probs).sum(-1).mean()


class Gaussian(NamedTuple):
    """A distribution over vectors with independent, unbounded entries."""

    mean: jax.Array  # float32 [..., num_actions], as is log_std
    log_std: jax.Array

    def sample(self, key: jax.Array) -> jax.Array:
        """Draw actions, float32 ``[..., num_actions]``; `to_actions` bounds them."""
        noise = jax.random.normal(key, self.mean.shape, self.mean.dtype)
        return self.mean + jnp.exp(self.log_std) * noise

    def mode(self) -> jax.Array:
        """Return the most probable actions, float32 ``[..., num_actions]``."""
        return self.mean

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Return the log-densities of actions, float32 ``[...]``."""
        z = (action - self.mean) * jnp.exp(-self.log_std)
        constant = 0.5 * math.log(2 * math.pi)
        return -(0.5 * jnp.square(z) + self.log_std + constant).sum(-1)

    def entropy(self) -> jax.Array:
        """Return the mean entropy over observations, float32 scalar."""
        constant = 0.5 * math.log(2 * math.pi * math.e)
        return (self.log_std + constant).sum(-1).mean()


def policy(
    actor: Network, x: jax.Array, config: RunConfig
) -> tuple[Categorical | Gaussian, dict[str, jax.Array]]:
    """Evaluate an actor; return its policy and the activations of its layers."""
    outputs, layers = apply_network(actor, x, config)
    if "log_std" in actor:
        log_std = jnp.broadcast_to(actor["log_std"], outputs.shape)
        return Gaussian(outputs, log_std), layers
    return Categorical(outputs, jax.nn.log_softmax(outputs)), layers


def select(values: jax.Array, index: jax.Array) -> jax.Array:
    """Return ``values[..., index]``, by a mask: its gradient needs no scatter."""
    chosen = jax.nn.one_hot(index, values.shape[-1], dtype=values.dtype)
    return (values * chosen).sum(-1)
