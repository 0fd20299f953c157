"""The environments of lifetimes: levels, lifetimes and optimal returns."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl import envs
from learned_opt_rl.envs import chain, gridworld
from learned_opt_rl.envs.adapter import Environment, EpisodeState
from learned_opt_rl.evaluation.lpg import levels


class Task(NamedTuple):
    """An environment for lifetimes.

    Attributes:
        env: The environment.
        lifetime: The fewest and the most updates of an agent's life.
        draw_lifetime: ``key -> int32 scalar``.
        optimal_return: ``states of an agent's workers -> float32 scalar``, jitted; see
            `levels.optimal_return`.
        longest_episode: The most steps of an episode.
        estimated: Whether objects respawn in random cells, so that the optimal return
            is only a scale of returns.
    """

    env: Environment
    lifetime: tuple[int, int]
    draw_lifetime: Callable[[jax.Array], jax.Array]
    optimal_return: Callable[[EpisodeState], jax.Array]
    longest_episode: int
    estimated: bool


@functools.cache
def task(name: str) -> Task:
    """Return the task of an environment.

    Raises:
        ValueError: The environment is unknown, or is neither grid world nor chain.
    """
    env = envs.make(name)
    family, _, place = name.partition("/")
    if family == "chain":
        mode = chain.get_mode(place)
        longest, random, most = mode.max_length, False, mode.lifetime
        bounds, draw = (most, most), lambda key: jnp.int32(most)
    elif family == "gridworld":
        mode = gridworld.get_mode(place)
        longest, random = mode.max_steps, mode.random_placement
        bounds = int(mode.lifetime[0]), int(mode.lifetime[1])
        draw = functools.partial(gridworld.sample_lifetime, mode=mode)
    else:
        raise ValueError(
            f"environments={name!r}: has no levels to draw for each lifetime; take a "
            "grid world or a chain, for example gridworld/small"
        )
    best = jax.jit(functools.partial(levels.optimal_return, name, estimate=random))
    return Task(env, bounds, draw, best, longest, random)
