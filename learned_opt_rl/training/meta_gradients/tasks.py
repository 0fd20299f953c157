"""The tabular environments of lifetimes: levels, lifetimes and optimal returns."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl import envs
from learned_opt_rl.envs import chain, gridworld
from learned_opt_rl.envs.adapter import Environment, EpisodeState


class Task(NamedTuple):
    """An environment for lifetimes.

    Attributes:
        env: The environment, which gives the shape of an agent's table.
        rows: Its tabular form, which agents play.
        lifetime: The fewest and the most updates of an agent's life.
        draw_lifetime: ``key -> int32 scalar``.
        optimal_return: ``states of an agent's workers -> float32 scalar``, jitted; the
            undiscounted return of the best policy.
    """

    env: Environment
    rows: Environment
    lifetime: tuple[int, int]
    draw_lifetime: Callable[[jax.Array], jax.Array]
    optimal_return: Callable[[EpisodeState], jax.Array]


@functools.cache
def task(name: str) -> Task:
    """Return the task of an environment.

    Raises:
        ValueError: The environment is unknown, or has no tabular states.
    """
    env = envs.make(name)
    family, _, mode = name.partition("/")
    if env.tabular is None or family not in ("gridworld", "chain"):
        raise ValueError(
            f"environments={name!r}: has no tabular states, which the agents of a "
            "meta-training need; take a grid world with tabular observations, for "
            "example gridworld/small, or a chain without distractor"
        )
    if family == "chain":
        return _chain(env, env.tabular, chain.get_mode(mode))
    return _gridworld(env, env.tabular, gridworld.get_mode(mode))


def _chain(env: Environment, rows: Environment, mode: chain.Mode) -> Task:
    def optimal_return(states: Any) -> jax.Array:
        del states
        return jnp.float32(chain.OPTIMAL_RETURN)

    def lifetime(key: jax.Array) -> jax.Array:
        del key
        return jnp.int32(mode.lifetime)

    bounds = mode.lifetime, mode.lifetime
    return Task(env, rows, bounds, lifetime, optimal_return)


def _gridworld(env: Environment, rows: Environment, mode: gridworld.Mode) -> Task:
    def optimal_return(states: Any) -> jax.Array:
        # All workers of an agent play the same level.
        level = jax.tree.map(lambda x: x[0], states.env.level)
        return gridworld.optimal_return(level, mode)

    bounds = int(mode.lifetime[0]), int(mode.lifetime[1])
    draw = functools.partial(gridworld.sample_lifetime, mode=mode)
    return Task(env, rows, bounds, draw, jax.jit(optimal_return))
