"""Between the leaves of a tree and one table with a column for every parameter."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp


def as_rows(leaf: jax.Array, channels: int = 1) -> jax.Array:
    """Return a leaf ``[*shape]``, or ``[*shape, channels]``, as ``[channels, n]``."""
    flat = leaf.astype(jnp.float32).reshape(-1, channels)
    # Not flat.T: XLA turns that into strides, which every later pass then reads (on a
    # CPU twice as slow as one copy).
    return jnp.stack([flat[:, channel] for channel in range(channels)])


def side_by_side(leaves: Sequence[jax.Array], channels: int = 1) -> jax.Array:
    """Return the leaves as one float32 table ``[channels, n]``, in leaf order."""
    return jnp.concatenate([as_rows(leaf, channels) for leaf in leaves], axis=1)


def split(table: jax.Array, like: Sequence[jax.Array]) -> list[jax.Array]:
    """Cut ``[n]`` or ``[channels, n]`` into one array per leaf.

    Args:
        table: Values of all n parameters, in leaf order.
        like: The parameters; only their shapes are used.

    Returns:
        ``[*shape]`` or ``[*shape, channels]`` for each leaf.
    """
    columns = table.T  # [n, channels]
    pieces, start = [], 0
    for leaf in like:
        piece = columns[start : start + leaf.size]
        pieces.append(piece.reshape(*leaf.shape, *columns.shape[1:]))
        start += leaf.size
    return pieces
