"""Grid worlds as environments for agents."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt_rl.envs.adapter import Environment, sharing_draws
from learned_opt_rl.envs.gridworld import dynamics
from learned_opt_rl.envs.gridworld.levels import Level, check_level, sample_level
from learned_opt_rl.envs.gridworld.modes import Actions, Mode, get_mode


def environment(
    mode: str | Mode, *, actions: Actions | None = None, level: Level | None = None
) -> Environment:
    """Build an environment of a mode's levels, or of one level.

    An agent's environments share a level, which ``reset_many`` draws from its key. The
    state has it as ``state.env.level``, and it stays the same for all episodes.

    Args:
        mode: A name of `NAMES`, or a mode of your own.
        actions: Actions that replace the mode's.
        level: Use this level instead of a drawn one. The level may be traced, so a
            function that builds an environment can be vmapped over levels.

    Raises:
        ValueError: A name is unknown, or the level does not fit the mode.

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

    def draw(key: jax.Array) -> Level:
        return sample_level(key, mode) if level is None else level

    def begin(key: jax.Array, level: Level) -> tuple[jax.Array, dynamics.State]:
        state = dynamics.begin(key, level, mode)
        return dynamics.observe(state, mode), state

    def step(key: jax.Array, state: dynamics.State, action: Any) -> Any:
        state, reward, done = dynamics.step(key, state, action, mode)
        return dynamics.observe(state, mode), state, reward, done

    return sharing_draws(
        f"gridworld/{mode.name}",
        draw,
        begin,
        step,
        observation_shape=mode.observation_shape,
        num_actions=mode.num_actions,
        details=(("actions", mode.actions), ("observation", mode.observation)),
    )
