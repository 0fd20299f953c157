"""Levels of grid worlds, and how to draw them."""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from learned_opt_rl.envs.gridworld.modes import LevelDistribution, Mode


class Level(NamedTuple):
    """One level, in arrays with the size of its mode's frame.

    Cells are numbered by rows of the level itself, ``row * width + column``. A level
    smaller than the frame uses the first numbers.

    Attributes:
        height: int32 scalar, rows.
        width: int32 scalar, columns.
        walls: bool ``[num_cells]``.
        start: int32 scalar, the cell where episodes begin.
        num_objects: int32 scalar; later slots are unused.
        types: int32 ``[num_slots]``, the type of the object in each slot.
        cells: int32 ``[num_slots]``, each object's cell; unused with random placement.
        rewards: float32 ``[num_slots]``, for collecting the object.
        p_terminate: float32 ``[num_slots]``, probability that collecting the object
            ends the episode.
        p_respawn: float32 ``[num_slots]``, per step while the object is absent.
        max_steps: int32 scalar, length of the longest episode.
        auto_collect: bool scalar, whether entering a cell collects its objects.
    """

    height: jax.Array
    width: jax.Array
    walls: jax.Array
    start: jax.Array
    num_objects: jax.Array
    types: jax.Array
    cells: jax.Array
    rewards: jax.Array
    p_terminate: jax.Array
    p_respawn: jax.Array
    max_steps: jax.Array
    auto_collect: jax.Array

    @property
    def free(self) -> jax.Array:
        """Cells inside the level that are not walls, bool ``[num_cells]``."""
        inside = jnp.arange(self.walls.shape[-1]) < self.height * self.width
        return inside & ~self.walls


@functools.partial(jax.jit, static_argnames="mode")
def sample_level(key: jax.Array, mode: Mode) -> Level:
    """Draw a level; `vmap` over keys for many.

    The start and each object have a cell of their own, never a wall. Some free cells
    may be unreachable.

    References:
        Jackson et al. 2023 (GROOVE), which puts objects on walls if there are too few
        free cells. Here modes guarantee enough free cells.

    Example:
        >>> import jax
        >>> from learned_opt_rl.envs.gridworld import get_mode
        >>> level = sample_level(jax.random.key(0), get_mode("dense"))
        >>> level.height.item(), level.rewards.tolist()
        (11, [1.0, 1.0, -1.0, -1.0])
    """
    slots, cells = mode.num_slots, mode.num_cells
    scalars, places, order, properties = _uniforms(
        key, (5,), (slots + 1,), (cells,), (3, mode.num_types)
    )
    part, size, objects, steps, auto = scalars
    reward, terminate, respawn = properties
    rows = _bounds(mode)
    index = _integer(part, jnp.array([0, len(mode.levels) - 1]))
    bounds = {name: jnp.asarray(x)[index] for name, x in rows.items()}
    height = _integer(size, bounds["heights"])
    width = _integer(size, bounds["widths"])
    num_objects = _integer(objects, bounds["num_objects"])
    walls, types = bounds["walls"], bounds["types"]
    free = (jnp.arange(cells) < height * width) & ~walls
    if rows["num_walls"].any():
        drawn = _draw_walls(order, free, bounds["num_walls"], num_objects)
        walls, free = walls | drawn, free & ~drawn
    wanted = jnp.arange(slots + 1) <= num_objects
    start, *objects = draw_cells(places, free, wanted)
    return Level(
        height=height,
        width=width,
        walls=walls,
        start=start,
        num_objects=num_objects,
        types=types,
        cells=jnp.stack(objects),
        rewards=_between(reward, bounds["rewards"])[types],
        p_terminate=_log_uniform(terminate, bounds["p_terminate"])[types],
        p_respawn=_log_uniform(respawn, bounds["p_respawn"])[types],
        max_steps=_log_uniform_integer(steps, bounds["max_steps"]),
        auto_collect=auto < {"drawn": 0.5, "eighteen": 0.0}.get(mode.actions, 1.0),
    )


def sample_lifetime(key: jax.Array, mode: Mode) -> jax.Array:
    """Draw the number of updates in an agent's life, int32 scalar.

    Example:
        >>> import jax
        >>> from learned_opt_rl.envs.gridworld import get_mode
        >>> sample_lifetime(jax.random.key(0), get_mode("all_shortlife")).item()
        250
    """
    bounds = jnp.array(mode.lifetime, jnp.float32)
    return _log_uniform_integer(jax.random.uniform(key), bounds)


def draw_cells(uniform: jax.Array, free: jax.Array, wanted: jax.Array) -> jax.Array:
    """Draw distinct cells for objects, int32 ``[n]``.

    ``uniform`` are n random numbers in [0, 1), ``free`` bool ``[num_cells]`` has the
    cells to choose from, at least as many as are wanted, and ``wanted`` bool ``[n]``
    the draws that count. The other draws take no cell away.
    """
    numbers = jnp.arange(free.shape[0])
    cells = []
    for i in range(wanted.shape[0]):
        rank = jnp.cumsum(free)
        choice = jnp.minimum((uniform[i] * rank[-1]).astype(jnp.int32), rank[-1] - 1)
        cell = jnp.minimum(jnp.sum(rank <= choice), free.shape[0] - 1)
        free = free & ~(wanted[i] & (numbers == cell))
        cells.append(cell.astype(jnp.int32))
    return jnp.stack(cells)


