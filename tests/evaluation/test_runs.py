import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import envs
from learned_opt_rl.agents import LPGConfig, PPOConfig, make_train
from learned_opt_rl.agents.lpg import make_loop as make_lpg_loop
from learned_opt_rl.evaluation.runs import run
from learned_opt_rl.evaluation.runs.rules import Rule
from learned_opt_rl.rules import lpg
from tests import probe_envs
from tests.conftest import quickly_compiled

CONFIG = PPOConfig(1024, num_envs=4, num_steps=32, minibatches=4, hidden=(8,))


pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def probe():
    return envs.adapt(probe_envs.NamedAction())


@pytest.fixture(scope="module")
def finished(probe):
    """The rows of two seeds, and the rollouts that were reported."""
    calls = []
    with quickly_compiled():
        rows = run.run(
            *("adam:1e-2", probe, CONFIG, [3, 5]),
            on_rollout=lambda i, _: calls.append(int(i)),
        )
    return rows, calls


def test_rows_are_json_and_complete(finished):
    rows, calls = finished
    written = json.loads(json.dumps(rows[0].to_json(), allow_nan=False))
    assert written["config"]["num_envs"] == 4
    assert run.Row.from_json(written) == rows[0]
    assert [row.seed for row in rows] == [3, 5]
    assert calls == [*range(1, 9)]
    first = rows[0]
    assert first.rule == "adam:1e-2"
    assert first.environment == "NamedAction"
    assert first.total_timesteps == 1024
    assert first.num_agents == 2
    assert len(first.curve) == 8
    assert first.final_return == first.curve[-1]
    assert first.diverged is False
    assert first.steps_per_second == pytest.approx(2048 / first.wall_seconds)
    assert first.compile_seconds > 0
    assert first.versions["jax"] == jax.__version__


def test_a_run_is_the_agents_own_loop_reported_at_most_a_hundred_times(probe):
    config = dataclasses.replace(CONFIG, total_timesteps=128 * 205, epochs=1)
    calls = []
    (row,) = run.run(
        "adam:1e-2", probe, config, [4], on_rollout=lambda *call: calls.append(call)
    )
    _, key = jax.random.split(jax.random.key(4))
    train = make_train(config, probe, optax.adam(1e-2))
    np.testing.assert_allclose(row.curve, jax.jit(train)(key).returns, atol=1e-6)
    assert [rollouts for rollouts, _ in calls] == [*range(2, 205, 2), 205]
    assert [mean for _, mean in calls] == [*row.curve[1::2], row.final_return]


def test_rules_see_the_same_agents_and_learned_ones_a_key_per_seed(probe):
    still = optax.set_to_zero()

    def noisy(key):
        def init(params):
            return jax.random.normal(key)

        def update(updates, state, params=None):
            return jax.tree.map(lambda g: g * 0 + 100 * state, updates), state

        return optax.GradientTransformation(init, update)

    first = run.run(lambda key: still, probe, CONFIG, [0, 1], name="still")
    assert first[0].curve != first[1].curve
    other = run.run(noisy, probe, CONFIG, [0, 1], name="noisy")
    # The first rollout is played before the first update.
    assert [row.curve[0] for row in other] == [row.curve[0] for row in first]
    assert other[0].curve != first[0].curve


def test_divergence_is_recorded_and_stays_with_its_seed(probe):
    def sometimes(key):
        """Bad for the seed whose key says so, from the third update on."""
        bad = jax.random.uniform(key) < 0.5

        def update(updates, count, params=None):
            scale = jnp.where(bad & (count > 1), jnp.nan, -1e-3)
            return jax.tree.map(lambda g: g * scale, updates), count + 1

        return optax.GradientTransformation(lambda params: jnp.int32(0), update)

    seeds = [0, 1, 2, 3]
    rows = run.run(sometimes, probe, CONFIG, seeds, name="sometimes")
    keys = [jax.random.split(jax.random.key(seed))[0] for seed in seeds]
    expected = [bool(jax.random.uniform(key) < 0.5) for key in keys]
    assert True in expected and False in expected
    assert [row.diverged for row in rows] == expected
    updates = CONFIG.num_updates - 2
    assert [row.nan_updates for row in rows] == [updates * bad for bad in expected]
    assert all(np.isfinite(row.final_return) for row in rows)


