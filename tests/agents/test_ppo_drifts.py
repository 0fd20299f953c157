"""PPO with other drifts in its policy loss."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import envs
from learned_opt_rl.agents import PPOConfig, make_loop, make_train, ppo
from learned_opt_rl.agents.networks import apply_mlp
from learned_opt_rl.rules import drifts, lpo
from tests import probe_envs

CONFIG = PPOConfig(512, 8, 16, epochs=8, minibatches=2, hidden=(8,), activation="tanh")
ENV = envs.adapt(probe_envs.NamedAction())


def train(drift=None, config=CONFIG):
    return make_train(config, ENV, optax.adam(0.03), drift=drift)


def program(drift=None, config=CONFIG):
    return jax.jit(train(drift, config)).lower(jax.random.key(0)).as_text()


def test_the_default_is_the_program_of_ppos_drift_with_the_configs_clip():
    config = dataclasses.replace(CONFIG, clip_eps=0.1)
    assert program(config=config) == program(drifts.ppo(0.1), config)
    assert program(config=config) != program(drifts.ppo(0.3), config)


def assert_close(a, b):
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-7), a, b
    )


def far_batch(params):
    """Transitions whose ratios are on both sides of the clip, and within."""
    rng = np.random.default_rng(0)
    observation = rng.normal(size=(64, 1)).astype("f4")
    logits, _ = apply_mlp(params["actor"], observation, CONFIG.activation)
    action = jnp.zeros(64, jnp.int32)
    log_prob = jax.nn.log_softmax(logits)[:, 0]
    return ppo.Batch(
        observation=observation,
        action=action,
        log_prob=log_prob + rng.uniform(-0.8, 0.8, 64).astype("f4"),
        value=np.ones(64, "f4"),
        advantage=rng.normal(size=64).astype("f4"),
        target=2 * np.ones(64, "f4"),
    )


def test_the_actors_gradient_follows_the_drift_and_the_critics_does_not():
    params = ppo.init_params(jax.random.key(0), CONFIG, ENV)
    batch = far_batch(params)

    @functools.partial(jax.jit, static_argnums=0)
    def gradient(drift):
        return jax.grad(ppo.loss, has_aux=True)(params, batch, CONFIG, drift)[0]

    default, clip = gradient(None), drifts.ppo(CONFIG.clip_eps)
    generic = gradient(lambda ratio, advantage: clip(ratio, advantage))
    assert_close(default, generic)
    other = gradient(drifts.dpo())
    assert_close(default["critic"], other["critic"])
    change = optax.tree.sub(default["actor"], other["actor"])
    assert optax.tree.norm(change) > 0.1 * optax.tree.norm(default["actor"])


def test_an_agent_learns_with_a_learned_drift():
    config = dataclasses.replace(CONFIG, total_timesteps=4096, gamma=0.5)
    drift = lpo.drift(lpo.init(jax.random.key(0), lpo.Architecture()))
    result = jax.jit(train(drift, config))(jax.random.key(0))
    assert result.final_return > 0.8


def test_dpo_runs_on_cartpole():
    config = PPOConfig(2048, num_envs=4, num_steps=64, minibatches=4, hidden=(16,))
    start, iterate = make_loop(
        config, envs.make("CartPole-v1"), optax.adam(1e-3), drift=drifts.dpo()
    )
    runner, iterate = start(jax.random.key(0)), jax.jit(iterate)
    for _ in range(3):
        runner = iterate(runner)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(runner.params))
    assert runner.mean_return > 0


def test_a_population_of_drifts_under_vmap():
    def run(key):
        weights = lpo.init(key, lpo.Architecture(width=4))
        weights = jax.tree.map(lambda w: 200 * w, weights)
        return train(lpo.drift(weights))(jax.random.key(0)).params

    params = jax.jit(jax.vmap(run))(jax.random.split(jax.random.key(1), 3))
    kernels = np.asarray(params["actor"]["Dense_0"]["kernel"])
    assert np.isfinite(kernels).all()
    assert len(np.unique(kernels[:, 0, 0])) == 3


def test_a_drift_that_is_no_function_is_refused():
    with pytest.raises(TypeError, match="drift='dpo' is not a function"):
        jax.eval_shape(train("dpo"), jax.random.key(0))
