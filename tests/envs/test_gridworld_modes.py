"""Modes of grid worlds, and what is refused."""

import re

import jax
import jax.numpy as jnp
import pytest

from learned_opt_rl.envs import gridworld
from tests.gridworlds import KEY, distribution, mode_of

OBJECT = (1, 1, 0, 0)


def test_the_papers_configurations_where_groove_simplifies():
    longer = gridworld.get_mode("paper_longer")
    assert (longer.height, longer.width, longer.num_slots) == (7, 9, 7)
    assert longer.levels[0].walls == ()
    assert gridworld.get_mode("longer").levels[0].walls[0] == "....#...."
    names = [name for name in gridworld.NAMES if name.startswith("paper_")]
    assert len(names) == 10
    for name in names:
        mode = gridworld.get_mode(name)
        assert mode.actions == "drawn"
        assert mode.random_placement == ("rand" in name)
        assert mode.lifetime[0] * 1280 == pytest.approx(
            3e7 if "rand" in name else 3e6, rel=1e-3
        )


def test_unknown_names_get_the_nearest_ones():
    with pytest.raises(ValueError, match="name='all_shortlif'.*all_shortlife"):
        gridworld.environment("all_shortlif")
    with pytest.raises(ValueError, match="actions='six'.*five, nine"):
        gridworld.environment("all", actions="six")  # pyright: ignore


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: distribution(0, 3, [OBJECT]), r"heights=0 must lie in [1, inf]"),
        (lambda: distribution((5, 3), 3, [OBJECT]), "heights=(5, 3) must lie"),
        (lambda: distribution(3, 3, []), "objects=() must have"),
        (lambda: distribution(3, 3, [(0, 1, 0, 0)]), "number=0"),
        (lambda: distribution(3, 3, [(1, 1, 2, 0)]), "p_terminate=2 must lie"),
        (
            lambda: distribution(3, 3, [(1, 1, 0, (0, 1))]),
            "p_respawn=(0, 1) is log-uniform",
        ),
        (lambda: distribution(3, 3, [OBJECT], num_objects=2), "num_objects=2 must"),
        (lambda: distribution(3, 3, [OBJECT], max_steps=0), "max_steps=0 must"),
        (lambda: distribution(1, 2, [(2, 1, 0, 0)]), "has 2 free ones, but needs 3"),
        (
            lambda: distribution(1, 3, [OBJECT], walls=["##."]),
            "1 by 3 cells has 1 free ones, but needs 2",
        ),
        (lambda: distribution(2, 3, [OBJECT], walls=["..."]), "walls have 1 rows"),
        (lambda: distribution(2, 3, [OBJECT], walls=["...", ".."]), "walls have 2"),
        (lambda: gridworld.Mode("mine", ()), "levels=() must"),
        (
            lambda: mode_of(distribution(3, 3, [OBJECT]), random_placement=True),
            'observation="tabular" has no place',
        ),
        (
            lambda: mode_of(distribution(3, 3, [OBJECT]), observation="words"),
            "observation='words' must be one of tabular, flat, image",
        ),
        (
            lambda: mode_of(distribution(3, 3, [OBJECT]), lifetime=0),
            "lifetime=0 must lie",
        ),
    ],
)
def test_impossible_modes_are_refused(build, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        build()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start": 9}, "level.start is at 9, which is a wall or outside"),
        ({"start": 4}, "level.start is at 4, which is a wall or outside"),
        ({"cells": jnp.array([4])}, "level.cells is at 4"),
        ({"walls": jnp.zeros(8, bool)}, "level.walls has shape (8,), but mode 'mine'"),
        ({"rewards": jnp.zeros(2)}, "level.rewards has shape (2,)"),
        ({"height": 4}, "level is 4 by 3, larger than the frame of mode 'mine', 3 by"),
        ({"num_objects": 2}, "level.num_objects=2 must be 1 to 1"),
        ({"auto_collect": False}, "level.auto_collect=False does not fit"),
    ],
)
def test_levels_that_do_not_fit_are_refused(changes, message):
    levels = distribution(3, 3, [OBJECT], walls=("...", ".#.", "..."))
    mode = mode_of(levels)
    level = gridworld.sample_level(KEY, mode)
    gridworld.environment(mode, level=level)
    with pytest.raises(ValueError, match=re.escape(message)):
        gridworld.environment(mode, level=level._replace(**changes))


def test_every_name_makes_an_environment():
    assert len(set(gridworld.NAMES)) == 41
    for name in gridworld.NAMES:
        assert gridworld.environment(name).name == f"gridworld/{name}"
    observation, _ = jax.eval_shape(gridworld.environment("all").reset, KEY)
    assert observation.shape == (3201,)
