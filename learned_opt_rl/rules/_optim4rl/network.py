"""Optim4RL's two towers, and the two versions of their inputs and outputs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.errors import WeightsError
from learned_opt_rl.families.optim4rl import (
    TOWERS,
    Architecture,
    Version,
    optim4rl_shapes,
)
from learned_opt_rl.rules._core.batching import one_agent_at_a_time
from learned_opt_rl.rules._core.leaves import side_by_side, split
from learned_opt_rl.rules._core.network import dot, gru, in_blocks
from learned_opt_rl.rules._core.transform import Inputs, Outputs
from learned_opt_rl.rules._core.weights import Weights, require_shapes

# Both as in the authors' code.
_TINY = 1e-18  # in the logarithm and under the root of 2023; a normal float32
_EPSILON = 1e-8  # under the root of 2024


def require_version(version: object) -> None:
    """Raise ``ValueError`` unless there is such a version."""
    if version not in TOWERS:
        raise ValueError(
            f"version={version!r} must be one of {', '.join(map(repr, TOWERS))}"
        )


def architecture_of(weights: Weights) -> Architecture:
    """Return the architecture that weights belong to, after checking every shape.

    Args:
        weights: Nested dict as ``optim4rl_shapes`` lists it.

    Returns:
        The architecture; the number of inputs tells the version.

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
            "weights do not fit an Optim4RL network: they need "
            "tower_1.gru.in.kernel and tower_1.mlp.dense_0.kernel, two-dimensional. "
            "Use optim4rl.init(key, architecture) or optim4rl.pretrained(name); for a "
            "population of weights, vmap over scale_by_optim4rl"
        ) from error
    version = _version(weights)
    architecture = Architecture(version, carry, width)
    shapes = optim4rl_shapes(architecture)
    require_shapes(weights, shapes, architecture, "scale_by_optim4rl")
    return architecture


@one_agent_at_a_time
def step(weights: Weights, inputs: Inputs) -> Outputs:
    """Run Optim4RL on all leaves.

    Args:
        weights: Of either version, float32.
        inputs: The leaves; gradients already clipped.

    Returns:
        The directions ``M / sqrt(V)``, and the memory after the step.
    """
    rule = _RULES[_version(weights)]
    units = inputs.memory["carry"][0].shape[-1]
    # Meta-gradients pass through the towers, not through the towers' inputs.
    gradient = jax.lax.stop_gradient(side_by_side(inputs.gradients))
    carry = side_by_side(inputs.memory["carry"], units)
    (x_1, x_2), (h_1, h_2) = rule.inputs(gradient), jnp.split(carry, 2)
    table = jnp.concatenate([x_1, h_1, x_2, h_2])
    outputs, carry = in_blocks(apply, weights, table)
    ratio = rule.ratio(jnp.sign(gradient[0]), outputs)
    memory = {"carry": split(carry, inputs.params)}
    return split(ratio, inputs.params), memory


def _version(weights: Weights) -> Version:
    inputs = jnp.shape(weights["tower_1"]["gru"]["in"]["kernel"])[0]
    return "arxiv2023" if inputs == TOWERS["arxiv2023"][0][0] else "rlc2024"


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


class _Rule(NamedTuple):
    """What one version does around the towers.

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


_RULES: dict[Version, _Rule] = {
    "arxiv2023": _Rule(_logarithms, _signed_ratio),
    "rlc2024": _Rule(_powers, _plain_ratio),
}
