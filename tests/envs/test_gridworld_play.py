"""Playing grid worlds: rules, episodes, workers."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import envs
from learned_opt_rl.agents import PPOConfig, ppo
from learned_opt_rl.envs import gridworld
from tests import oracle_gridworld
from tests.gridworlds import KEY, crowded_random_mode, distribution, each, mode_of

pytestmark = pytest.mark.usefixtures("quick_compilation")


@functools.cache
def played(mode, agents=16, steps=200):
    """Random play, each agent on its own level: first states, actions, steps."""
    env = gridworld.environment(mode)

    @jax.jit
    @jax.vmap
    def play(key):
        def step(state, key):
            action = jax.random.randint(key, (), 0, mode.num_actions)
            stepped = env.step(key, state, action)
            return stepped.state, (action, stepped)

        _, first = env.reset(key)
        return first, *jax.lax.scan(step, first, jax.random.split(key, steps))[1]

    return jax.tree.map(np.asarray, play(jax.random.split(KEY, agents)))


def test_with_random_placement_nobody_is_on_a_wall_or_on_another():
    _, _, stepped = played(crowded_random_mode())
    state = jax.tree.map(np.asarray, stepped.state.env)
    assert len(np.unique(state.level.auto_collect)) == 2
    free = [0, 1, 3, 4, 5, 6, 7, 8, 10, 11]
    assert set(np.unique(state.position)) == set(free)
    assert set(np.unique(state.cells)) == set(free)
    present = [
        cells[there]
        for cells, there in zip(
            state.cells.reshape(-1, 5), state.present.reshape(-1, 5), strict=True
        )
    ]
    assert all(len(set(cells)) == len(cells) for cells in present)
    assert len(np.unique(stepped.reward)) > 2
    image = np.asarray(stepped.observation)  # [agents, steps, 3, 4, 3]
    shown = image.reshape(-1, 12, 3)
    np.testing.assert_array_equal(shown[..., 0].argmax(-1), state.position.ravel())
    positive = [set(c[:3][p[:3]]) for c, p in zip(*flat(state), strict=True)]
    assert positive == [set(np.flatnonzero(row)) for row in shown[..., 1]]


def flat(state):
    return state.cells.reshape(-1, 5), state.present.reshape(-1, 5)


def test_objects_are_placed_anew_in_each_episode_away_from_the_start():
    first, _, stepped = jax.tree.map(lambda x: x[0], played(crowded_random_mode()))
    state = stepped.state.env
    starts = np.flatnonzero(stepped.done)
    assert len(starts) > 5
    assert (state.position[starts] == first.env.level.start).all()
    assert (state.time[starts] == 0).all() and state.present[starts].all()
    assert len({tuple(cells) for cells in state.cells[starts]}) > 5
    assert (state.cells[starts] != first.env.level.start).all()


def test_play_agrees_with_the_rules_and_the_account():
    mode = dataclasses.replace(gridworld.get_mode("debug"), actions="drawn")
    first, actions, stepped = played(mode, agents=8, steps=100)
    levels = list(each(first.env.level))
    assert {bool(level.auto_collect) for level in levels} == {False, True}
    assert stepped.reward.any() and stepped.done.any()
    for i, level in enumerate(levels):
        position, total, length = int(level.start), 0.0, 0
        for t, action in enumerate(actions[i]):
            position, _ = oracle_gridworld.effect(level, position, int(action))
            total, length = total + stepped.reward[i, t], length + 1
            state = jax.tree.map(lambda x, i=i, t=t: x[i, t], stepped.state)
            if stepped.done[i, t]:
                assert state.last_return == pytest.approx(total, abs=1e-5)
                assert state.last_length == length
                position, total, length = int(level.start), 0.0, 0
            assert state.env.position == position
            assert state.episode_return == pytest.approx(total, abs=1e-5)
            assert state.episode_length == state.env.time == length
            assert length < level.max_steps


def one_object(**changes):
    """A corridor of three cells, the object in the last, always there."""
    mode = mode_of(distribution(1, 3, [(1, 1, 0, 1)]))
    level = gridworld.sample_level(KEY, mode)
    level = level._replace(start=jnp.int32(0), cells=jnp.array([2], jnp.int32))
    return mode, level._replace(**changes)


@functools.partial(jax.jit, static_argnames="mode")
def steps(mode, level, actions):
    env = gridworld.environment(mode, level=level)

    def step(state, action):
        stepped = env.step(KEY, state, action)
        return stepped.state, (stepped.reward, stepped.state.env.time)

    return jax.lax.scan(step, env.reset(KEY)[1], actions)[1]


def walk(mode, level, actions):
    return [x.tolist() for x in steps(mode, level, jnp.array(actions))]


def test_what_respawns_on_the_agent_s_cell_is_collected_by_staying():
    rewards, times = walk(*one_object(), [3, 3, 4, 4, 4])
    # Not in the step of the collection, then in the next, collected in that after.
    assert rewards == [0, 1, 0, 1, 0]
    assert times == [1, 2, 3, 4, 5]


def test_episodes_end_by_an_object_or_by_their_length():
    rewards, times = walk(*one_object(p_terminate=jnp.ones(1)), [3, 3, 3, 3, 4])
    assert (rewards, times) == ([0, 1, 0, 1, 0], [1, 0, 1, 0, 1])
    _, times = walk(*one_object(max_steps=jnp.int32(3)), [4, 4, 4, 4, 4])
    assert times == [1, 2, 0, 1, 2]


def test_an_agent_s_environments_share_a_level_and_agents_do_not():
    env = gridworld.environment("small")
    config = PPOConfig(144, num_envs=3, num_steps=16, minibatches=1, hidden=(4,))
    start, iterate = ppo.make_loop(config, env, optax.adam(1e-2))
    start = jax.jit(jax.vmap(start))(jax.random.split(KEY, 4))
    runner = jax.jit(jax.vmap(iterate))(start)
    assert runner.observation.shape == (4, 3, *env.observation_shape)
    for level in (start.env_state.env.level, runner.env_state.env.level):
        walls = np.asarray(level.walls)
        assert (walls == walls[:, :1]).all()
        assert len({agent.tobytes() for agent in walls[:, 0]}) == 4
    after = runner.env_state.env.level
    assert jax.tree.all(jax.tree.map(jnp.array_equal, after, start.env_state.env.level))
    kernel = runner.params["actor"]["Dense_0"]["kernel"]
    assert np.isfinite(kernel).all()
    assert not jnp.array_equal(kernel, start.params["actor"]["Dense_0"]["kernel"])


def test_environments_can_be_vmapped_over_levels():
    mode = gridworld.get_mode("debug")

    @jax.jit
    @jax.vmap
    def first_reward(key, limit):
        level = gridworld.sample_level(key, mode)._replace(max_steps=limit)
        env = gridworld.environment(mode, level=level)
        _, state = env.reset_many(key, 2)
        return env.step_many(key, state, jnp.full(2, 4)).done

    done = first_reward(jax.random.split(KEY, 2), jnp.array([1, 2]))
    assert done.tolist() == [[True, True], [False, False]]


def test_names_sizes_and_details():
    env = envs.make("gridworld/rand_dense")
    assert env is envs.make("gridworld/rand_dense")
    assert (env.name, env.num_actions) == ("gridworld/rand_dense", 5)
    assert env.observation_shape == (121 * 4 + 1,)
    assert dict(env.details) == {"actions": "five", "observation": "flat"}
    assert gridworld.environment("dense", actions="nine").num_actions == 9
    env = gridworld.environment("paper_rand_small")
    assert (env.observation_shape, env.num_actions) == ((5, 7, 3), 18)
