"""The rules of grid worlds: moving, collecting, showing."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.envs.gridworld.levels import Level, draw_cells
from learned_opt_rl.envs.gridworld.modes import Mode

# Up, down, left, right, stay, and the diagonals: the five come first.
_ROWS = np.array([-1, 1, 0, 0, 0, -1, -1, 1, 1], np.int32)
_COLUMNS = np.array([0, 0, -1, 1, 0, -1, 1, -1, 1], np.int32)
_NOWHERE = -1


class State(NamedTuple):
    """A state of a grid world.

    Attributes:
        level: What is played, for all episodes.
        position: int32 scalar, the agent's cell.
        cells: int32 ``[num_slots]``, the objects' cells.
        present: bool ``[num_slots]``, whether each of them is there.
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
    """Where an action leads, and where it collects.

    Whoever would leave the grid or enter a wall stays. Diagonal moves need only their
    own cell to be free.

    Args:
        level: The level.
        position: int32 scalar, the agent's cell.
        action: int32 scalar.

    Returns:
        Two int32 scalars: the agent's next cell, and the cell from which objects are
        collected, -1 for none.
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
    """Starts an episode: the agent at the start, every object there.

    Args:
        key: A PRNG key; used with random placement only.
        level: The level.
        mode: Its mode.

    Returns:
        The first state.
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
    """Takes one step, without starting anew at the end of an episode.

    What was there before the step is collected; then the absent may appear, but not
    what was collected just now.

    Args:
        key: A PRNG key.
        state: Before the step.
        action: int32 scalar.
        mode: The level's mode.

    Returns:
        The state after it, the reward (float32 scalar), and whether the episode is
        over (bool scalar), by an object or by its length.

    References:
        Jackson et al. 2023 (GROOVE), ``environments/gridworld``; with random placement
        it confuses walls with cell numbers, and objects can appear on walls.
    """
    level, slots = state.level, mode.num_slots
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
    """Takes one step, and starts the next episode where one is over.

    Args:
        key: A PRNG key.
        state: Before the step.
        action: int32 scalar.
        mode: The level's mode.

    Returns:
        As `transition`, with the first state of the next episode at the end of one.
    """
    begin_key, key = jax.random.split(key)
    after, reward, done = transition(key, state, action, mode)
    first = begin(begin_key, state.level, mode)
    return jax.tree.map(lambda f, a: jnp.where(done, f, a), first, after), reward, done


def observe(state: State, mode: Mode) -> jax.Array:
    """Shows a state.

    Args:
        state: The state.
        mode: Its ``observation`` says how:

            ``"tabular"``: one-hot over cell of the agent and presence of each object,
            ``cell + num_cells * sum(2**i * present[i])``, and then time / 1000.

            ``"flat"``: one-hot over cells of the agent, the cells of present objects,
            one block per type, and time / 1000.

            ``"image"``: the same as a picture ``[height, width, 1 + num_types]``,
            a smaller level in its upper left corner; without the time.

    Returns:
        float32, of shape ``mode.observation_shape``.
    """
    if mode.observation == "image":
        return _layers(state, mode).T.reshape(mode.observation_shape)
    if mode.observation == "flat":
        shown = _layers(state, mode).reshape(-1)
    else:
        present = jnp.sum(jnp.where(state.present, 2 ** np.arange(mode.num_slots), 0))
        index = state.position + mode.num_cells * present
        shown = jax.nn.one_hot(index, mode.num_cells * 2**mode.num_slots)
    return jnp.append(shown, 0.001 * state.time)


def _layers(state: State, mode: Mode) -> jax.Array:
    """``[1 + num_types, num_cells]``: where the agent is, and objects of each type."""
    cells = jnp.append(state.position, state.cells)
    if mode.observation == "image":  # as the frame numbers them, not the level
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
    """New cells: not the agent's, not a wall, and no two objects on one."""
    numbers = jnp.arange(state.level.walls.shape[0])
    taken = jnp.any(
        (numbers[:, None] == state.cells[None]) & state.present[None], axis=1
    )
    vacant = state.level.free & ~taken & (numbers != position)
    return draw_cells(uniform, vacant, appeared)
