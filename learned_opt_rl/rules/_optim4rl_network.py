"""Optim4RL's two towers, and the two versions of what goes in and comes out."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.errors import WeightsError
from learned_opt_rl.families.optim4rl import TOWERS, optim4rl_shapes
from learned_opt_rl.families.optim4rl import Architecture as Architecture
from learned_opt_rl.families.optim4rl import Version as Version
from learned_opt_rl.rules._gru import dot, gru
from learned_opt_rl.rules._weights import Weights, draw_weights, require_shapes

_TINY = 1e-18  # in the logarithm and under the root of 2023; a normal float32
_EPSILON = 1e-8  # under the root of 2024


def require_version(version: object) -> None:
    """Raise ``ValueError`` unless there is such a version."""
    if version not in TOWERS:
        raise ValueError(
            f"version={version!r} must be one of {', '.join(map(repr, TOWERS))}"
        )


def architecture_of(weights: Weights) -> Architecture:
    """The architecture a weights pytree belongs to, checking every shape.

    Args:
        weights: Nested dict as ``optim4rl_shapes`` lists it.

    Returns:
        The architecture; the version is that whose towers have these inputs.

    Raises:
        WeightsError: A tensor is missing, unknown or of the wrong shape.
    """
    try:
        tower = weights["tower_1"]
        inputs, carry = jnp.shape(tower["gru"]["in"]["kernel"])
        deep = "dense_1" in tower["mlp"]
        width = jnp.shape(tower["mlp"]["dense_0"]["kernel"])[-1] if deep else None
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise WeightsError(
            "weights are not those of an Optim4RL network: they need "
            "tower_1.gru.in.kernel and tower_1.mlp.dense_0.kernel, two-dimensional. "
            "Use optim4rl.init(key, architecture) or optim4rl.pretrained(name); for a "
            "population of weights, vmap over scale_by_optim4rl"
        ) from error
    version = "arxiv2023" if inputs == TOWERS["arxiv2023"][0][0] else "rlc2024"
    architecture = Architecture(version, carry, width)
    shapes = optim4rl_shapes(architecture)
    require_shapes(weights, shapes, architecture, "scale_by_optim4rl")
    return architecture


def init(key: jax.Array, architecture: Architecture) -> Weights:
    """Random weights, as a starting point for training.

    Args:
        key: jax random key.
        architecture: Version and sizes.

    Returns:
        Nested dict of float32 arrays, initialised as Flax does: LeCun-normal kernels
        (orthogonal for the GRUs' hidden projections) and zero biases. The first
        updates are then about a learning rate along the gradient's sign.

    Example:
        >>> import jax
        >>> weights = init(jax.random.key(0), Architecture("arxiv2023", 8, 16))
        >>> weights["tower_1"]["mlp"]["dense_2"]["kernel"].shape
        (16, 2)
    """
    return draw_weights(key, optim4rl_shapes(architecture))


def apply(weights: Weights, table: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Run both towers on every parameter at once.

    Args:
        weights: Nested dict as ``optim4rl_shapes`` lists it, float32.
        table: One column per parameter, ``[inputs + carry, n]`` of the first tower
            above the same of the second: a tower's inputs, below them its GRU state.

    Returns:
        ``(outputs, new carry [2 * carry, n])``, the first tower's rows first.
    """
    first, second = weights["tower_1"], weights["tower_2"]
    rows = sum(first["gru"]["in"]["kernel"].shape)
    carries = gru(first["gru"], table[:rows]), gru(second["gru"], table[rows:])
    outputs = _mlp(first["mlp"], carries[0]), _mlp(second["mlp"], carries[1])
    return jnp.concatenate(outputs), jnp.concatenate(carries)


def _mlp(mlp: Weights, x: jax.Array) -> jax.Array:
    for layer in range(len(mlp)):
        dense = mlp[f"dense_{layer}"]
        x = dot(dense["kernel"], jax.nn.relu(x) if layer else x)
        x = x + dense["bias"][:, None]
    return x


class Rule(NamedTuple):
    """What a version does around the towers.

    Attributes:
        inputs: From the gradient ``[1, n]`` to the rows of the first and the second
            tower.
        ratio: From the gradient's sign ``[n]`` and the outputs of both towers to
            ``M / sqrt(V)``, ``[n]``.
    """

    inputs: Callable[[jax.Array], tuple[jax.Array, jax.Array]]
    ratio: Callable[[jax.Array, jax.Array], jax.Array]


def _logarithms(g: jax.Array) -> tuple[jax.Array, jax.Array]:
    magnitude = jnp.log(jnp.abs(g) + _TINY)
    return jnp.concatenate([jnp.sign(g), magnitude]), 2 * magnitude


def _signed_ratio(sign: jax.Array, outputs: jax.Array) -> jax.Array:
    """The first output may flip the sign; its gradient passes as if it were a tanh."""
    soft = jnp.tanh(outputs[0] + 1.0)
    hard = jnp.where(soft >= 0, 1.0, -1.0)
    flip = hard + (soft - jax.lax.stop_gradient(soft))  # adds 0: exact in the value
    root = jnp.sqrt(jnp.exp(outputs[2]) + _TINY)
    return sign * flip * jnp.exp(outputs[1]) / root


def _powers(g: jax.Array) -> tuple[jax.Array, jax.Array]:
    return g, g * g


def _plain_ratio(sign: jax.Array, outputs: jax.Array) -> jax.Array:
    return sign * jnp.exp(outputs[0]) * jax.lax.rsqrt(jnp.exp(outputs[1]) + _EPSILON)


RULES: dict[Version, Rule] = {
    "arxiv2023": Rule(_logarithms, _signed_ratio),
    "rlc2024": Rule(_powers, _plain_ratio),
}
