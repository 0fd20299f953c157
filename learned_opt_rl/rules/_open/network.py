"""The per-parameter network of OPEN and No Features: a small GRU and MLP."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from learned_opt_rl.errors import WeightsError
from learned_opt_rl.families import Family
from learned_opt_rl.families.open_network import Architecture
from learned_opt_rl.rules._core.network import dot, gru
from learned_opt_rl.rules._core.weights import Weights, require_shapes

if TYPE_CHECKING:
    from jaxtyping import Array, Float

_LAYER_NORM_EPSILON = 1e-6  # Flax's default, which the authors' networks had

Outputs = tuple[jax.Array, jax.Array | None]


def architecture_of(weights: Weights, family: Family) -> Architecture:
    """Return the architecture that weights belong to, after checking every shape.

    Args:
        weights: Nested dict as ``family.shapes`` lists it.
        family: The family that they should belong to.

    Returns:
        The architecture.

    Raises:
        WeightsError: A tensor is missing, unknown or of the wrong shape.
    """
    try:
        width = jnp.shape(weights["mlp"]["dense_1"]["kernel"])[-1]
        cell = weights.get("gru")
        carry = None if cell is None else jnp.shape(cell["hn"]["kernel"])[-1]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        module = family.module.rpartition(".")[2]
        raise WeightsError(
            f"weights do not fit the network of {family.title}: they need "
            "mlp.dense_1.kernel (and gru.hn.kernel when recurrent). Use "
            f"{module}.init(key, architecture) or {module}.pretrained(name)"
        ) from error
    architecture, transform = Architecture(carry, width), f"scale_by_{family.algorithm}"
    require_shapes(weights, family.shapes(architecture), architecture, transform)
    return architecture


def apply(weights: Weights, table: Float[Array, "rows n"]) -> Outputs:
    """Run the network on every parameter at once.

    The table has one column per parameter, so that on a CPU every operation works on
    long contiguous rows, whatever the (tiny) layer widths. Algebra that moves work
    from the n columns to the few weights is done first; docs/overhead.md records what
    each step gained.

    Args:
        weights: Nested dict as the rule's shapes list it, float32.
        table: ``[features + carry, n]`` float32: features (OPEN has 19), and below
            them the GRU state (none when feed-forward).

    Returns:
        ``(outputs, new carry [carry, n])``, float32; OPEN's outputs are ``[3, n]``,
        the carry is ``None`` when feed-forward.

    References:
        Goldie et al. 2024, appendix B (architecture).
    """
    if "gru" not in weights:
        return _mlp(weights["mlp"], table), None
    carry = gru(weights["gru"], table)
    return _mlp(weights["mlp"], carry), carry


def _mlp(mlp: Weights, x: jax.Array) -> jax.Array:
    for layer in ("0", "1"):
        kernel, bias = _centered(mlp[f"dense_{layer}"])
        x = jax.nn.relu(_normalize(mlp[f"norm_{layer}"], dot(kernel, x) + bias))
    return dot(mlp["dense_2"]["kernel"], x) + mlp["dense_2"]["bias"][:, None]


def _centered(dense: Weights) -> tuple[jax.Array, jax.Array]:
    """Return a dense layer whose outputs have mean 0: LayerNorm's subtraction, free."""
    kernel, bias = dense["kernel"], dense["bias"]
    return kernel - kernel.mean(axis=1, keepdims=True), (bias - bias.mean())[:, None]


def _normalize(norm: Weights, x: jax.Array) -> jax.Array:
    """Apply LayerNorm to an already centered ``[width, n]`` table."""
    # A chain of adds instead of a reduction over axis 0: XLA fuses and vectorizes it.
    variance = sum(row * row for row in x) / x.shape[0]
    scale = jax.lax.rsqrt(variance + _LAYER_NORM_EPSILON)[None] * norm["scale"][:, None]
    return x * scale + norm["bias"][:, None]
