"""Grid worlds as environments for agents."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt_rl.envs.adapter import (
    Environment,
    EpisodeState,
    Step,
    account,
    resets_of,
    start_account,
)
from learned_opt_rl.envs.gridworld import dynamics
from learned_opt_rl.envs.gridworld.levels import Level, check_level, sample_level
from learned_opt_rl.envs.gridworld.modes import Actions, Mode, get_mode


def environment(
    mode: str | Mode, *, actions: Actions | None = None, level: Level | None = None
) -> Environment:
    """Makes an environment of a mode's levels, or of one level.

    An agent's environments share a level: ``reset_many`` draws one by its key. It is
    in the state, ``state.env.level``, and stays for all episodes.

    Args:
        mode: A name of `NAMES`, or a mode of your own.
        actions: Other actions than the mode's.
        level: Always this level, instead of a drawn one. It may be traced, so that a
            function which makes an environment can be vmapped over levels.

    Returns:
        The environment.

    Raises:
        ValueError: If a name is unknown, or the level does not fit the mode.

    References:
        Oh et al. 2020, appendix A; Jackson et al. 2023 (GROOVE).

    Example:
        >>> env = environment("small", actions="nine")
        >>> env.observation_shape, env.num_actions
        ((289,), 9)
    """
    mode = get_mode(mode) if isinstance(mode, str) else mode
    if actions is not None:
        mode = dataclasses.replace(mode, actions=actions)
    if level is not None:
        check_level(level, mode)
        level = Level(*map(jnp.asarray, level))
    choose = functools.partial(_choose, level=level, mode=mode)

    def begin(key: jax.Array, level: Level) -> tuple[jax.Array, EpisodeState]:
        state = dynamics.begin(key, level, mode)
        return dynamics.observe(state, mode), start_account(state)

    reset, batched_reset = resets_of(choose, begin)

    def step(key: jax.Array, state: EpisodeState, action: Any) -> Step:
        inner, reward, done = dynamics.step(key, state.env, action, mode)
        accounted = account(state, inner, reward, done)
        return Step(dynamics.observe(inner, mode), accounted, reward, done)

    return Environment(
        f"gridworld/{mode.name}",
        reset,
        step,
        mode.observation_shape,
        mode.num_actions,
        batched_reset=batched_reset,
        details=(("actions", mode.actions), ("observation", mode.observation)),
    )


@functools.lru_cache
def make(name: str) -> Environment:
    """Builds the environment of a mode as it is; the same name, the same object.

    Args:
        name: One of `NAMES`.

    Returns:
        The environment.

    Raises:
        ValueError: If the name is unknown.

    Example:
        >>> make("all_shortlife").name
        'gridworld/all_shortlife'
    """
    return environment(name)


def _choose(key: jax.Array, level: Level | None, mode: Mode) -> Level:
    return sample_level(key, mode) if level is None else level
