import dataclasses
import types

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import envs
from learned_opt_rl.agents import A2CConfig, LPGConfig, PPOConfig, a2c, act, lpg, ppo
from learned_opt_rl.agents.rollouts import World, collect, form_to_play, mean_return
from learned_opt_rl.envs import adapter
from learned_opt_rl.rules import lpg as lpg_rule
from tests import probe_envs

SMALL = {"num_envs": 4, "num_steps": 4, "hidden": (8,)}
KEY = jax.random.key(0)


def make_train(agent, env, **changes):
    fields = {"total_timesteps": 32, **SMALL, **changes}
    if agent == "ppo":
        config = PPOConfig(minibatches=2, epochs=1, **fields)
        return ppo.make_train(config, env, optax.adam(1e-3))
    if agent == "a2c":
        return a2c.make_train(A2CConfig(**fields), env, optax.adam(1e-3))
    architecture = lpg_rule.Architecture(width=4)
    rule = lpg_rule.UpdateRule(lpg_rule.init(KEY, architecture), architecture)
    return lpg.make_train(LPGConfig(**fields), env, rule, optax.adam(1e-3))


def test_environments_count_once_they_have_finished_an_episode():
    state = adapter.EpisodeState(
        env=None,
        episode_return=jnp.full((3, 2), -9.0),
        episode_length=jnp.full((3, 2), 9),
        last_return=jnp.array([[0.0, 0.0], [-4.0, 0.0], [-4.0, 0.0]]),
        last_length=jnp.array([[0, 0], [2, 0], [2, 1]]),
    )
    found = mean_return(state)
    np.testing.assert_array_equal(found.value, [np.nan, -4, -2])
    np.testing.assert_array_equal(found.finished, [0, 1, 2])
    assert np.isfinite(found.mean).all()


class Long(probe_envs.NamedAction):
    length = 100


@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.parametrize("agent", ["ppo", "a2c", "lpg"])
def test_a_run_without_a_finished_episode_passes_where_nan_is_an_error(agent):
    with jax.debug_nans(True):
        result = jax.jit(make_train(agent, envs.adapt(Long())))(KEY)
        assert np.isnan(result.returns).all() and result.returns.shape == (2,)
        assert np.isnan(result.final_return)


@pytest.mark.parametrize("agent", ["ppo", "a2c", "lpg"])
@pytest.mark.parametrize(
    "name", ["CartPole-v1", "Pendulum-v1", "gridworld/rand_tiny", "chain/short"]
)
def test_networks_stay_in_32_bits_under_x64(agent, name):
    if agent == "lpg" and name == "Pendulum-v1":
        pytest.skip("LPG agents play discrete actions")
    normalized = {"normalize_observations": True, "normalize_rewards": True}
    with jax.enable_x64(True):
        train = make_train(
            agent, envs.make(name), **({} if agent == "lpg" else normalized)
        )
        result = jax.eval_shape(train, KEY)
    dtypes = {
        leaf.dtype for leaf in jax.tree.leaves((result.params, result.curve.mean))
    }
    assert dtypes == {jnp.dtype("float32")}


def test_final_observations_are_collected_only_to_bootstrap_from():
    env = envs.adapt(probe_envs.Endless())
    config = PPOConfig(64, minibatches=2, normalize_observations=True, **SMALL)
    start, _ = ppo.make_loop(config, env, optax.sgd(0.0))
    runner = jax.jit(start)(KEY)
    world = World(runner.env_state, runner.observation, runner.normalizers)
    actor = runner.params["actor"]
    _, played = collect(config, env, actor, world, KEY)
    np.testing.assert_array_equal(played.truncated[:, 0], [False, True, False, True])
    # Normalized as the other observations are: a time of 2 is above the mean.
    assert (played.final_observation[1::2] > 1).all()
    published = dataclasses.replace(config, truncation="terminate")
    _, played = collect(published, env, actor, world, KEY)
    assert played.truncated is None and played.final_observation is None


