"""Running normalization, against moments computed from lists of all values."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import envs
from learned_opt_rl.agents import PPOConfig, make_loop
from learned_opt_rl.agents import _normalization as normalization
from learned_opt_rl.agents.rollouts import World, collect
from tests import oracle_ppo, probe_envs

CONFIG = PPOConfig(
    256,
    num_envs=4,
    num_steps=16,
    minibatches=2,
    gamma=0.9,
    hidden=(4,),
    normalize_observations=True,
    normalize_rewards=True,
)


class Wide(probe_envs.NamedAction):
    """Observations and rewards far from standard; episodes of three steps."""

    length = 3

    def draw(self, key):
        return 100 + 5 * jax.random.normal(key, (2,))

    def reward(self, state, action):
        return 30.0 * action + state.observation.sum()


def test_rollouts_are_normalized_by_everything_seen_so_far():
    env = envs.adapt(Wide())
    start, _ = make_loop(CONFIG, env, optax.sgd(0.0))
    runner = start(jax.random.key(0))
    world = World(runner.env_state, runner.observation, runner.normalizers)
    key = jax.random.key(1)
    actor = runner.params["actor"]
    after, played = jax.jit(lambda: collect(CONFIG, env, actor, world, key))()

    raw = dataclasses.replace(
        CONFIG, normalize_observations=False, normalize_rewards=False
    )
    bare = world._replace(normalizers=normalization.start(raw, world.observation))
    # Zero weights play alike whatever they see.
    still = jax.tree.map(jnp.zeros_like, actor)
    _, normalized = collect(CONFIG, env, still, world, key)
    _, plain = collect(raw, env, still, bare, key)
    np.testing.assert_array_equal(normalized.action, plain.action)

    seen, returned = oracle_ppo.Running(), oracle_ppo.Running()
    discounted = np.zeros(4)
    seen.add(np.asarray(world.observation))
    for t in range(CONFIG.num_steps):
        mean, var = seen.moments()
        expected = (np.asarray(plain.observation[t]) - mean) / np.sqrt(var + 1e-8)
        np.testing.assert_allclose(normalized.observation[t], expected, atol=2e-3)
        reward, done = np.asarray(plain.reward[t]), np.asarray(plain.done[t])
        discounted = 0.9 * discounted * (1 - done) + reward
        returned.add(discounted)
        expected = reward / np.sqrt(returned.moments()[1] + 1e-8)
        np.testing.assert_allclose(normalized.reward[t], expected, rtol=1e-3)
        if t + 1 < CONFIG.num_steps:
            seen.add(np.asarray(plain.observation[t + 1]))
    assert np.asarray(plain.done).any() and np.abs(played.observation).max() < 10
    # Raw: what the environments show, and the returns that are reported.
    assert after.observation.mean() > 50
    assert after.env_state.last_return.mean() > 300


def test_statistics_carry_over_rollouts_and_the_reported_return_is_raw():
    start, iterate = make_loop(CONFIG, envs.adapt(Wide()), optax.adam(1e-3))
    runner, iterate = start(jax.random.key(0)), jax.jit(iterate)
    for rollouts in (1, 2):
        runner = iterate(runner)
        # One batch of observations from the reset, then one per step.
        weight = runner.normalizers.observation.weight
        np.testing.assert_allclose(weight, 4 * (1 + 16 * rollouts), rtol=1e-4)
        weight = runner.normalizers.reward.weight
        np.testing.assert_allclose(weight, 64 * rollouts, rtol=1e-4)
    assert runner.mean_return > 300
    mean = runner.normalizers.observation.mean
    np.testing.assert_allclose(mean, [101, 101], atol=2)


@pytest.mark.parametrize("which", ["normalize_observations", "normalize_rewards"])
def test_each_is_normalized_alone(which):
    config = dataclasses.replace(
        CONFIG, **{"normalize_observations": False, "normalize_rewards": False}
    )
    config = dataclasses.replace(config, **{which: True})
    env = envs.adapt(Wide())
    start, _ = make_loop(config, env, optax.sgd(0.0))
    runner = start(jax.random.key(0))
    world = World(runner.env_state, runner.observation, runner.normalizers)
    _, played = collect(config, env, runner.params["actor"], world, jax.random.key(1))
    small = which == "normalize_observations"
    assert (np.abs(played.observation).max() < 10) == small
    assert (np.abs(played.reward).max() > 100) == small


def test_nothing_is_kept_where_nothing_is_normalized():
    config = dataclasses.replace(
        CONFIG, normalize_observations=False, normalize_rewards=False
    )
    start, _ = make_loop(config, envs.adapt(Wide()), optax.sgd(0.0))
    runner = jax.eval_shape(start, jax.random.key(0))
    assert jax.tree.leaves(runner.normalizers) == []


def test_a_constant_observation_stays_finite():
    seen = normalization.start(CONFIG, jnp.full((4, 2), 7.0))
    for _ in range(3):
        seen, reward = normalization.see(
            seen, 0.9, jnp.full((4, 2), 7.0), jnp.zeros(4), jnp.zeros(4, bool)
        )
    shown = normalization.normalize(seen, jnp.full((4, 2), 7.0))
    assert np.isfinite(shown).all() and np.isfinite(reward).all()
