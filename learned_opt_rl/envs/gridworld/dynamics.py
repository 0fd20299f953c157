"""Grid worlds as environments: moving, collecting, observing."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.envs.adapter import Environment, sharing_draws
from learned_opt_rl.envs.gridworld.levels import (
    Level,
    check_level,
    draw_cells,
    sample_level,
)
from learned_opt_rl.envs.gridworld.modes import Actions, Mode, get_mode

# Up, down, left, right, stay, then the diagonals: GROOVE's five come first.
_ROWS = np.array([-1, 1, 0, 0, 0, -1, -1, 1, 1], np.int32)
_COLUMNS = np.array([0, 0, -1, 1, 0, -1, 1, -1, 1], np.int32)
_NOWHERE = -1  # No object ever has this cell.
_TIME = 0.001  # GROOVE's scale of the time in observations.


class State(NamedTuple):
    """A state of a grid world.

    Attributes:
        level: The level of all episodes.
        position: int32 scalar, the agent's cell.
        cells: int32 ``[num_slots]``, the objects' cells.
        present: bool ``[num_slots]``, whether each object is present.
        time: int32 scalar, steps since the episode began.
    """

    level: Level
    position: jax.Array
    cells: jax.Array
    present: jax.Array
    time: jax.Array


def effect(
    level: Level, position: jax.Array, action: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Return an action's next cell, and the cell that it collects from, or -1.

    An agent that would leave the grid or enter a wall stays. A diagonal move needs only
    its target cell to be free. All arguments and results are int32 scalars.
    """
    direction = action % 9
    row = position // level.width + jnp.asarray(_ROWS)[direction]
    column = position % level.width + jnp.asarray(_COLUMNS)[direction]
    cell = row * level.width + column
    inside = (row >= 0) & (row < level.height) & (column >= 0) & (column < level.width)
    reachable = inside & ~level.walls[cell]
    target = jnp.where(reachable, cell, position)
    reaches_out = ~level.auto_collect & (action >= 9)
    collects_at = jnp.where(
        level.auto_collect,
        target,
        jnp.where(reaches_out & reachable, cell, _NOWHERE),
    )
    return jnp.where(reaches_out, position, target), collects_at


def begin(key: jax.Array, level: Level, mode: Mode) -> State:
    """Return the first state of an episode: every object is present.

    Only random placement uses the key.
    """
    used = jnp.arange(mode.num_slots) < level.num_objects
    cells = level.cells
    if mode.random_placement:
        elsewhere = level.free & (jnp.arange(mode.num_cells) != level.start)
        uniform = jax.random.uniform(key, (mode.num_slots,))
        cells = draw_cells(uniform, elsewhere, used)
    return State(level, level.start, cells, used, jnp.int32(0))


def transition(
    key: jax.Array, state: State, action: jax.Array, mode: Mode
) -> tuple[State, jax.Array, jax.Array]:
    """Take one step, without a reset at the end of an episode.

    The agent collects objects that were present before the step. Then absent objects
    may respawn, but not those collected in this step.

    Returns:
        The state after it, the reward (float32 scalar), and whether the episode is
        over (bool scalar), by an object or by its length.

    References:
        Jackson et al. 2023 (GROOVE), ``environments/gridworld``. With random placement
        GROOVE confuses walls with cell numbers, so its objects can appear on walls.
    """
    level, slots = state.level, mode.num_slots
    # One draw for all events: the end, each slot's respawn, and each slot's new cell.
    chance = jax.random.uniform(key, (1 + 2 * slots,))
    position, collects_at = effect(level, state.position, action)
    collected = state.present & (state.cells == collects_at)
    used = jnp.arange(slots) < level.num_objects
    appeared = (chance[1 : 1 + slots] < level.p_respawn) & ~state.present & used
    cells = state.cells
    if mode.random_placement:
        places = _place(chance[1 + slots :], state, position, appeared)
        cells = jnp.where(appeared, places, cells)
    present = (state.present & ~collected) | appeared
    end = chance[0] < jnp.sum(level.p_terminate * collected)
    time = state.time + 1
    reward = jnp.sum(level.rewards * collected)
    done = end | (time >= level.max_steps)
    return State(level, position, cells, present, time), reward, done


