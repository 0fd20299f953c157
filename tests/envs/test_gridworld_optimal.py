"""Optimal values of grid worlds, against enumeration."""

import functools

import jax
import jax.numpy as jnp
import pytest

from learned_opt_rl.envs import gridworld
from tests import oracle_gridworld
from tests.gridworlds import KEY, crowded_random_mode, distribution, draw, each, mode_of

pytestmark = pytest.mark.usefixtures("quick_compilation")


def rectangle(actions):
    """Two by three cells with a wall and two objects, one of them ending much."""
    kinds = [(1, (0.2, 1), (0.2, 0.9), (0.1, 0.5)), (1, (-1, 0.5), 0.1, (0.1, 0.5))]
    levels = distribution(2, 3, kinds, walls=(".#.", "..."), max_steps=6)
    return mode_of(levels, actions=actions)


@functools.partial(jax.jit, static_argnames="mode")
@functools.partial(jax.vmap, in_axes=(0, None))
def solve(level, mode):
    return gridworld.value_table(level, mode), gridworld.optimal_return(level, mode)


@pytest.mark.parametrize("actions", ["five", "drawn"])
def test_optimal_values_by_enumeration(actions):
    mode, levels = draw(rectangle(actions), 4)
    tables, optima = solve(levels, mode)
    assert len(set(levels.auto_collect.tolist())) == (2 if actions == "drawn" else 1)
    for i, level in enumerate(each(levels)):
        expected = oracle_gridworld.values(level, mode.num_actions)
        for (cell, (one, two)), value in expected.items():
            found = tables[i, 0, cell + 6 * (one + 2 * two)]
            assert float(found) == pytest.approx(value, abs=1e-5)
        best = expected[int(level.start), (True, True)]
        assert float(optima[i]) == pytest.approx(best, abs=1e-5)
    assert optima.max() > 0


def test_actions_lead_where_the_rules_say():
    mode, levels = draw(rectangle("drawn"), 4)
    cells, actions = jnp.array([0, 2, 3, 4, 5]), jnp.arange(mode.num_actions)
    every = jax.vmap(jax.vmap(gridworld.effect, (None, None, 0)), (None, 0, None))
    every = jax.jit(every)
    for level in each(levels):
        to, place = every(jax.tree.map(jnp.asarray, level), cells, actions)
        for i, cell in enumerate(cells.tolist()):
            for action in actions.tolist():
                expected = oracle_gridworld.effect(level, cell, action)
                found = int(to[i, action]), int(place[i, action])
                assert found == tuple(-1 if c is None else c for c in expected)


def test_no_optimal_return_with_random_placement():
    mode = crowded_random_mode("five")
    level = gridworld.sample_level(KEY, mode)
    with pytest.raises(ValueError, match="mode 'mine' places objects at random"):
        gridworld.optimal_return(level, mode)
    with pytest.raises(ValueError, match="mode 'mine' places objects at random"):
        gridworld.value_table(level, mode)
