"""New noise for an optimizer's state that was copied or resumed."""

from __future__ import annotations

import functools
import itertools
from typing import TypeVar

import jax
import numpy as np

from learned_opt_rl.rules._core.noise import typed, words_like
from learned_opt_rl.rules._core.transform import RuleState

State = TypeVar("State")


def reseed(state: State, key: jax.Array) -> State:
    """Return an optimizer state whose exploration noise continues from a new key.

    Everything else stays. Use it where a copy must explore differently from its
    original: for the members that population-based training replaces, or for a run that
    resumes as another seed. Rules without noise keep their state.

    Args:
        state: Any optax state that holds the state of learned optimizers, at any depth
            of ``chain``, ``multi_transform``, ``MultiSteps`` and other wrappers; also
            the stacked states of a population.
        key: jax random key; for a population, one key or a batch of keys. The state
            keeps its own generator, whatever the generator of ``key``.

    Raises:
        TypeError: ``key`` is not a jax random key.
        ValueError: The state holds no state of a learned optimizer, or the number of
            keys is not that of the agents.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from learned_opt_rl import Horizon, pretrained, reseed
        >>> tx = pretrained("minatar", horizon=Horizon(100))
        >>> state = reseed(tx.init({"w": jnp.ones(3)}), jax.random.key(1))
    """
    key, places = typed(key), itertools.count()

    def renew(node: object) -> object:
        if not isinstance(node, RuleState):
            return node
        new = functools.partial(_words, key, next(places))
        return node._replace(key=jax.tree.map(new, node.key))

    renewed = jax.tree.map(renew, state, is_leaf=lambda n: isinstance(n, RuleState))
    if next(places) == 0:
        raise ValueError(
            f"state={type(state).__name__} holds no state of a learned optimizer; pass "
            "what tx.init(params) or tx.update returned"
        )
    return renewed


def _words(key: jax.Array, place: int, words: jax.Array) -> jax.Array:
    """Return new words in the shape of the old ones, ``[*agents, words]``."""
    agents = np.shape(words)[:-1]
    if key.shape not in ((), agents):
        raise ValueError(
            f"key has shape {key.shape}, but the state is of agents {agents}; pass one "
            "key, or one for each agent"
        )
    one_each = jax.random.split(key, agents) if agents and key.shape == () else key
    folded = jax.vmap(lambda one: jax.random.fold_in(one, place))(one_each.reshape(-1))
    return words_like(folded.reshape(agents), words)
