"""Drawing and building levels of grid worlds for tests."""

import functools

import jax
import numpy as np

from learned_opt_rl.envs import gridworld

KEY = jax.random.key(0)


def distribution(*args, **kwargs):
    kwargs = {"max_steps": 10, **kwargs}
    return gridworld.LevelDistribution(*args, **kwargs)


def mode_of(levels, **kwargs):
    return gridworld.Mode("mine", (levels,), **kwargs)


@functools.cache
def draw(name, number):
    """Many levels, as NumPy arrays with a leading axis."""
    mode = gridworld.get_mode(name) if isinstance(name, str) else name
    keys = jax.random.split(KEY, number)
    levels = jax.jit(jax.vmap(lambda key: gridworld.sample_level(key, mode)))(keys)
    return mode, jax.tree.map(np.asarray, levels)


def each(levels):
    for i in range(len(levels.start)):
        yield gridworld.Level(*(x[i] for x in levels))


def crowded_random_mode(actions="drawn"):
    walls = ("..#.", "....", ".#..")
    kinds = [(3, 1, 0, 0.5), (2, -1, 0.1, 1)]
    levels = distribution(3, 4, kinds, walls=walls, max_steps=40)
    return mode_of(levels, observation="image", random_placement=True, actions=actions)
