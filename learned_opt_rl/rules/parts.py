"""The parts of OPEN and No Features: features, network, and a step through both.

The rules themselves are in ``open_rl`` and ``no_features``; distillation and analysis
use the parts directly.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.errors import WeightsError
from learned_opt_rl.families import Family
from learned_opt_rl.families.open_network import Architecture
from learned_opt_rl.features import (
    DECAYS,
    log_magnitude,
    rms_normalize,
    rms_scale,
    update_momenta,
)
from learned_opt_rl.rules._core.network import (
    Cut,
    as_rows,
    dot,
    gru,
    in_blocks,
    is_small,
    join,
    one_agent_at_a_time,
    split,
    table_of_rows,
    tables,
    uncut,
)
from learned_opt_rl.rules._core.transform import Inputs, Outputs, Slot, in_parts, pick
from learned_opt_rl.rules._core.weights import Weights, require_shapes

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = [
    "SCALE",
    "apply",
    "deterministic_update",
    "no_features_features",
    "open_features",
]
__dir__ = __all__.copy


SCALE = 1e-3
"""alpha_1 = alpha_2 = alpha_3 of Goldie et al. 2024, appendix C."""

_LAYER_NORM_EPSILON = 1e-6  # Flax's default, which the authors' networks had

Encode = Callable[[jax.Array, jax.Array, jax.Array], list[jax.Array]]
"""Features of parameters, gradients and momenta, elementwise and not normalized."""

Columns = Callable[[Inputs], list[jax.Array]]
"""The inputs of the network that are not normalized: scalars and ``[n]``."""


@one_agent_at_a_time
def open_step(weights: Weights, inputs: Inputs) -> Outputs:
    """Run OPEN on all leaves: equation 7, without the mean."""
    chosen = tables(inputs.params)
    return in_parts(inputs, chosen, lambda _, part: _open_table(weights, part))


@one_agent_at_a_time
def no_features_step(weights: Weights, inputs: Inputs) -> Outputs:
    """Run No Features on all leaves."""
    chosen = tables(inputs.params)
    return in_parts(inputs, chosen, lambda _, part: _no_features_table(weights, part))


def separated_step(
    weights: Mapping[str, Weights], inputs: Inputs, owners: Sequence[str]
) -> Outputs:
    """Run OPEN on each network's leaves with the network's own weights.

    ``owners`` names each leaf's network, a key of ``weights``.
    """
    names = sorted(set(owners))
    parts = [[i for i, owner in enumerate(owners) if owner == name] for name in names]
    return in_parts(inputs, parts, lambda i, part: open_step(weights[names[i]], part))


def _open_table(weights: Weights, inputs: Inputs) -> Outputs:
    noise = join(inputs.noise)

    def direction(outputs: jax.Array, cut: Cut) -> jax.Array:
        return deterministic_update(outputs) + SCALE * outputs[2] * cut(noise)

    return _run(weights, inputs, _open_encode, _open_columns, direction)


def _no_features_table(weights: Weights, inputs: Inputs) -> Outputs:
    encode = _encode if "carry" in inputs.memory else _plain_encode

    def direction(outputs: jax.Array, _: Cut) -> jax.Array:
        return deterministic_update(outputs)

    return _run(weights, inputs, encode, lambda _: [], direction)


def _open_columns(inputs: Inputs) -> list[jax.Array]:
    return [
        jnp.asarray(inputs.training_proportion, jnp.float32),
        _by_column(inputs.positions, inputs.params),
        jnp.asarray(inputs.batch_proportion, jnp.float32),
        _by_column(inputs.dormancy, inputs.params),
    ]


def _by_column(values: Sequence[Any], leaves: Sequence[jax.Array]) -> jax.Array:
    """Return a value per leaf, or per last axis, as ``[n]``; one scalar stays one."""
    arrays = [jnp.asarray(value, jnp.float32) for value in values]
    if len(arrays) == 1 and not arrays[0].ndim:
        return arrays[0]
    if not is_small(leaves) and not any(array.ndim for array in arrays):
        owner = np.repeat(np.arange(len(arrays)), [leaf.size for leaf in leaves])
        return jnp.stack(arrays)[owner]
    pairs = zip(arrays, leaves, strict=True)
    return join([_spread(value, leaf.shape) for value, leaf in pairs])


def _spread(value: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    aligned = value.reshape((1,) * (len(shape) - value.ndim) + value.shape)
    return jnp.broadcast_to(aligned, shape)


def _run(
    weights: Weights,
    inputs: Inputs,
    encode: Encode,
    columns: Columns,
    direction: Callable[[jax.Array, Cut], jax.Array],
) -> Outputs:
    """Run the network on one table."""
    # Leaf by leaf: XLA compiles one program for leaves of one shape, but one for each
    # leaf that it cuts out of a table.
    pairs = zip(inputs.memory["momenta"], inputs.gradients, strict=True)
    memory = {**inputs.memory, "momenta": [update_momenta(m, g) for m, g in pairs]}
    table_of = _table_of(encode, columns, inputs._replace(memory=memory))

    def block(cut: Cut) -> Any:
        outputs, after = apply(weights, table_of(cut))
        return direction(outputs, cut), [] if after is None else [after.T]

    carries = inputs.memory.get("carry", ())
    like = join(inputs.params), [join(carries, 1)] if carries else []
    moved, after = in_blocks(block, like, len(inputs.params))
    if after:
        memory["carry"] = split(after[0], inputs.params)
    return split(moved, inputs.params), memory


def _table_of(
    encode: Encode, columns: Columns, inputs: Inputs
) -> Callable[[Cut], jax.Array]:
    """Return a function from a cut to the network's inputs, and below them the carry.

    The momenta of ``inputs`` include this step's gradient.
    """
    leaves = range(len(inputs.params))
    if len(leaves) > 1 and is_small(inputs.params):
        # Each leaf's part is computed right where it ends up.
        parts = [_table_of(encode, columns, pick(inputs, [i])) for i in leaves]
        small = jnp.concatenate([part(uncut) for part in parts], axis=1)
        return lambda cut: cut(small, 1)
    features, values = _features_of(encode, inputs), columns(inputs)
    carries = inputs.memory.get("carry", ())
    carry = [join(carries, 1)] if carries else []

    def block(cut: Cut) -> jax.Array:
        rows = features(cut)
        shape = (1, rows[0].shape[1])
        rows += [jnp.broadcast_to(jnp.asarray(cut(x)), shape) for x in values]
        return table_of_rows(rows + [as_rows(cut(x)) for x in carry])

    return block


def _features_of(encode: Encode, inputs: Inputs) -> Callable[[Cut], list[jax.Array]]:
    """Return a function from a cut to rows of features, normalized leaf by leaf."""
    sizes = [leaf.size for leaf in inputs.params]
    momenta = join(inputs.memory["momenta"], 1)
    joined = join(inputs.params), join(inputs.gradients), momenta
    if len(sizes) == 1:
        # The features of a large leaf are never in memory as a whole.
        scales = [rms_scale(x, 0).reshape(-1, 1) for x in encode(*joined)]

        def block(cut: Cut) -> list[jax.Array]:
            rows = encode(*(as_rows(cut(x)) for x in joined))
            return [x * scale for x, scale in zip(rows, scales, strict=True)]

        return block
    rows = jnp.concatenate(encode(*map(as_rows, joined)))
    pieces, start = [], 0
    for size, group in itertools.groupby(sizes):
        count = len(list(group))
        width = size * count
        piece = rows[:, start : start + width].reshape(len(rows), count, size)
        scaled = piece * rms_scale(piece, axis=2)[..., None]
        pieces.append(scaled.reshape(len(rows), width))
        start += width
    normalized = jnp.concatenate(pieces, axis=1)
    return lambda cut: [cut(normalized, 1)]


def deterministic_update(outputs: jax.Array) -> jax.Array:
    """Return the ``[n]`` direction of the first two outputs; equation 7."""
    return SCALE * outputs[0] * jnp.exp(SCALE * outputs[1])


def open_features(
    parameter: jax.Array,
    gradient: jax.Array,
    momenta: jax.Array,
    proportions: tuple[jax.Array | float, jax.Array | float, jax.Array | float],
    dormancy: jax.Array,
) -> list[jax.Array]:
    """Return OPEN's features of one leaf, as rows to be stacked.

    Args:
        parameter: ``[*shape]`` of any float dtype.
        gradient: ``[*shape]``.
        momenta: ``[*shape, 6]`` float32, this step's gradient included.
        proportions: Training, layer and batch proportion, scalars.
        dormancy: Scalar, ``[last axis]`` or ``[*shape]``, float32.

    Returns:
        float32 rows that stack to ``[19, n]``: value, sign and log of the momenta,
        sign and log of the gradient (each divided by its rms over the leaf), then the
        proportions and dormancy.

    References:
        Goldie et al. 2024, section 5.3 and appendix B.
    """
    row = (1, parameter.size)
    joined = join([parameter]), join([gradient]), join([momenta], 1)
    encoded = _open_encode(*map(as_rows, joined))
    return [
        *map(rms_normalize, encoded),
        *(jnp.full(row, value, jnp.float32) for value in proportions),
        _spread(dormancy, parameter.shape).reshape(row),
    ]


def no_features_features(
    parameter: jax.Array, gradient: jax.Array, momenta: jax.Array, recurrent: bool
) -> list[jax.Array]:
    """Return No Features' features of one leaf, as rows to be stacked.

    Arguments are as for ``open_features``; ``recurrent`` chooses the form.

    Returns:
        float32 rows, each divided by its rms over the leaf. They stack to ``[14, n]``
        when recurrent (sign and log of the momenta and of the gradient), else to
        ``[8, n]`` (value, momenta, gradient).

    References:
        Goldie et al. 2024, B.4 (recurrent); Goldie et al. 2025, Table 8
        (feed-forward).
    """
    joined = join([parameter]), join([gradient]), join([momenta], 1)
    encode = _encode if recurrent else _plain_encode
    return list(map(rms_normalize, encode(*map(as_rows, joined))))


def _encode(p: jax.Array, g: jax.Array, m: jax.Array) -> list[jax.Array]:
    """Return sign and logarithm of momenta and gradient; Goldie et al. 2024, B.2."""
    del p
    return [jnp.sign(m), log_magnitude(m), jnp.sign(g), log_magnitude(g)]


def _open_encode(p: jax.Array, g: jax.Array, m: jax.Array) -> list[jax.Array]:
    return [p, *_encode(p, g, m)]


def _plain_encode(p: jax.Array, g: jax.Array, m: jax.Array) -> list[jax.Array]:
    return [p, m, g]


def apply(
    weights: Weights, table: Float[Array, "rows n"]
) -> tuple[jax.Array, jax.Array | None]:
    """Run the network, a small GRU and an MLP, on every parameter at once.

    Args:
        weights: Nested dict of float32 arrays, as ``init`` makes it.
        table: ``[features + carry, n]`` float32: features, and below them the GRU
            state (none when feed-forward).

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
    inverse = jax.lax.rsqrt(_mean_square(x) + _LAYER_NORM_EPSILON)
    return x * (inverse[None] * norm["scale"][:, None]) + norm["bias"][:, None]


@jax.custom_jvp
def _mean_square(x: jax.Array) -> jax.Array:
    # A chain of adds instead of a reduction over axis 0: XLA fuses and vectorizes it.
    total: Any = sum(row * row for row in x)
    return total / x.shape[0]


@_mean_square.defjvp
def _(primals: Any, tangents: Any) -> Any:
    # The chain's own derivative would write the whole table once for each row.
    (x,), (t,) = primals, tangents
    return _mean_square(x), 2 * (x * t).mean(axis=0)


def slots(units: int | None) -> dict[str, Slot]:
    """Return what both rules remember: momenta and, with a GRU, its units."""
    momenta = {"momenta": Slot((len(DECAYS),))}
    return momenta if units is None else momenta | {"carry": Slot((units,))}


def architecture_of(weights: Weights, family: Family) -> Architecture:
    """Return the architecture of weights; raise ``WeightsError`` where one misfits."""
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
