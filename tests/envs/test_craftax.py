import importlib.util
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl import envs
from learned_opt_rl.envs._craftax import with_shared_resets
from tests import probe_envs


class World(NamedTuple):
    ground: jax.Array
    left: jax.Array


class Mine(probe_envs.Probe):
    """Craftax's interface: ``ground`` says which world; lasts ``action`` more steps."""

    num_actions = 5

    def reset(self, key, params):
        ground = jax.random.uniform(key, (3,))
        return ground[:1], World(ground, jnp.int32(9))

    def step(self, key, state, action, params):
        state = World(state.ground, jnp.minimum(state.left - 1, action))
        reward = state.ground.sum()
        return state.ground[:1], state, reward, state.left <= 0, {"score": reward}


@pytest.fixture
def mine():
    return with_shared_resets(Mine(), None, "mine")


def batch(env, num):
    _, states = env.reset_many(jax.random.key(0), num)
    return states


def test_those_that_end_get_new_worlds_and_the_others_keep_theirs(mine):
    states = batch(mine, 48)
    actions = jnp.full(48, 4).at[jnp.array([3, 20, 41])].set(0)
    stepped = mine.step_many(jax.random.key(1), states, actions)
    old, new = states.env.ground, stepped.state.env.ground
    changed = (old != new).all(-1)
    assert np.flatnonzero(changed).tolist() == [3, 20, 41]
    np.testing.assert_array_equal(stepped.done, changed)
    np.testing.assert_array_equal(stepped.observation, new[:, :1])
    # Three end and three worlds are drawn (one per 16): nobody shares.
    assert len(np.unique(new, axis=0)) == 48
    np.testing.assert_array_equal(
        stepped.state.env.left, jnp.where(changed, 9, actions)
    )


def test_worlds_are_shared_evenly_when_there_are_too_few(mine):
    stepped = mine.step_many(jax.random.key(1), batch(mine, 48), jnp.zeros(48, int))
    worlds, counts = np.unique(stepped.state.env.ground, axis=0, return_counts=True)
    assert counts.tolist() == [16, 16, 16]
    again = mine.step_many(jax.random.key(2), batch(mine, 48), jnp.zeros(48, int))
    assert not np.isin(worlds, again.state.env.ground).any()


def test_a_small_batch_draws_one_world(mine):
    stepped = mine.step_many(jax.random.key(1), batch(mine, 4), jnp.zeros(4, int))
    assert len(np.unique(stepped.state.env.ground, axis=0)) == 1


def test_episodes_are_accounted_for_as_one_by_one(mine):
    states = batch(mine, 4)
    actions = jnp.array([0, 3, 0, 1])
    keys = jax.random.split(jax.random.key(1), 4)
    together = mine.step_many(jax.random.key(1), states, actions)
    for i in range(4):
        state = jax.tree.map(lambda x, i=i: x[i], states)
        alone = mine.step(keys[i], state, actions[i])
        assert float(alone.reward) == float(together.reward[i])
        assert bool(alone.done) == bool(together.done[i])
        for field in ("episode_return", "episode_length", "last_return", "last_length"):
            assert getattr(alone.state, field) == getattr(together.state, field)[i]
    assert together.state.last_length.tolist() == [1, 0, 1, 0]


def test_one_alone_resets_itself_to_a_world_of_its_own(mine):
    _, state = mine.reset(jax.random.key(0))
    on = mine.step(jax.random.key(1), state, 4)
    np.testing.assert_array_equal(on.state.env.ground, state.env.ground)
    over = [mine.step(jax.random.key(i), state, 0).state.env.ground for i in (1, 2)]
    assert not np.isin(over[0], [*state.env.ground, *over[1]]).any()


def test_agents_side_by_side_and_long_play(mine):
    envs.check(mine, steps=30)
    states = jax.vmap(lambda key: mine.reset_many(key, 3)[1])(
        jax.random.split(jax.random.key(0), 2)
    )
    stepped = jax.vmap(mine.step_many)(
        jax.random.split(jax.random.key(1), 2), states, jnp.zeros((2, 3), int)
    )
    assert len(np.unique(stepped.state.env.ground.reshape(6, 3), axis=0)) == 2


@pytest.mark.slow
@pytest.mark.skipif(
    importlib.util.find_spec("craftax") is None,
    reason="the extra craftax is not installed",
)
@pytest.mark.usefixtures("quick_compilation")
def test_craftax_itself():
    env = envs.make("Craftax-Classic-Symbolic-v1")
    assert (env.observation_shape, env.num_actions) == ((1345,), 17)
    assert "craftax" in dict(env.details)
    envs.check(env, steps=50)
    _, states = env.reset_many(jax.random.key(0), 2)
    states = states._replace(env=states.env.replace(player_health=jnp.array([9, 0])))
    stepped = jax.jit(env.step_many)(jax.random.key(1), states, jnp.zeros(2, int))
    assert stepped.done.tolist() == [False, True]
    maps = stepped.state.env.map
    assert (maps[0] == states.env.map[0]).all()
    assert (maps[1] != states.env.map[1]).any()
