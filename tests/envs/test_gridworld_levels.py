"""The levels that modes of grid worlds draw."""

from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl.envs import gridworld
from tests.gridworlds import KEY, distribution, draw, each, mode_of

pytestmark = pytest.mark.usefixtures("quick_compilation")

HALF = pytest.approx(0.5, abs=0.03)


def check_valid(mode, levels):
    """Start and objects on free cells of their own; walls inside; sizes as stated."""
    for level in each(levels):
        size = int(level.height) * int(level.width)
        assert not level.walls[size:].any()
        n = int(level.num_objects)
        places = [int(level.start), *map(int, level.cells[:n])]
        assert len(set(places)) == 1 + n
        assert all(0 <= cell < size and not level.walls[cell] for cell in places)
        assert 1 <= n <= mode.num_slots and 1 <= level.max_steps <= mode.max_steps
        assert level.height <= mode.height and level.width <= mode.width
        assert ((level.p_terminate >= 0) & (level.p_terminate <= 1)).all()


def share(interval, values):
    """Where log-uniform values lie in their interval."""
    low, high = np.log(interval)
    return (np.log(values) - low) / (high - low)


def test_levels_are_drawn_from_the_stated_distributions():
    mode, levels = draw("all", 4000)
    check_valid(mode, levels)
    assert (levels.height == levels.width).all()
    for values, choices in [
        (levels.height, range(4, 11)),
        (levels.num_objects, range(1, 6)),
    ]:
        counts = Counter(values.tolist())
        assert sorted(counts) == list(choices)
        expected = 4000 / len(choices)
        assert all(abs(n - expected) < 5 * expected**0.5 for n in counts.values())
    for i, (low, high) in enumerate([(0, 1)] + [(-1, 1)] * 4):
        scaled = (levels.rewards[:, i] - low) / (high - low)
        assert (scaled.min() >= 0, scaled.max() <= 1, scaled.mean()) == (1, 1, HALF)
    for values, interval in [
        (levels.p_terminate, (0.01, 1)),
        (levels.p_respawn, (0.001, 0.1)),
        (levels.max_steps, (19.5, 750.5)),
    ]:
        scaled = share(interval, values)
        assert scaled.min() > -1e-6 and scaled.max() < 1 + 1e-6
        assert scaled.mean() == HALF
        assert scaled.std() == pytest.approx(12**-0.5, abs=0.02)
    assert not np.isclose(levels.rewards[:, 1], levels.rewards[:, 2]).any()
    assert (levels.types == np.arange(5)).all() and levels.auto_collect.all()


def test_walls_inside_are_a_share_of_all_that_are_drawn():
    _, levels = draw("all", 4000)
    for side in (4, 7, 10):
        walls = levels.walls[levels.height == side].sum(-1)
        assert walls.mean() == pytest.approx(0.15 * side**2, rel=0.06)
    assert (levels.walls[levels.height == 10].sum(-1) == 15).all()


def test_starts_and_objects_are_anywhere():
    _, levels = draw("all", 4000)
    small = levels.height == 4
    for cells in (levels.start[small], levels.cells[small, 0]):
        counts = np.bincount(cells, minlength=16)
        assert len(counts) == 16 and counts.min() > 0.5 * counts.mean()


def test_mixtures_draw_each_of_their_modes():
    mode, levels = draw("mazes", 900)
    check_valid(mode, levels)
    layouts = Counter(walls.tobytes() for walls in levels.walls)
    names = [name for name in gridworld.NAMES if "maze" in name or "rooms" in name]
    assert len(layouts) == 9 and len(names) == 6
    assert all(60 <= number <= 140 for number in layouts.values())
    mode, levels = draw("tabular", 100)
    check_valid(mode, levels)
    assert set(levels.height.tolist()) == {9, 11, 13}
    found = {tuple(level.rewards[: level.num_objects]) for level in each(levels)}
    assert found == {
        (1, 1, -1, -1),
        (1, -1),
        (1, 1, -1, -1, -1),
        (1, 1, 1, 1),
    }


def test_crowded_levels_keep_room_for_start_and_objects():
    mode, levels = draw(mode_of(distribution(2, 3, [(3, 1, 0, 0)], num_walls=6)), 50)
    check_valid(mode, levels)
    assert (levels.walls.sum(-1) == 2).all()
    assert len({walls.tobytes() for walls in levels.walls}) > 5


def test_lifetimes():
    mode = gridworld.get_mode("all_vrandlife")
    keys = jax.random.split(KEY, 2000)
    sample = jax.jit(jax.vmap(lambda key: gridworld.sample_lifetime(key, mode)))
    lifetimes = sample(keys)
    assert lifetimes.dtype == jnp.int32
    assert (lifetimes.min(), lifetimes.max()) == (10, 250)
    assert share((9.5, 250.5), np.asarray(lifetimes)).mean() == HALF


@pytest.mark.slow
@pytest.mark.parametrize("name", gridworld.NAMES)
def test_thousands_of_levels_of_every_mode(name):
    mode, levels = draw(name, 3000)
    check_valid(mode, levels)
    for level in list(each(levels))[:20]:
        gridworld.environment(mode, level=level)  # which checks it
