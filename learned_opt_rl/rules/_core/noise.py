"""Random keys that live in an optimizer's state, and the noise drawn from them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt_rl.features import LeafRole


def init_key(params: Any, seed: int, key: jax.Array | None) -> jax.Array:
    """Return key data for the state of an agent with these initial parameters.

    The bits of the parameters are folded in: agents that ``vmap`` trains side by
    side from one ``tx`` start differently, and so draw different noise. The same
    seed and parameters always give the same key, on any number of devices
    (integer sums do not depend on the order).

    Args:
        params: Pytree of floating parameters.
        seed: Seed, used where ``key`` is ``None``.
        key: A jax random key, typed or raw.

    Returns:
        uint32 key data: plain arrays, which every checkpointer can store.
    """
    base = jax.random.key(seed) if key is None else typed(key)
    salt = jnp.zeros((), jnp.uint32)
    for leaf in jax.tree.leaves(params):
        bits = jax.lax.bitcast_convert_type(leaf.astype(jnp.float32), jnp.uint32)
        salt += jnp.sum(bits, dtype=jnp.uint32)
    return jax.random.key_data(jax.random.fold_in(base, salt))


def split_key(data: jax.Array, like: jax.Array | None) -> tuple[jax.Array, jax.Array]:
    """Split a state's key in two.

    Args:
        data: uint32 key data of the state.
        like: The key the state began from, which fixes the generator; ``None``
            for jax's default.

    Returns:
        Key data for the next state, and a typed key for this step.
    """
    impl = None if like is None else jax.random.key_impl(typed(like))
    following, now = jax.random.split(jax.random.wrap_key_data(data, impl=impl))
    return jax.random.key_data(following), now


def exploration_noise(
    key: jax.Array, leaves: Sequence[jax.Array], roles: Sequence[LeafRole]
) -> jax.Array:
    """Draw standard normal noise for the actor's parameters, zeros for the critic's.

    Args:
        key: Typed key of this step.
        leaves: The parameters; only their sizes are used.
        roles: One per leaf; whether noise is added.

    Returns:
        float32 ``[n]`` for all n parameters, in leaf order.
    """
    sizes = [leaf.size for leaf in leaves]
    explored = [role.explored for role in roles]
    count = sum(n for n, flag in zip(sizes, explored, strict=True) if flag)
    drawn, pieces = jax.random.normal(key, (count,), jnp.float32), []
    start = 0
    for n, flag in zip(sizes, explored, strict=True):
        pieces.append(drawn[start : start + n] if flag else jnp.zeros(n, jnp.float32))
        start += n if flag else 0
    return jnp.concatenate(pieces)


def typed(key: jax.Array) -> jax.Array:
    """Return a typed key from either kind of jax key."""
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return key
    return jax.random.wrap_key_data(key)
