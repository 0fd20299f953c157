"""Between the leaves of a tree and one table with a column for every parameter."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp

_TILE = 64  # rows of a tile: with 16 channels, 4 KiB, which a CPU's first cache holds


def as_rows(leaf: jax.Array, channels: int = 1) -> jax.Array:
    """Return a leaf ``[*shape]``, or ``[*shape, channels]``, as ``[channels, n]``."""
    return _transposed(leaf.astype(jnp.float32).reshape(-1, channels))


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


def _transposed(x: jax.Array) -> jax.Array:
    """Transpose ``[n, channels]``, on a CPU tile by tile."""
    whole = x.shape[0] - x.shape[0] % _TILE
    if x.shape[1] == 1 or whole == 0 or jax.default_backend() != "cpu":
        return x.T
    tiles = x[:whole].reshape(-1, _TILE, x.shape[1]).transpose(0, 2, 1)
    # Without the barrier XLA would merge both steps into strides, which every later
    # pass over the rows would read, missing the cache at each element.
    tiles = jax.lax.optimization_barrier(tiles)
    head = tiles.transpose(1, 0, 2).reshape(x.shape[1], whole)
    return jnp.concatenate([head, x[whole:].T], axis=1)
