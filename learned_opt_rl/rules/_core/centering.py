"""Which entries an update moves, and the mean that it removes from them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt_rl.features import LeafRole, named_leaves


def whole_leaves(entries: Sequence[jax.Array], params: Any) -> list[jax.Array]:
    """Return flags of leaves, or of an embedding's rows, of which any entry is set."""
    return [
        flags.any(axis=-1, keepdims=True) if table else flags.any()
        for flags, table in zip(entries, _are_tables(params), strict=True)
    ]


def _are_tables(params: Any) -> list[bool]:
    """Return whether each leaf is the table of an embedding, by name or by class."""

    def is_embedding(node: Any) -> bool:  # of Equinox, whose leaf is a "weight"
        return type(node).__name__ == "Embedding"

    inside = jax.tree.map(
        lambda node: jax.tree.map(lambda _: is_embedding(node), node),
        params,
        is_leaf=is_embedding,
    )
    named = [
        re.search("embeddings?$", leaf.path, re.IGNORECASE) is not None
        for leaf in named_leaves(params)
    ]
    return [
        (name or flag) and jnp.ndim(leaf) >= 2
        for name, flag, leaf in zip(
            named, jax.tree.leaves(inside), jax.tree.leaves(params), strict=True
        )
    ]


def moved_alone(
    values: Sequence[jax.Array], moved: Sequence[jax.Array]
) -> list[jax.Array]:
    """Return the values, with 0 where an entry does not move."""
    return [jnp.where(m, v, 0) for v, m in zip(values, moved, strict=True)]


def without_mean(
    values: Sequence[jax.Array],
    moved: Sequence[jax.Array] | None = None,
    roles: Sequence[LeafRole] | None = None,
) -> list[jax.Array]:
    """Return the values minus their mean over all entries of all leaves.

    Entries that do not move are left out and stay 0. With ``roles``, nothing is removed
    where what moves has no hidden layer: a value head or six ``log_std`` alone could
    otherwise never change their sum.
    """
    # A sum of sums: leaves that are sharded differently need not be concatenated.
    counts: list[jax.Array | int] = [value.size for value in values]
    if moved is not None:
        values = moved_alone(values, moved)
        counts = [
            m.sum() * (value.size // max(m.size, 1))
            for value, m in zip(values, moved, strict=True)
        ]
    total = sum((value.sum() for value in values), jnp.zeros(()))
    if roles is not None:
        total = jnp.where(_has_hidden_layer(values, counts, roles), total, 0)
    # XLA does not copy a division, nor the sums before it, into every leaf's program.
    mean = total / jnp.maximum(sum(counts), 1)
    values = [value - mean for value in values]
    return values if moved is None else moved_alone(values, moved)


def _has_hidden_layer(
    values: Sequence[jax.Array],
    counts: Sequence[jax.Array | int],
    roles: Sequence[LeafRole],
) -> jax.Array | bool:
    """Return whether some network moves kernels of two or more layers."""
    networks: dict[str, dict[float, jax.Array | int]] = {}
    for value, count, role in zip(values, counts, roles, strict=True):
        if value.ndim >= 2:
            layers = networks.setdefault(role.network, {})
            layers[role.position] = layers.get(role.position, 0) + count
    flags = [
        sum((jnp.minimum(count, 1) for count in layers.values()), jnp.zeros(())) >= 2
        for layers in networks.values()
    ]
    return jnp.any(jnp.array(flags)) if flags else False
