"""The parts of OPEN and No Features: features, network, and a step through both.

The rules themselves are in ``open_rl`` and ``no_features``; distillation and analysis
use the parts directly.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from learned_opt_rl.errors import WeightsError
from learned_opt_rl.families import Family
from learned_opt_rl.families.open_network import Architecture
from learned_opt_rl.features import (
    DECAYS,
    log_magnitude,
    rms_normalize,
    update_momenta,
)
from learned_opt_rl.rules._core.network import (
    as_rows,
    dot,
    gru,
    in_blocks,
    one_agent_at_a_time,
    side_by_side,
    split,
)
from learned_opt_rl.rules._core.transform import Inputs, Outputs, Slot
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


def __dir__() -> list[str]:
    return __all__


SCALE = 1e-3
"""alpha_1 = alpha_2 = alpha_3 of Goldie et al. 2024, appendix C."""

_LAYER_NORM_EPSILON = 1e-6  # Flax's default, which the authors' networks had

Memory = dict[str, list[jax.Array]]


@one_agent_at_a_time
def open_step(weights: Weights, inputs: Inputs) -> Outputs:
    """Run OPEN on all leaves: equation 7, without the mean."""
    momenta = _momenta(inputs)
    t_p, b_p = inputs.training_proportion, inputs.batch_proportion
    leaves = zip(
        inputs.params,
        inputs.gradients,
        momenta,
        inputs.positions,
        inputs.dormancy,
        strict=True,
    )
    columns = [open_features(p, g, m, (t_p, l_p, b_p), d) for p, g, m, l_p, d in leaves]
    outputs, memory = _run(weights, inputs, momenta, columns)
    noise = side_by_side(inputs.noise)[0]
    direction = deterministic_update(outputs) + SCALE * outputs[2] * noise
    return split(direction, inputs.params), memory


@one_agent_at_a_time
def no_features_step(weights: Weights, inputs: Inputs) -> Outputs:
    """Run No Features on all leaves."""
    momenta, recurrent = _momenta(inputs), "carry" in inputs.memory
    leaves = zip(inputs.params, inputs.gradients, momenta, strict=True)
    columns = [no_features_features(p, g, m, recurrent) for p, g, m in leaves]
    outputs, memory = _run(weights, inputs, momenta, columns)
    return split(deterministic_update(outputs), inputs.params), memory


def separated_step(
    weights: Mapping[str, Weights], inputs: Inputs, owners: Sequence[str]
) -> Outputs:
    """Run OPEN on each network's leaves with the network's own weights.

    ``owners`` names each leaf's network, a key of ``weights``.
    """
    values: list[Any] = [None] * len(owners)
    memory: dict[str, list[Any]] = {name: [*values] for name in inputs.memory}
    for name in sorted(set(owners)):
        mine = [i for i, owner in enumerate(owners) if owner == name]
        directions, after = open_step(weights[name], _pick(inputs, mine))
        for place, i in enumerate(mine):
            values[i] = directions[place]
            for slot, leaves in after.items():
                memory[slot][i] = leaves[place]
    return values, memory


def _pick(inputs: Inputs, chosen: list[int]) -> Inputs:
    """Return the inputs of some leaves."""

    def of(field: Any) -> list[Any]:
        return [field[i] for i in chosen]

    return inputs._replace(
        params=of(inputs.params),
        gradients=of(inputs.gradients),
        memory={name: of(leaves) for name, leaves in inputs.memory.items()},
        positions=of(inputs.positions),
        dormancy=of(inputs.dormancy),
        noise=of(inputs.noise),
    )


def _momenta(inputs: Inputs) -> list[jax.Array]:
    pairs = zip(inputs.memory["momenta"], inputs.gradients, strict=True)
    return [update_momenta(m, g) for m, g in pairs]


def _run(
    weights: Weights,
    inputs: Inputs,
    momenta: list[jax.Array],
    columns: list[list[jax.Array]],
) -> tuple[jax.Array, Memory]:
    """Run the network on each leaf's rows of features, with its carry below them."""
    for rows, carry in zip(columns, inputs.memory.get("carry", ()), strict=False):
        rows.append(as_rows(carry, carry.shape[-1]))
    table = jnp.concatenate([jnp.concatenate(rows) for rows in columns], axis=1)
    outputs, carry = in_blocks(apply, weights, table)
    memory = {"momenta": momenta}
    if carry is not None:
        memory["carry"] = split(carry, inputs.params)
    return outputs, memory


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
    shape, row = parameter.shape, (1, parameter.size)
    aligned = dormancy.reshape((1,) * (len(shape) - dormancy.ndim) + dormancy.shape)
    return [
        rms_normalize(as_rows(parameter)),
        *_signs_and_logs(momenta, gradient),
        *(jnp.full(row, value, jnp.float32) for value in proportions),
        jnp.broadcast_to(aligned, shape).reshape(row),
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
    if recurrent:
        return _signs_and_logs(momenta, gradient)
    plain = as_rows(parameter), as_rows(momenta, momenta.shape[-1]), as_rows(gradient)
    return [rms_normalize(rows) for rows in plain]


def _signs_and_logs(momenta: jax.Array, gradient: jax.Array) -> list[jax.Array]:
    """Return sign and logarithm of momenta and gradient; Goldie et al. 2024, B.2."""
    m, g = as_rows(momenta, momenta.shape[-1]), as_rows(gradient)
    encoded = jnp.sign(m), log_magnitude(m), jnp.sign(g), log_magnitude(g)
    return [rms_normalize(rows) for rows in encoded]


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
    # A chain of adds instead of a reduction over axis 0: XLA fuses and vectorizes it.
    variance = sum(row * row for row in x) / x.shape[0]
    scale = jax.lax.rsqrt(variance + _LAYER_NORM_EPSILON)[None] * norm["scale"][:, None]
    return x * scale + norm["bias"][:, None]


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
