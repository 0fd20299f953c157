"""Which entries an update moves, and the mean that it removes from them."""

import re
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.features import LeafRole, named_leaves
from learned_opt_rl.rules._core.network import alike, split, stack


def are_tables(params: Any) -> list[bool]:
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


def settled(
    values: Sequence[jax.Array],
    moved: Sequence[jax.Array] | None,
    tables: Sequence[bool] | None,
    zero_mean: bool,
    roles: Sequence[LeafRole] | None,
) -> list[jax.Array]:
    """Return the values of entries that move, and 0 elsewhere, perhaps without mean.

    Args:
        values: float32 ``[*shape]``, leaf by leaf.
        moved: Not 0 where entries move, ``[*shape]``; everywhere by default.
        tables: Given, a leaf moves as a whole where any entry does, and where its flag
            is set, row by row.
        zero_mean: Subtract the mean over all entries that move, of all leaves.
        roles: Given, no mean is removed where what moves has no hidden layer: a value
            head or six ``log_std`` alone could otherwise never change their sum.
    """
    row_wise = tables or [False] * len(values)
    shapes = [value.shape for value in values]
    parts = alike(list(zip(shapes, row_wise, strict=True)))
    stacks = [stack([values[i] for i in part]) for part in parts]
    flags = None
    if moved is not None:
        flags = [stack([moved[i] for i in part]) != 0 for part in parts]
        if tables is not None:
            pairs = zip(flags, parts, strict=True)
            flags = [_any(x, row_wise[part[0]]) for x, part in pairs]
        stacks = _masked(stacks, flags)
    if zero_mean:
        mean = _mean(stacks, _counts(stacks, flags), parts, roles)
        stacks = [x - mean for x in stacks]
        stacks = stacks if flags is None else _masked(stacks, flags)
    found = list(values)
    for part, settled_part in zip(parts, stacks, strict=True):
        leaves = split(settled_part.reshape(-1), [values[i] for i in part])
        for i, leaf in zip(part, leaves, strict=True):
            found[i] = leaf
    return found


def _any(flags: jax.Array, row_wise: bool) -> jax.Array:
    axes = (flags.ndim - 1,) if row_wise else tuple(range(1, flags.ndim))
    return flags.any(axis=axes, keepdims=True)


def _counts(
    stacks: Sequence[jax.Array], flags: Sequence[jax.Array] | None
) -> list[Any]:
    """Return how many entries of each leaf move, part by part."""
    sizes = [x.size // len(x) for x in stacks]
    if flags is None:
        return [[size] * len(x) for x, size in zip(stacks, sizes, strict=True)]
    return [
        x.sum(axis=range(1, x.ndim)) * (size * len(x) // max(x.size, 1))
        for x, size in zip(flags, sizes, strict=True)
    ]


def _masked(stacks: Sequence[jax.Array], flags: Sequence[jax.Array]) -> list[jax.Array]:
    return [jnp.where(f, x, 0) for x, f in zip(stacks, flags, strict=True)]


def _mean(
    stacks: Sequence[jax.Array],
    counts: Sequence[Any],
    parts: Sequence[Sequence[int]],
    roles: Sequence[LeafRole] | None,
) -> jax.Array:
    total = sum((x.sum() for x in stacks), jnp.zeros(()))
    if roles is not None:
        kernels = [
            part if x.ndim > 2 else [] for part, x in zip(parts, stacks, strict=True)
        ]
        total = jnp.where(_has_hidden_layer(kernels, counts, roles), total, 0)
    # XLA does not copy a division, nor the sums before it, into every leaf's program.
    return total / jnp.maximum(sum(jnp.sum(jnp.asarray(x)) for x in counts), 1)


def _has_hidden_layer(
    kernels: Sequence[Sequence[int]], counts: Sequence[Any], roles: Sequence[LeafRole]
) -> Any:
    """Return whether some network moves kernels of two or more layers.

    ``counts`` are how many entries of each leaf move; ``kernels`` are the leaves.
    """
    layer_of = [(role.network, role.position) for role in roles]
    layers = sorted({layer_of[i] for part in kernels for i in part})
    networks = sorted({network for network, _ in layers})
    place = {layer: number for number, layer in enumerate(layers)}
    moving = jnp.zeros(len(layers))
    for part, count in zip(kernels, counts, strict=True):
        if part:  # a product: XLA compiles no program for each leaf
            member = np.zeros((len(part), len(layers)), np.float32)
            member[range(len(part)), [place[layer_of[i]] for i in part]] = 1
            moving += (jnp.asarray(count) > 0).astype(jnp.float32) @ member
    owner = np.array([[n == network for network in networks] for n, _ in layers])
    if not layers:
        return False
    some = (moving > 0).astype(jnp.float32)
    return jnp.any(some @ owner.astype(np.float32) >= 2)
