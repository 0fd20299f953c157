"""OPEN's per-parameter network: a small GRU and MLP shared by all parameters."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from learned_opt_rl.artifacts.weights import INPUTS, open_shapes
from learned_opt_rl.errors import WeightsError
from learned_opt_rl.rules._shapes import draw, require_shapes

if TYPE_CHECKING:
    from jaxtyping import Array, Float

_LAYER_NORM_EPSILON = 1e-6
# Without it a GPU would round the products to TF32 and lose parity with the
# published weights; on a CPU it changes nothing.
_PRECISION = jax.lax.Precision.HIGHEST

# Parameters per pass on a CPU, so that the layers stay in its last-level cache.
_BLOCK = 2**16

Outputs = tuple[jax.Array, jax.Array | None]
Weights = dict[str, Any]
"""Nested dict of float32 arrays; ``artifacts.weights.open_shapes`` lists them."""


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Sizes of an OPEN network.

    Attributes:
        carry: Units of the GRU, or ``None`` for feed-forward OPEN.
        width: Units of both hidden MLP layers.

    Raises:
        ValueError: A size is not a positive whole number.

    Example:
        >>> Architecture(carry=16, width=32)
        Architecture(carry=16, width=32)
    """

    carry: int | None
    width: int

    def __post_init__(self) -> None:
        for name, size in (("carry", self.carry), ("width", self.width)):
            optional = name == "carry" and size is None
            if not optional and (not isinstance(size, int) or size < 1):
                raise ValueError(
                    f"Architecture.{name}={size!r} must be a positive whole number; "
                    "published sizes are carry 8 or 16 (None: feed-forward), width "
                    "16 or 32"
                )


def architecture_of(weights: Weights) -> Architecture:
    """The architecture a weights pytree belongs to, checking every shape.

    Args:
        weights: Nested dict as ``open_shapes`` lists it.

    Returns:
        The architecture.

    Raises:
        WeightsError: A tensor is missing, unknown or of the wrong shape.
    """
    try:
        width = jnp.shape(weights["mlp"]["dense_1"]["kernel"])[-1]
        gru = weights.get("gru")
        carry = None if gru is None else jnp.shape(gru["hn"]["kernel"])[-1]
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise WeightsError(
            "weights are not those of an OPEN network: they need "
            "mlp.dense_1.kernel (and gru.hn.kernel when recurrent). Use "
            "open_rl.init(key, architecture) or open_rl.pretrained(name)"
        ) from error
    architecture = Architecture(carry, width)
    expected = open_shapes(architecture.carry, architecture.width)
    require_shapes(weights, expected, architecture, "scale_by_open")
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
    return draw(key, open_shapes(architecture.carry, architecture.width))


def apply(weights: Weights, table: Float[Array, "rows n"]) -> Outputs:
    """Run the network on every parameter at once.

    The table holds one column per parameter: on a CPU every step then works on long
    contiguous rows, whatever the (tiny) layer widths. Algebra that moves work from
    the n columns to the few weights is done first; docs/overhead.md records what
    each step gained.

    Args:
        weights: Nested dict as ``open_shapes`` lists it, float32.
        table: ``[19 + carry, n]`` float32: features, and below them the GRU state
            (``[19, n]`` when feed-forward).

    Returns:
        ``(outputs [3, n], new carry [carry, n])``, float32; the carry is ``None``
        when feed-forward.

    References:
        Goldie et al. 2024, appendix B (architecture).
    """
    if "gru" not in weights:
        return _mlp(weights["mlp"], table), None
    carry = _gru(weights["gru"], table)
    return _mlp(weights["mlp"], carry), carry


def apply_in_blocks(
    weights: Weights, table: Float[Array, "rows n"], columns: int = _BLOCK
) -> Outputs:
    """``apply`` a block of columns at a time: the layers are ten times the table.

    Args:
        weights: As for ``apply``.
        table: As for ``apply``.
        columns: At most this many columns at a time.

    Returns:
        As ``apply``.
    """
    size = table.shape[1]
    count = -(-size // columns)
    if count == 1:
        return apply(weights, table)
    width = -(-size // count)
    padded = jnp.pad(table, ((0, 0), (0, count * width - size)))

    def block(start: jax.Array) -> Outputs:
        part = jax.lax.dynamic_slice_in_dim(padded, start, width, axis=1)
        return apply(weights, part)

    blocks = jax.lax.map(block, width * jnp.arange(count))
    return jax.tree.map(
        lambda x: jnp.moveaxis(x, 0, 1).reshape(x.shape[1], -1)[:, :size], blocks
    )


def _gru(gru: Weights, table: jax.Array) -> jax.Array:
    kernel, bias = _gru_kernel(gru)
    gates = _dot(kernel, table) + bias
    size = gates.shape[0] // 4
    h = table[INPUTS:]
    # sigmoid(a) = (1 + tanh(a / 2)) / 2, three times faster; _gru_kernel halved a.
    reset, update = 0.5 + 0.5 * jnp.tanh(gates[: 2 * size].reshape(2, size, -1))
    candidate = jnp.tanh(gates[2 * size : 3 * size] + reset * gates[3 * size :])
    return candidate + update * (h - candidate)


def _gru_kernel(gru: Weights) -> tuple[jax.Array, jax.Array]:
    """One kernel ``[19 + g, 4 g]`` for all gates: r, z, n from x, n from h."""
    nothing_from_x = jnp.zeros_like(gru["in"]["kernel"])
    nothing_from_h = jnp.zeros_like(gru["hn"]["kernel"])
    columns = [
        (0.5 * gru["ir"]["kernel"], 0.5 * gru["hr"]["kernel"], 0.5 * gru["ir"]["bias"]),
        (0.5 * gru["iz"]["kernel"], 0.5 * gru["hz"]["kernel"], 0.5 * gru["iz"]["bias"]),
        (gru["in"]["kernel"], nothing_from_h, gru["in"]["bias"]),
        (nothing_from_x, gru["hn"]["kernel"], gru["hn"]["bias"]),
    ]
    kernel = [jnp.concatenate([x, h]) for x, h, _ in columns]
    bias = [bias for _, _, bias in columns]
    return jnp.concatenate(kernel, axis=1), jnp.concatenate(bias)[:, None]


def _mlp(mlp: Weights, x: jax.Array) -> jax.Array:
    for layer in ("0", "1"):
        kernel, bias = _centred(mlp[f"dense_{layer}"])
        x = jax.nn.relu(_normalise(mlp[f"norm_{layer}"], _dot(kernel, x) + bias))
    return _dot(mlp["dense_2"]["kernel"], x) + mlp["dense_2"]["bias"][:, None]


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


def _dot(kernel: jax.Array, x: jax.Array) -> jax.Array:
    """``kernel[i, o], x[i, n] -> [o, n]``."""
    return jax.lax.dot_general(
        kernel, x, (((0,), (0,)), ((), ())), precision=_PRECISION
    )
