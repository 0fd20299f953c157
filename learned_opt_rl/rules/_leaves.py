"""Between a tree of parameters and one long row of them, leaf after leaf."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp


def as_row(leaf: jax.Array) -> jax.Array:
    """A leaf as one float32 row, ``[1, n]``."""
    return leaf.astype(jnp.float32).reshape((1, leaf.size))


def split(rows: jax.Array, leaves: Any) -> list[jax.Array]:
    """Cut ``[..., n]`` rows into one ``[..., *shape]`` array per leaf.

    Args:
        rows: Values for all n parameters, in leaf order.
        leaves: The parameters; only their shapes are used.

    Returns:
        The pieces, in leaf order, of the dtype of ``rows``.
    """
    pieces, start = [], 0
    for leaf in leaves:
        piece = rows[..., start : start + leaf.size]
        pieces.append(piece.reshape(*rows.shape[:-1], *leaf.shape))
        start += leaf.size
    return pieces


def as_updates(row: jax.Array, params: Any) -> Any:
    """The tree of updates ``[n]``, in the parameters' dtypes."""
    leaves, structure = jax.tree.flatten(params)
    pieces = zip(split(row, leaves), leaves, strict=True)
    return jax.tree.unflatten(structure, [p.astype(x.dtype) for p, x in pieces])


def init_carry(params: Any, units: int | None) -> Any:
    """Zero GRU state: ``[units, *shape]`` float32 per leaf, ``()`` without a GRU."""
    if units is None:
        return ()
    return jax.tree.map(
        lambda p: jnp.zeros((units, *jnp.shape(p)), jnp.float32), params
    )


def as_carry(carries: Sequence[jax.Array], params: Any) -> Any:
    """The tree of carries, ``()`` where there are none."""
    return jax.tree.unflatten(jax.tree.structure(params), carries) if carries else ()
