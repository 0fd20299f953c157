"""The environments of lifetimes: levels, lifetimes and optimal returns."""

import dataclasses
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
        env: The environment.
        lifetime: The fewest and the most updates of an agent's life.
        draw_lifetime: ``key -> int32 scalar``.
        optimal_return: ``states of an agent's workers -> float32 scalar``, jitted; the
            undiscounted return of the best policy.
        longest_episode: The most steps of an episode.
        estimated: Whether objects respawn in random cells. Nobody computes the optimal
            return of such levels; theirs is that of the level in which every object
            respawns where it was first. It is a scale of returns, not a bound.
    """

    env: Environment
    lifetime: tuple[int, int]
    draw_lifetime: Callable[[jax.Array], jax.Array]
    optimal_return: Callable[[EpisodeState], jax.Array]
    longest_episode: int
    estimated: bool = False


@functools.cache
def task(name: str) -> Task:
    """Return the task of an environment.

    Raises:
        ValueError: The environment is unknown, or is neither grid world nor chain.
    """
    env = envs.make(name)
    family, _, mode = name.partition("/")
    if family not in ("gridworld", "chain"):
        raise ValueError(
            f"environments={name!r}: has no levels to draw for each lifetime; take a "
            "grid world or a chain, for example gridworld/small"
        )
    if family == "chain":
        return _chain(env, chain.get_mode(mode))
    return _gridworld(env, gridworld.get_mode(mode))


def _chain(env: Environment, mode: chain.Mode) -> Task:
    def optimal_return(states: Any) -> jax.Array:
        del states
        return jnp.float32(chain.OPTIMAL_RETURN)

    def lifetime(key: jax.Array) -> jax.Array:
        del key
        return jnp.int32(mode.lifetime)

    bounds = mode.lifetime, mode.lifetime
    return Task(env, bounds, lifetime, optimal_return, mode.max_length)


def _gridworld(env: Environment, mode: gridworld.Mode) -> Task:
    fixed = dataclasses.replace(mode, random_placement=False)

    def optimal_return(states: Any) -> jax.Array:
        # All workers of an agent play the same level.
        level = jax.tree.map(lambda x: x[0], states.env.level)
        return gridworld.optimal_return(level, fixed)

    bounds = int(mode.lifetime[0]), int(mode.lifetime[1])
    draw = functools.partial(gridworld.sample_lifetime, mode=mode)
    longest, random = mode.max_steps, mode.random_placement
    return Task(env, bounds, draw, jax.jit(optimal_return), longest, random)
