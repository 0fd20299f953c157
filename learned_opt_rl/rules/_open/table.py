"""The tables that OPEN and No Features read: a column of features per parameter."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from learned_opt_rl.features import log_magnitude, rms_normalize
from learned_opt_rl.rules._core.leaves import as_rows


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
        float32 rows that stack to ``[19, n]``, n the leaf's size.

    References:
        Goldie et al. 2024, section 5.3 and appendix B: value, sign and log of six
        momenta, sign and log of the gradient (each divided by its rms over the leaf),
        then training, layer and batch proportion and dormancy.
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

    Args:
        parameter: ``[*shape]`` of any float dtype.
        gradient: ``[*shape]``.
        momenta: ``[*shape, 6]`` float32, this step's gradient included.
        recurrent: Which of the two forms.

    Returns:
        float32 rows that stack to ``[14, n]`` when recurrent (sign and log of the
        momenta and of the gradient), else to ``[8, n]`` (value, momenta, gradient).
        Each row is divided by its rms over the leaf.

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