# Acting with a trained agent.


@pytest.mark.parametrize(
    "env", [probe_envs.NamedAction(), probe_envs.NamedVector()], ids=["index", "vector"]
)
def test_act_repeats_what_was_played_in_training(env):
    env = envs.adapt(env)
    config = PPOConfig(64, minibatches=2, normalize_observations=True, **SMALL)
    start, iterate = ppo.make_loop(config, env, optax.sgd(0.0))
    runner = jax.jit(lambda key: iterate(start(key)))(KEY)
    world = World(runner.env_state, runner.observation, runner.normalizers)
    _, played = collect(config, env, runner.params["actor"], world, KEY)
    action_key, _ = jax.random.split(jax.random.split(KEY, config.num_steps)[0])
    actions = act(runner, config, env, runner.observation, action_key)
    np.testing.assert_array_equal(actions, env.to_actions(played.action[0]))
    raw = act(
        runner._replace(normalizers=type(runner.normalizers)()), config, env, [3.0]
    )
    assert raw.shape == actions.shape[1:] and raw.dtype == actions.dtype


class Valve(probe_envs.Probe):
    """Opens a valve by 100 to 200 percent, and a door by whole numbers from -1."""

    def __init__(self, **space):
        self._space = types.SimpleNamespace(**space)

    def action_space(self, params):
        return self._space

    def reward(self, state, action):
        return jnp.float32(action).sum()


@pytest.mark.parametrize(
    ("space", "low", "high"),
    [
        ({"low": 100, "high": 200, "shape": (2,)}, 100, 200),
        ({"low": [-2, -2], "high": [2, 2], "shape": (2,)}, -2, 2),
        ({"n": 3, "start": -1}, -1, 1),
    ],
)
def test_a_result_acts_within_the_bounds_of_the_environment(space, low, high):
    env = envs.adapt(Valve(**space))
    config = A2CConfig(32, normalize_observations=True, **SMALL)
    result = jax.jit(a2c.make_train(config, env, optax.adam(1e-3)))(KEY)
    many = jnp.zeros((50, 1))
    drawn = np.asarray(act(result, config, env, many, KEY))
    if abs(low) == high == 2:  # The policy's own deviation of 1 fills this range.
        assert low <= drawn.min() < -1 and 1 < drawn.max() <= high
    else:
        assert drawn.min() == low and drawn.max() == high
    best = np.asarray(act(result, config, env, many))
    assert (best == best[0]).all() and low <= best.min() <= best.max() <= high
    if "n" not in space:
        np.testing.assert_allclose(best, (low + high) / 2, atol=0.2 * (high - low))


def test_act_names_an_observation_of_the_wrong_shape():
    env = envs.adapt(probe_envs.NamedAction())
    config = A2CConfig(32, **SMALL)
    start, _ = a2c.make_loop(config, env, optax.sgd(0.0))
    with pytest.raises(ValueError, match=r"shape \(4, 2\) does not end in .* \(1,\)"):
        act(start(KEY), config, env, jnp.zeros((4, 2)))


def test_agents_without_layers_play_the_tabular_form():
    env = envs.make("chain/short")
    config = A2CConfig(80, num_envs=4, hidden=())
    assert form_to_play(config, env) is env.tabular
    others = (
        {"hidden": (4,)},
        {"input_divisor": 2.0},
        {"normalize_observations": True},
    )
    for changes in others:
        assert form_to_play(dataclasses.replace(config, **changes), env) is env


@pytest.mark.parametrize("agent", ["a2c", "lpg"])
def test_the_tabular_form_changes_no_run(agent):
    env = envs.make("chain/short")
    runs = [
        jax.jit(make_train(agent, one, hidden=(), total_timesteps=320))(KEY)
        for one in (env, dataclasses.replace(env, tabular_form=None))
    ]
    for found, expected in zip(*map(jax.tree.leaves, runs), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-6)
