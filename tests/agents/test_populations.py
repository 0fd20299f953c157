"""Populations under vmap equal runs one by one: settings, rates, learned weights."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import envs, open_rl
from learned_opt_rl.agents import A2CConfig, LPGConfig, PPOConfig, a2c, lpg, ppo
from tests import probe_envs
from tests.rules import lpg_cases

pytestmark = pytest.mark.usefixtures("quick_compilation")

PPO = PPOConfig(64, 4, 8, epochs=2, minibatches=2, hidden=(4,), activation="tanh")
KEY = jax.random.key(0)


def assert_population(train, settings):
    """``train(setting) -> params``; each pytree in settings has a leading axis."""
    together = jax.jit(jax.vmap(train))(settings)
    single = jax.jit(train)
    size = len(jax.tree.leaves(settings)[0])
    for i in range(size):
        alone = single(jax.tree.map(lambda x, i=i: x[i], settings))
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-3, atol=1e-5),
            together,
            alone,
        )
    kernel = np.asarray(together["actor"]["Dense_0"]["kernel"])
    assert len(np.unique(kernel.reshape(size, -1), axis=0)) == size


@pytest.mark.slow
def test_ppo_over_settings_and_learning_rates():
    settings = {
        "gamma": jnp.array([0.5, 0.99]),
        "gae_lambda": jnp.array([0.95, 0.5]),
        "clip_eps": jnp.array([0.2, 0.1]),
        "vf_coef": jnp.array([0.5, 1.0]),
        "ent_coef": jnp.array([0.01, 0.0]),
        "max_grad_norm": jnp.array([0.5, 0.1]),
        "input_divisor": jnp.array([1.0, 2.0]),
    }
    env = envs.adapt(probe_envs.NamedVector())
    config = dataclasses.replace(
        PPO, normalize_observations=True, normalize_rewards=True
    )

    def train(setting):
        fields, rate = setting
        chosen = dataclasses.replace(config, **fields)
        return ppo.make_train(chosen, env, optax.adam(rate))(KEY).params

    assert_population(train, (settings, jnp.array([1e-3, 1e-2])))


def test_a2c_over_settings_and_seeds():
    env = envs.adapt(probe_envs.NamedAction())

    def train(setting):
        gamma, seed = setting
        config = A2CConfig(64, 4, 8, gamma=gamma, hidden=(4,), ent_coef=gamma)
        return a2c.make_train(config, env, optax.adam(1e-2))(
            jax.random.key(seed)
        ).params

    assert_population(train, (jnp.array([0.5, 0.9]), jnp.array([0, 1])))


@pytest.mark.slow  # campaigns of evolution do this by default
def test_ppo_over_weights_of_a_learned_optimizer():
    architecture = open_rl.Architecture(carry=None, width=4)
    keys = jax.random.split(KEY, 2)
    weights = jax.vmap(lambda key: open_rl.init(key, architecture))(keys)
    env = envs.adapt(probe_envs.NamedVector())

    def train(weights):
        rule = open_rl.optimizer(weights, PPO.horizon())
        return ppo.make_train(PPO, env, rule)(KEY).params

    assert_population(train, weights)


@pytest.mark.slow
def test_lpg_over_weights_of_the_rule_and_settings():
    rules = [lpg_cases.rule(), lpg_cases.rule().with_policy_sign("ascend")]
    architecture = rules[0].architecture
    weights = jax.tree.map(lambda *x: jnp.stack(x), *(r.weights for r in rules))
    env = envs.adapt(probe_envs.NamedAction())

    def train(setting):
        weights, alpha_y = setting
        config = LPGConfig(64, 4, 8, hidden=(4,), alpha_y=alpha_y, gamma=alpha_y)
        rule = lpg.UpdateRule(weights, architecture)
        return lpg.make_train(config, env, rule, optax.sgd(0.5))(KEY).params

    assert_population(train, (weights, jnp.array([0.5, 1.0])))