def check_level(level: Level, mode: Mode) -> None:
    """Raise unless a level fits a mode's frame and can be played.

    Of traced arrays only the shapes are checked.
    """
    per_slot = ("types", "cells", "rewards", "p_terminate", "p_respawn")
    shapes = {"walls": (mode.num_cells,), **dict.fromkeys(per_slot, (mode.num_slots,))}
    for name, array in level._asdict().items():
        if jnp.shape(array) != shapes.get(name, ()):
            raise ValueError(
                f"level.{name} has shape {jnp.shape(array)}, but mode {mode.name!r} "
                f"needs {shapes.get(name, ())}"
            )
    if not any(isinstance(x, Tracer) for x in level):
        _check_values(jax.tree.map(np.asarray, level), mode)


def _check_values(level: Level, mode: Mode) -> None:
    if level.height * level.width > mode.num_cells or (
        mode.observation == "image"
        and (level.height > mode.height or level.width > mode.width)
    ):
        raise ValueError(
            f"level is {level.height} by {level.width}, larger than the frame of mode "
            f"{mode.name!r}, {mode.height} by {mode.width}"
        )
    if not 1 <= level.num_objects <= mode.num_slots:
        raise ValueError(
            f"level.num_objects={level.num_objects} must be 1 to {mode.num_slots}"
        )
    cells = {"start": [level.start]}
    if not mode.random_placement:
        cells["cells"] = list(level.cells[: level.num_objects])
    for name, places in cells.items():
        for cell in places:
            if not 0 <= cell < level.height * level.width or level.walls[cell]:
                raise ValueError(
                    f"level.{name} is at {cell}, which is a wall or outside the grid "
                    f"of {level.height} by {level.width} cells"
                )
    if mode.actions != "drawn" and level.auto_collect != (mode.actions != "eighteen"):
        raise ValueError(
            f"level.auto_collect={bool(level.auto_collect)} does not fit "
            f"actions={mode.actions!r}: only the eighteen collect on demand"
        )


@functools.lru_cache
def _bounds(mode: Mode) -> dict[str, np.ndarray]:
    """Stack a mode's distributions into arrays; intervals are the last axis."""
    rows = [_row(levels, mode) for levels in mode.levels]
    return {name: np.stack([row[name] for row in rows]) for name in rows[0]}


def _row(levels: LevelDistribution, mode: Mode) -> dict[str, np.ndarray]:
    types = np.zeros(mode.num_slots, np.int32)
    types[: len(levels.slots)] = levels.slots
    walls = np.zeros(mode.num_cells, bool)
    layout = "".join(levels.walls)
    walls[: len(layout)] = [mark == "#" for mark in layout]
    properties = np.zeros((3, mode.num_types, 2), np.float32)
    for i, kind in enumerate(levels.objects):
        properties[:, i] = kind.reward, kind.p_terminate, kind.p_respawn
    return {
        "heights": np.array(levels.heights, np.int32),
        "widths": np.array(levels.widths, np.int32),
        "num_objects": np.array(levels.num_objects, np.int32),
        "max_steps": np.array(levels.max_steps, np.float32),
        "num_walls": np.array(levels.num_walls, np.int32),
        "types": types,
        "walls": walls,
        **dict(zip(("rewards", "p_terminate", "p_respawn"), properties, strict=True)),
    }


def _draw_walls(
    order: jax.Array, free: jax.Array, number: jax.Array, num_objects: jax.Array
) -> jax.Array:
    """Return the first free cells in a random order that leave room for objects."""
    room = jnp.sum(free) - num_objects - 1
    chosen = order < _nth(order, number)
    return free & chosen & (order < _nth(jnp.where(free, order, 1.0), room))


def _nth(values: jax.Array, n: jax.Array) -> jax.Array:
    """Return the smallest value that has n smaller ones; 1 if there is none."""
    return jnp.append(jnp.sort(values), 1.0)[n]


def _uniforms(key: jax.Array, *shapes: tuple[int, ...]) -> list[jax.Array]:
    """Draw uniform numbers of several shapes in one call, which compiles faster."""
    ends = np.cumsum([math.prod(shape) for shape in shapes])
    parts = jnp.split(jax.random.uniform(key, (int(ends[-1]),)), ends[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]


def _integer(uniform: jax.Array, bounds: jax.Array) -> jax.Array:
    low, high = bounds[0], bounds[1]
    drawn = low + (uniform * (high - low + 1)).astype(jnp.int32)
    return jnp.minimum(drawn, high)


def _between(uniform: jax.Array, bounds: jax.Array) -> jax.Array:
    low, high = bounds[..., 0], bounds[..., 1]
    return low + (high - low) * uniform


def _log_uniform(uniform: jax.Array, bounds: jax.Array) -> jax.Array:
    """Return log-uniform numbers; exactly the bound where both are equal, even 0."""
    logs = jnp.log(jnp.maximum(bounds, jnp.finfo(jnp.float32).tiny))
    drawn = jnp.exp(_between(uniform, logs))
    return jnp.where(bounds[..., 0] == bounds[..., 1], bounds[..., 0], drawn)


def _log_uniform_integer(uniform: jax.Array, bounds: jax.Array) -> jax.Array:
    return jnp.round(_log_uniform(uniform, bounds)).astype(jnp.int32)
