"""Delayed chains."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import envs
from learned_opt_rl.agents import LPGConfig, lpg
from learned_opt_rl.envs import chain
from tests.rules import lpg_cases

pytestmark = pytest.mark.usefixtures("quick_compilation")

KEY = jax.random.key(0)


@functools.partial(jax.jit, static_argnames=("name", "steps"))
def play(keys, name, steps):
    """Agents that play at random, each with three workers; first states, steps."""
    env = chain.environment(name)

    def agent(key):
        def step(state, key):
            action = jax.random.bernoulli(key, shape=(3,)).astype(int)
            stepped = env.step_many(key, state, action)
            return stepped.state, (state, action, stepped)

        shown, first = env.reset_many(key, 3)
        return shown, jax.lax.scan(step, first, jax.random.split(key, steps))[1]

    return jax.vmap(agent)(keys)


def played(name, agents=20, steps=120):
    return jax.tree.map(np.asarray, play(jax.random.split(KEY, agents), name, steps))


@pytest.mark.parametrize("name", ["short", "short_noisy"])
def test_only_the_first_action_counts_and_only_the_end_tells(name):
    _, (before, action, stepped) = played(name)
    lengths = before.env.length
    assert (lengths == lengths[:, :1, :1]).all()  # of all workers, for all time
    assert len(set(lengths[:, 0, 0].tolist())) > 5
    returns = stepped.state.last_return
    for i, j in np.ndindex(20, 3):
        t, length = 0, int(lengths[i, 0, j])
        while t + length <= 120:
            good = before.env.first_is_good[i, t, j]
            expected = 1.0 if (action[i, t, j] == 0) == good else -1.0
            rewards = stepped.reward[i, t : t + length, j]
            done = stepped.done[i, t : t + length, j]
            assert done.tolist() == [False] * (length - 1) + [True]
            assert rewards[-1] == expected
            if name == "short":
                assert not rewards[:-1].any()
            else:
                assert (abs(rewards[:-1]) == 1).all()
            t += length
            assert returns[i, t - 1, j] == rewards.sum()
    noise = stepped.reward[~stepped.done].mean()
    assert abs(noise) < 0.05


def test_states_are_numbered_without_gaps():
    shown, (before, _, stepped) = played("short")
    assert (stepped.observation.sum(-1) == 1).all() and (shown.sum(-1) == 1).all()
    state, index = stepped.state.env, stepped.observation.argmax(-1)
    number = {}
    fields = (state.time, state.first_is_good, state.chose_well)
    for i, *key in zip(index.ravel(), *(x.ravel() for x in fields), strict=True):
        number.setdefault(tuple(map(int, key)), set()).add(int(i))
    assert all(len(indices) == 1 for indices in number.values())
    indices = set.union(*number.values())
    assert len(indices) == len(number)
    longest = before.env.length.max()
    assert indices == set(range(2 + 4 * (longest - 1)))
    assert shown.shape[-1] == 2 + 4 * 29


def test_the_good_action_is_drawn_in_each_episode():
    _, (_, _, stepped) = played("short")
    good = stepped.state.env.first_is_good[stepped.done]
    assert good.mean() == pytest.approx(0.5, abs=0.1)


def test_the_distractor_shows_two_bits_among_noise():
    _, (_, _, stepped) = played("distractor", agents=4)
    state = stepped.state.env
    shown = stepped.observation
    assert shown.shape[-1] == 22
    np.testing.assert_array_equal(shown[..., 0], state.first_is_good)
    np.testing.assert_array_equal(shown[..., 1], state.chose_well)
    noise = shown[..., 2:]
    assert set(np.unique(noise)) == {0, 1}
    assert noise.mean((0, 1, 2)) == pytest.approx(0.5, abs=0.08)
    assert (noise[:, 1:] != noise[:, :-1]).any(-1).all()
    assert not state.chose_well[state.time == 0].any()


@pytest.mark.parametrize(("name", "longest"), [("short", 30), ("long", 50)])
def test_lengths_cover_their_range(name, longest):
    mode = chain.get_mode(name)
    keys = jax.random.split(KEY, 2000)
    lengths = jax.jit(jax.vmap(lambda key: chain.sample_length(key, mode)))(keys)
    assert set(lengths.tolist()) == set(range(5, longest + 1))


@pytest.mark.parametrize("name", chain.NAMES)
def test_modes(name):
    mode = chain.get_mode(name)
    assert (mode.min_length, mode.max_length) == (5, 50 if "long" in name else 30)
    assert (mode.noisy, mode.distractor) == ("noisy" in name, name == "distractor")
    env = envs.make(f"chain/{name}")
    assert env.optimal_return == 1.0
    assert (env.name, env.num_actions) == (f"chain/{name}", 2)
    assert env is envs.make(f"chain/{name}")


def test_an_agent_learns_by_a_rule():
    rule = lpg_cases.reinforce(0.5, "descend")
    env = chain.environment(chain.Mode("tiny", 2, 2))
    config = LPGConfig(8000, num_envs=32, num_steps=10, hidden=())
    train = jax.jit(lpg.make_train(config, env, rule, optax.sgd(2.0)))
    returns = train(KEY).returns
    assert returns[-5:].mean() > 0.8 and returns[:2].mean() < 0.5


def test_what_is_refused():
    with pytest.raises(ValueError, match="'shrt' is unknown; did you mean 'short'"):
        chain.environment("shrt")
    with pytest.raises(ValueError, match="length=31 must be 5 to 30 in mode 'short'"):
        chain.environment("short", length=31)
    with pytest.raises(ValueError, match="min_length=1 must be at least 2"):
        chain.Mode("mine", 1, 3)
    with pytest.raises(ValueError, match="no more than max_length=3"):
        chain.Mode("mine", 4, 3)


def test_lengths_can_be_vmapped():
    def end(length):
        env = chain.environment("short", length=length)
        _, state = env.reset(KEY)
        return env.step(KEY, state, 0).state.env.length

    assert jax.jit(jax.vmap(end))(jnp.array([5, 9])).tolist() == [5, 9]