def step(
    key: jax.Array, state: State, action: jax.Array, mode: Mode
) -> tuple[State, jax.Array, jax.Array]:
    """Take one step as `transition` does, and start the next episode at the end."""
    begin_key, key = jax.random.split(key)
    after, reward, done = transition(key, state, action, mode)
    first = begin(begin_key, state.level, mode)
    return jax.tree.map(lambda f, a: jnp.where(done, f, a), first, after), reward, done


def observe(state: State, mode: Mode) -> jax.Array:
    """Return the observation of a state.

    Args:
        state: The state.
        mode: Its ``observation`` defines the form:

            ``"tabular"``: one-hot over cell of the agent and presence of each object,
            ``cell + num_cells * sum(2**i * present[i])``, and then time / 1000.

            ``"flat"``: one-hot over the cells of the agent, the cells of present
            objects in one block per type, and time / 1000.

            ``"image"``: the cells of ``"flat"`` as an image ``[height, width, 1 +
            num_types]``, with a smaller level in the upper left corner; no time.

    Returns:
        float32, of shape ``mode.observation_shape``.
    """
    if mode.observation == "image":
        return _layers(state, mode).T.reshape(mode.observation_shape)
    if mode.observation == "flat":
        shown = _layers(state, mode).reshape(-1)
    else:
        shown = jax.nn.one_hot(_index(state, mode), mode.num_cells * 2**mode.num_slots)
    return jnp.append(shown, _TIME * state.time)


def _observe_index(state: State, mode: Mode) -> jax.Array:
    return jnp.stack([_index(state, mode).astype(jnp.float32), _TIME * state.time])


def _index(state: State, mode: Mode) -> jax.Array:
    present = jnp.sum(jnp.where(state.present, 2 ** np.arange(mode.num_slots), 0))
    return state.position + mode.num_cells * present


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

    def build(observe: Any, shape: tuple[int, ...]) -> Environment:
        def first(key: jax.Array, level: Level) -> tuple[jax.Array, State]:
            state = begin(key, level, mode)
            return observe(state, mode), state

        def then(key: jax.Array, state: State, action: Any) -> Any:
            state, reward, done = step(key, state, action, mode)
            return observe(state, mode), state, reward, done

        return sharing_draws(
            f"gridworld/{mode.name}",
            draw,
            first,
            then,
            observation_shape=shape,
            num_actions=mode.num_actions,
            details=(("actions", mode.actions), ("observation", mode.observation)),
        )

    indexed = mode.observation == "tabular"
    tabular = build(_observe_index, (2,)) if indexed else None
    return build(observe, mode.observation_shape).with_tabular(tabular)


def _layers(state: State, mode: Mode) -> jax.Array:
    """Return ``[1 + num_types, num_cells]``: the agent, then objects by type."""
    cells = jnp.append(state.position, state.cells)
    if mode.observation == "image":  # Number cells by the frame, not the level.
        width = state.level.width
        cells = cells // width * mode.width + cells % width
    shown = jax.nn.one_hot(cells, mode.num_cells)
    shown = shown * jnp.append(True, state.present)[:, None]
    types = jax.nn.one_hot(state.level.types, mode.num_types, axis=0)
    objects = jnp.max(types[:, :, None] * shown[None, 1:], axis=1)
    return jnp.concatenate([shown[:1], objects])


def _place(
    uniform: jax.Array, state: State, position: jax.Array, appeared: jax.Array
) -> jax.Array:
    """Return new, distinct cells, neither the agent's nor a wall."""
    numbers = jnp.arange(state.level.walls.shape[0])
    taken = jnp.any(
        (numbers[:, None] == state.cells[None]) & state.present[None], axis=1
    )
    vacant = state.level.free & ~taken & (numbers != position)
    return draw_cells(uniform, vacant, appeared)
