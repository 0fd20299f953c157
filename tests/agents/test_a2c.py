"""A2C on the probe environments, and against the oracle."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import envs
from learned_opt_rl.agents import A2CConfig, a2c
from learned_opt_rl.agents.networks import apply_mlp
from tests import oracle_ppo, probe_envs
from tests.agents.test_ppo import PROBLEMS, as_jax, greedy, random_problem, values

pytestmark = pytest.mark.usefixtures("quick_compilation")

CONFIG = A2CConfig(
    25_600, num_envs=8, num_steps=8, gamma=0.5, hidden=(16,), activation="tanh"
)


def train(env, optimizer=None, config=CONFIG):
    run = a2c.make_train(config, envs.adapt(env), optimizer or optax.adam(2e-2))
    return jax.jit(run)(jax.random.key(0))


# The slow probes are easier ones of the same kind, to tell where a failure lies.


@pytest.mark.slow
def test_learns_a_constant_value():
    np.testing.assert_allclose(
        values(train(probe_envs.ConstantReward()), 0), [1], atol=0.1
    )


def test_learns_a_value_told_by_the_observation():
    result = train(probe_envs.ObservedReward())
    np.testing.assert_allclose(values(result, -1, 1), [-1, 1], atol=0.1)


def test_discounts_and_does_not_look_past_the_end():
    result = train(probe_envs.DelayedReward())
    np.testing.assert_allclose(values(result, 0, 1), [0.5, 1], atol=0.1)


@pytest.mark.parametrize(
    ("truncation", "expected"),
    [
        ("bootstrap", [2, 2]),  # 1 / (1 - 0.5), as if nothing cut the episode
        # The published loop: nothing follows the second step.
        pytest.param("terminate", [1.5, 1], marks=pytest.mark.slow),
    ],
)
def test_what_follows_a_time_limit(truncation, expected):
    config = dataclasses.replace(CONFIG, truncation=truncation)
    result = train(probe_envs.Endless(), config=config)
    # The value of the second step rests on an observation never acted on.
    np.testing.assert_allclose(values(result, 0, 1), expected, atol=0.25)


@pytest.mark.slow
def test_learns_a_policy():
    result = train(probe_envs.RewardedAction())
    assert greedy(result, 0) == [1]
    assert result.final_return > 0.9


def test_learns_a_policy_told_by_the_observation():
    result = train(probe_envs.NamedAction())
    assert greedy(result, -1, 1) == [0, 1]
    assert result.final_return > 0.9


def test_learns_a_continuous_policy_told_by_the_observation():
    config = dataclasses.replace(CONFIG, total_timesteps=51_200, ent_coef=0.0)
    result = train(probe_envs.NamedVector(), config=config)
    x = jnp.array([[-1.0], [1.0]])
    mean, _ = apply_mlp(result.params["actor"], x, "tanh")
    np.testing.assert_allclose(mean, [[-0.5], [0.5]], atol=0.15)
    assert result.final_return > 0.9


def test_a_tabular_agent_is_one_linear_map():
    config = dataclasses.replace(CONFIG, hidden=())
    result = train(probe_envs.NamedAction(), optax.sgd(0.5), config)
    shapes = jax.tree.map(jnp.shape, result.params)
    assert shapes == {
        "actor": {"Dense_0": {"kernel": (1, 2)}},
        "critic": {"Dense_0": {"kernel": (1, 1)}},
    }
    assert result.final_return > 0.9


@PROBLEMS
def test_loss_matches_the_oracle(activation, continuous):
    params, batch, _ = random_problem(activation, continuous)
    config = A2CConfig(hidden=(5, 4), activation=activation, ent_coef=0.3)
    exact = jax.tree.map(lambda x: np.asarray(x, float), params)
    loss = jax.jit(a2c.loss, static_argnums=2)
    total, dormancies = loss(params, as_jax(batch), config)
    expected = oracle_ppo.a2c_loss(exact, batch, config)
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert jax.tree.structure(dormancies) == jax.tree.structure(
        oracle_ppo.dormancy(exact, batch, config)
    )


def test_one_update_per_rollout():
    counts = optax.scale_by_schedule(lambda count: 1.0)
    config = dataclasses.replace(CONFIG, total_timesteps=3 * 64 + 1)
    result = train(probe_envs.NamedAction(), counts, config)
    assert result.opt_state.count == config.num_updates == config.num_rollouts == 3
    assert config.horizon().total_updates == 3


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"num_steps": 0}, "num_steps=0 must be a positive whole number"),
        ({"gae_lambda": 2}, r"gae_lambda=2 must be in \[0, 1\]"),
        ({"max_grad_norm": None}, "max_grad_norm=None must be positive"),
        ({"total_timesteps": 100}, "total_timesteps=100 is less than one rollout"),
    ],
)
def test_a_config_out_of_range_is_refused(change, match):
    with pytest.raises(ValueError, match=match):
        A2CConfig(**change)
