"""Optimal returns of grid worlds, by value iteration over a finite horizon."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.envs.gridworld.dynamics import effect
from learned_opt_rl.envs.gridworld.levels import Level
from learned_opt_rl.envs.gridworld.modes import Mode


@functools.partial(jax.jit, static_argnames="mode")
def optimal_return(level: Level, mode: Mode) -> jax.Array:
    """Return the undiscounted return per episode of an agent that knows the level.

    The result is a float32 scalar; `vmap` over a batch of levels.

    Raises:
        ValueError: As `action_values`.

    Example:
        >>> import jax
        >>> from learned_opt_rl.envs.gridworld import get_mode, sample_level
        >>> mode = get_mode("small")
        >>> level = sample_level(jax.random.key(0), mode)
        >>> bool(optimal_return(level, mode) >= 0)
        True
    """
    values_of = action_values(level, mode)

    def earlier(_: jax.Array, value: jax.Array) -> jax.Array:
        return jnp.max(values_of(value), axis=1)

    end = jnp.zeros((2**mode.num_slots, mode.num_cells))
    first = jax.lax.fori_loop(0, level.max_steps, earlier, end)
    all_present = 2**level.num_objects - 1
    return first[all_present, level.start]


@functools.partial(jax.jit, static_argnames=("mode", "horizon"))
def value_table(level: Level, mode: Mode, horizon: int | None = None) -> jax.Array:
    """Return the optimal values of all states at all times.

    Args:
        level: The level.
        mode: The level's mode.
        horizon: Times to compute; the values are right only if it is at least
            ``level.max_steps``. By default the mode's longest episode.

    Returns:
        float32 ``[horizon, 2**num_slots * num_cells]``, by the index of the tabular
        observation; -inf where the level has no such state, 0 from ``level.max_steps``
        on.

    Raises:
        ValueError: As `action_values`.

    Example:
        >>> import jax
        >>> from learned_opt_rl.envs.gridworld import get_mode, sample_level
        >>> mode = get_mode("debug")
        >>> value_table(sample_level(jax.random.key(0), mode), mode).shape
        (10, 64)
    """
    values_of = action_values(level, mode)
    unused = np.arange(2**mode.num_slots) >= 2**level.num_objects
    invalid = unused[:, None] | ~level.free[None, :]

    def earlier(value: jax.Array, time: jax.Array) -> tuple[jax.Array, jax.Array]:
        running = time < level.max_steps
        value = jnp.where(running, jnp.max(values_of(value), axis=1), 0.0)
        return value, jnp.where(running & invalid, -jnp.inf, value)

    horizon = mode.max_steps if horizon is None else horizon
    end = jnp.zeros((2**mode.num_slots, mode.num_cells))
    _, values = jax.lax.scan(earlier, end, jnp.arange(horizon), reverse=True)
    return values.reshape(horizon, -1)


def action_values(level: Level, mode: Mode) -> Callable[..., jax.Array]:
    """Return a function ``(value, discount=1.0) -> [presence, action, cell]``.

    Its ``value`` is the value of next states, ``[presence, cell]``. Presence is a
    binary number, so both orders are that of the tabular observation's index.

    Slots appear and vanish independently. The expectation over the next presence is
    therefore a sum of two terms per slot, not a sum over all pairs of presences.

    Raises:
        ValueError: Objects are placed at random, which makes too many states.
    """
    if mode.random_placement:
        raise ValueError(
            f"mode {mode.name!r} places objects at random, so its optimal return is "
            "not computable; choose a mode with random_placement=False"
        )
    slots = np.arange(mode.num_slots)
    present = (np.arange(2**mode.num_slots)[:, None] >> slots[None]) & 1
    cells, actions = jnp.arange(mode.num_cells), jnp.arange(mode.num_actions)
    reach = jax.vmap(jax.vmap(effect, (None, 0, None)), (None, None, 0))
    position, collects_at = reach(level, cells, actions)  # [actions, cells] each
    used = jnp.arange(mode.num_slots) < level.num_objects
    here = (level.cells[:, None, None] == collects_at[None]) & used[:, None, None]
    collected = present[:, :, None, None] * here[None]  # [presence, slots, ...]
    weigh = jax.vmap(lambda x: jnp.sum(collected * x[None, :, None, None], 1))
    reward, p_end = weigh(jnp.stack([level.rewards, level.p_terminate]))
    p_go_on = 1 - jnp.minimum(p_end, 1.0)
    p_respawn = jnp.where(used, level.p_respawn, 0.0)

    def of_actions(value: jax.Array, discount: jax.Array | float = 1.0) -> jax.Array:
        following = value[:, position]
        shape = following.shape
        following = following.reshape(*(2,) * mode.num_slots, *shape[1:])
        for i in range(mode.num_slots):
            axis = mode.num_slots - 1 - i  # The first slot is the last binary digit.
            absent, there = jnp.moveaxis(following, axis, 0)
            still = jnp.where(
                here[i].reshape((1,) * (absent.ndim - 2) + shape[1:]), absent, there
            )
            absent = (1 - p_respawn[i]) * absent + p_respawn[i] * there
            following = jnp.stack([absent, still], axis)
        return reward + discount * p_go_on * following.reshape(shape)

    return of_actions
