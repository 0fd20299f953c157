"""The table No Features reads: momenta and gradient, and in one form the parameter."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jax

from learned_opt_rl.features import rms_normalise
from learned_opt_rl.rules._leaves import as_row
from learned_opt_rl.rules._open_table import side_by_side, signs_and_logs


class TableInputs(NamedTuple):
    """What the table of one agent is made of, leaf by leaf.

    Attributes:
        params: Leaves of any float dtype.
        gradients: Leaves of the same shapes.
        momenta: Leaves ``[6, *shape]`` float32.
        carries: Leaves ``[units, *shape]`` float32; empty when feed-forward.
    """

    params: Sequence[jax.Array]
    gradients: Sequence[jax.Array]
    momenta: Sequence[jax.Array]
    carries: Sequence[jax.Array]


def feature_table(inputs: TableInputs) -> jax.Array:
    """Stack the features, and the GRU state, of every parameter of every leaf.

    Args:
        inputs: The leaves; momenta already updated.

    Returns:
        ``[8, n]`` float32 when feed-forward: the value, six momenta and the gradient.
        ``[14 + units, n]`` when recurrent: sign and log of the momenta and of the
        gradient. n is the number of parameters, in leaf order, and each row is
        divided by its rms over the leaf.

    References:
        Goldie et al. 2025, Table 8 (feed-forward); Goldie et al. 2024, B.4
        (recurrent).
    """
    leaves = zip(inputs.params, inputs.gradients, inputs.momenta, strict=True)
    recurrent = bool(inputs.carries)
    columns = [_leaf_rows(p, g, m, recurrent) for p, g, m in leaves]
    return side_by_side(columns, inputs.carries)


def _leaf_rows(
    p: jax.Array, g: jax.Array, m: jax.Array, recurrent: bool
) -> list[jax.Array]:
    p, g, m = as_row(p), as_row(g), m.reshape(m.shape[0], -1)
    return [
        rms_normalise(x) for x in (signs_and_logs(m, g) if recurrent else (p, m, g))
    ]
