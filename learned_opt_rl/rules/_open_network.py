"""The per-parameter network of OPEN and No Features: a small GRU and MLP."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.errors import WeightsError
from learned_opt_rl.families import Shapes
from learned_opt_rl.families.open_network import INPUTS as INPUTS
from learned_opt_rl.families.open_network import Architecture as Architecture
from learned_opt_rl.families.open_network import open_shapes
from learned_opt_rl.rules._gru import dot, gru
from learned_opt_rl.rules._per_agent import in_blocks
from learned_opt_rl.rules._weights import Weights as Weights
from learned_opt_rl.rules._weights import draw_weights, require_shapes

if TYPE_CHECKING:
    from jaxtyping import Array, Float

_LAYER_NORM_EPSILON = 1e-6

Outputs = tuple[jax.Array, jax.Array | None]


class Family(NamedTuple):
    """A rule that uses this network, with its own inputs and outputs.

    Attributes:
        title: Its name in messages.
        module: Name of the public module.
        transform: Name of the public function that takes weights.
        shapes: ``architecture -> shapes`` by dotted name.
    """

    title: str
    module: str
    transform: str
    shapes: Callable[[Architecture], Shapes]


OPEN = Family("an OPEN network", "open_rl", "scale_by_open", open_shapes)


def architecture_of(weights: Weights, family: Family = OPEN) -> Architecture:
    """The architecture a weights pytree belongs to, checking every shape.

    Args:
        weights: Nested dict as ``family.shapes`` lists it.
        family: Whose weights they should be.

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
        raise WeightsError(
            f"weights are not those of {family.title}: they need "
            "mlp.dense_1.kernel (and gru.hn.kernel when recurrent). Use "
            f"{family.module}.init(key, architecture) or "
            f"{family.module}.pretrained(name)"
        ) from error
    architecture = Architecture(carry, width)
    require_shapes(weights, family.shapes(architecture), architecture, family.transform)
    return architecture


def init(key: jax.Array, architecture: Architecture) -> Weights:
    """Random weights, as a starting point for training.

    Args:
        key: jax random key.
        architecture: Sizes of the network.

    Returns:
        Nested dict of float32 arrays: LeCun-normal kernels (orthogonal for the
        GRU's hidden projections, as in Flax's ``GRUCell``), zero biases, unit
        LayerNorm scales.

    Example:
        >>> import jax
        >>> weights = init(jax.random.key(0), Architecture(carry=None, width=32))
        >>> weights["mlp"]["dense_0"]["kernel"].shape
        (19, 32)
    """
    return draw_weights(key, open_shapes(architecture))


def apply(weights: Weights, table: Float[Array, "rows n"]) -> Outputs:
    """Run the network on every parameter at once.

    The table holds one column per parameter: on a CPU every step then works on long
    contiguous rows, whatever the (tiny) layer widths. Algebra that moves work from
    the n columns to the few weights is done first; docs/overhead.md records what
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


apply_in_blocks = functools.partial(in_blocks, apply)


def _mlp(mlp: Weights, x: jax.Array) -> jax.Array:
    for layer in ("0", "1"):
        kernel, bias = _centred(mlp[f"dense_{layer}"])
        x = jax.nn.relu(_normalise(mlp[f"norm_{layer}"], dot(kernel, x) + bias))
    return dot(mlp["dense_2"]["kernel"], x) + mlp["dense_2"]["bias"][:, None]


def _centred(dense: Weights) -> tuple[jax.Array, jax.Array]:
    """A dense layer whose outputs have mean 0: LayerNorm's subtraction, for free."""
    kernel, bias = dense["kernel"], dense["bias"]
    return kernel - kernel.mean(axis=1, keepdims=True), (bias - bias.mean())[:, None]


def _normalise(norm: Weights, x: jax.Array) -> jax.Array:
    """LayerNorm of an already centred ``[width, n]`` table."""
    # A chain of adds instead of a reduction over axis 0: XLA fuses and vectorises it.
    variance = sum(row * row for row in x) / x.shape[0]
    scale = jax.lax.rsqrt(variance + _LAYER_NORM_EPSILON)[None] * norm["scale"][:, None]
    return x * scale + norm["bias"][:, None]
