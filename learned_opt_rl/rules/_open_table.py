"""The table OPEN reads: a column of features per parameter, all leaves side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.features import log_magnitude, rms_normalise
from learned_opt_rl.rules._leaves import as_row


class TableInputs(NamedTuple):
    """What the table of one agent is made of, leaf by leaf.

    Attributes:
        params: Leaves of any float dtype.
        gradients: Leaves of the same shapes.
        momenta: Leaves ``[6, *shape]`` float32.
        carries: Leaves ``[units, *shape]`` float32; empty when feed-forward.
        positions: Layer proportion of each leaf, in [0, 1].
        dormancy: Per leaf, scalar or ``[last axis]`` float32.
        training_proportion: Scalar in [0, 1].
        batch_proportion: Scalar in [0, 1].
    """

    params: Sequence[jax.Array]
    gradients: Sequence[jax.Array]
    momenta: Sequence[jax.Array]
    carries: Sequence[jax.Array]
    positions: Sequence[jax.Array | float]
    dormancy: Sequence[jax.Array]
    training_proportion: jax.Array | float
    batch_proportion: jax.Array | float


def feature_table(inputs: TableInputs) -> jax.Array:
    """Stack the features, and the GRU state, of every parameter of every leaf.

    Args:
        inputs: The leaves and where the run stands; momenta already updated.

    Returns:
        ``[19 + units, n]`` float32, n the number of parameters, in leaf order.

    References:
        Goldie et al. 2024, section 5.3 and appendix B: rows are the value, sign
        and log of six momenta, sign and log of the gradient (each divided by its
        rms over the leaf), then training, layer and batch proportion and dormancy.
    """
    t_p = jnp.asarray(inputs.training_proportion, jnp.float32)
    b_p = jnp.asarray(inputs.batch_proportion, jnp.float32)
    leaves = zip(
        inputs.params,
        inputs.gradients,
        inputs.momenta,
        inputs.positions,
        inputs.dormancy,
        strict=True,
    )
    columns = [_leaf_rows(p, g, m, (t_p, l_p, b_p), d) for p, g, m, l_p, d in leaves]
    return side_by_side(columns, inputs.carries)


def side_by_side(
    columns: list[list[jax.Array]], carries: Sequence[jax.Array]
) -> jax.Array:
    """The table of all leaves: each leaf's rows, below them its GRU state if any."""
    for i, carry in enumerate(carries):
        columns[i].append(carry.reshape(carry.shape[0], -1))
    return jnp.concatenate([jnp.concatenate(rows) for rows in columns], axis=1)


def _leaf_rows(
    p: jax.Array,
    g: jax.Array,
    m: jax.Array,
    proportions: tuple[jax.Array | float, ...],
    d: jax.Array,
) -> list[jax.Array]:
    shape, row = p.shape, (1, p.size)
    p, g, m = as_row(p), as_row(g), m.reshape(m.shape[0], -1)
    encoded = (p, *signs_and_logs(m, g))
    d = jnp.broadcast_to(d.reshape((1,) * (len(shape) - d.ndim) + d.shape), shape)
    return [
        *(rms_normalise(x) for x in encoded),
        *(jnp.full(row, value, jnp.float32) for value in proportions),
        d.reshape(row),
    ]


def signs_and_logs(m: jax.Array, g: jax.Array) -> tuple[jax.Array, ...]:
    """Momenta and gradient as sign and logarithm; Goldie et al. 2024, B.2."""
    return jnp.sign(m), log_magnitude(m), jnp.sign(g), log_magnitude(g)