def test_devices_share_the_seeds(probe, finished):
    shared = run.run("adam:1e-2", probe, CONFIG, [7, 3, 9, 5], devices=2)
    assert [row.seed for row in shared] == [7, 3, 9, 5]
    # One of each device.
    for row, other in zip(finished[0], shared[1::2], strict=True):
        assert row.seed == other.seed
        assert row.config == other.config
        np.testing.assert_allclose(row.curve, other.curve, atol=1e-5)
        np.testing.assert_allclose(row.dormant, other.dormant, atol=1e-5)
    with pytest.raises(ValueError, match="devices=2 does not divide the 3 seeds"):
        run.run("adam:1e-2", probe, CONFIG, [3, 5, 7], devices=2)


def test_an_lpg_agent_runs_by_an_update_rule(probe):
    architecture = lpg.Architecture(width=4)
    rule = lpg.UpdateRule(lpg.init(jax.random.key(0), architecture), architecture)
    chosen = Rule(lambda key: optax.adam(1e-3), update_rule=rule)
    config = LPGConfig(640, num_envs=4, num_steps=20, hidden=(4,))
    (row,) = run.run(chosen, probe, config, [2], name="lpg")
    assert row.agent == "lpg"
    assert row.dormant == []
    start, iterate = make_lpg_loop(config, probe, rule, optax.adam(1e-3))
    runner = start(jax.random.split(jax.random.key(2))[1])
    for _ in range(config.num_updates):
        runner = jax.jit(iterate)(runner)
    np.testing.assert_allclose(row.final_return, runner.mean_return, atol=1e-6)


class Penalty(probe_envs.Probe):
    """Costs 1 a step; episodes are longer than a rollout."""

    length = 80

    def reward(self, state, action):
        return jnp.float32(-1)


def test_there_is_no_return_before_an_episode_ends():
    env, reported = envs.adapt(Penalty()), []
    config = dataclasses.replace(CONFIG, total_timesteps=128 * 3)
    (row,) = run.run(
        "sgd:0.1", env, config, [0], on_rollout=lambda _, mean: reported.append(mean)
    )
    assert row.curve == [None, None, -80]
    assert (row.auc, row.final_return, row.diverged) == (-80, -80, False)
    np.testing.assert_array_equal(reported, [np.nan, np.nan, -80])
    config = dataclasses.replace(CONFIG, total_timesteps=128)
    with jax.debug_nans(True):
        (row,) = run.run("sgd:0.1", env, config, [0])
    assert (row.curve, row.auc, row.final_return) == ([None], None, None)
    json.dumps(row.to_json(), allow_nan=False)


def test_a_number_of_seeds_counts_from_0():
    config = PPOConfig(256, num_envs=4, num_steps=32, minibatches=4)
    rows = run.run("adam:1e-3", "CartPole-v1", config, seeds=2)
    assert [row.seed for row in rows] == [0, 1]
    with pytest.raises(ValueError, match=r"seeds=range\(0, 0\) is empty"):
        run.run("adam:1e-3", "CartPole-v1", config, seeds=0)


def test_agents_without_a_return_are_left_out_of_the_mean():
    assert run._mean(np.array([np.nan, 2.0, np.inf, 4.0])) == 3
    assert np.isnan(run._mean(jnp.array([jnp.nan])))


def test_long_curves_of_dormancy_are_thinned_to_the_last():
    values = np.arange(1, 1001) / 1000
    thinned = run._thinned(values)
    assert len(thinned) == 200
    assert thinned[-1] == 1.0
    np.testing.assert_allclose(np.diff(thinned), 0.005)
    assert run._thinned(np.array([np.nan, 0.5])) == [None, 0.5]
    assert run._thinned(np.full(3, np.nan)) == []


def test_refusals(probe):
    with pytest.raises(ValueError, match=r"seeds=\[\] is empty"):
        run.run("adam:1e-3", probe, CONFIG, [])
    with pytest.raises(ValueError, match="needs a name"):
        run.run(lambda key: optax.sgd(1.0), probe, CONFIG, [0])
    with pytest.raises(ValueError, match="nothing is tuned"):
        run.run("adam", probe, CONFIG, [0])
