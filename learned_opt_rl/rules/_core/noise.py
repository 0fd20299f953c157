"""Keys of the exploration noise, as plain arrays that every file format holds.

The state has a key's uint32 words, whose number names the generator: two words are
threefry's and four are rbg's, whatever ``jax_default_prng_impl`` is when a run resumes.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

# unsafe_rbg has four words as well and draws rbg's numbers, so it resumes as rbg.
_GENERATORS = {2: "threefry2x32", 4: "rbg"}


def typed(key: Any) -> jax.Array:
    """Return typed jax keys; the number of raw uint32 words names the generator.

    Raises:
        TypeError: ``key`` is not an array.
        ValueError: The words belong to no generator that jax has.
    """
    if not isinstance(key, jax.Array | np.ndarray):
        raise TypeError(
            f"key={key!r} must be a jax random key; give jax.random.key(...)"
        )
    if jnp.issubdtype(key.dtype, jax.dtypes.prng_key):
        return jnp.asarray(key)
    words = np.shape(key)[-1] if np.ndim(key) else 0
    if words not in _GENERATORS or key.dtype != jnp.uint32:
        raise ValueError(
            f"a noise key is {key.dtype}{list(np.shape(key))}, not uint32 words of "
            "threefry (2) or rbg (4); pass jax.random.key(...)"
        )
    return jax.random.wrap_key_data(jnp.asarray(key), impl=_GENERATORS[words])


def advance(words: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Return the words for the next state, and a typed key for this step."""
    following, now = jax.random.split(typed(words))
    return jax.random.key_data(following), now


def words_like(keys: jax.Array, words: jax.Array) -> jax.Array:
    """Return typed keys as words of the generator that ``words`` belong to."""
    count = words.shape[-1]
    data = jax.random.key_data(keys)
    if data.shape[-1] != count:
        flat = keys.reshape(-1)
        data = jax.vmap(lambda key: jax.random.bits(key, (count,), jnp.uint32))(flat)
    return data.reshape(words.shape)
