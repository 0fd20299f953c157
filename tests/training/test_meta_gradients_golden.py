"""Parity of LPG's meta-gradient with the reference implementation."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl.agents.lpg import AgentState
from learned_opt_rl.envs.adapter import EpisodeState
from learned_opt_rl.training import meta_gradients
from learned_opt_rl.training.meta_gradients import pool
from learned_opt_rl.training.meta_gradients.objective import (
    ADAM_EPS_ROOT,
    Life,
    MetaConfig,
    Optimizers,
    ValueState,
    meta_loss,
)
from learned_opt_rl.training.meta_gradients.tasks import task
from tests import golden_lpg
from tests.agents.test_lpg_golden import config, optimizer

adam = functools.partial(optax.adam, eps_root=ADAM_EPS_ROOT)
MODES = {"ref": True, "fixed_both": False}
K = 3


@pytest.fixture(scope="module")
def arrays(reference):
    with golden_lpg.load(reference, "lpg_agent_step") as file:
        yield file


def play(params, world):
    """Hands out the rollouts of a lifetime, which are its world, one by one."""
    index, rollouts = world
    return (index + 1, rollouts), jax.tree.map(lambda x: x[index], rollouts)


def gradient(arrays, kind, lifetime=250, unused=(), rule=None, **changes):
    """The mean meta-gradient over two lifetimes, and (lives after, metrics)."""
    prefix = f"meta/{kind}/"
    rollouts = golden_lpg.rollout(arrays, f"{prefix}rollouts/")
    for feature in unused:
        blank = rollouts.observation.at[..., feature].set(0.0)
        rollouts = rollouts._replace(observation=blank)
    agents = [
        (
            golden_lpg.agent_params(arrays, f"{prefix}agent{i}/"),
            golden_lpg.agent_network(arrays, f"{prefix}agent{i}/value/"),
        )
        for i in range(2)
    ]
    params, value = jax.tree.map(lambda *x: jnp.stack(x), *agents)
    run = compiled(kind, tuple(changes.items()))
    rule = rule or golden_lpg.rule(arrays, f"{prefix}lpg/")
    return run(rule, params, value, rollouts, lifetime)


@functools.cache
def compiled(kind, changes):
    optimizers = (
        Optimizers(adam(1e-3), adam(1e-3))
        if kind == "mlp"
        else Optimizers(optimizer("tab"), optax.sgd(4.0))
    )
    settings = MetaConfig(config(kind), updates=K, **dict(changes))

    def loss_of_one(rule, params, value, rollouts, lifetime):
        agent = AgentState(params, optimizers.agent.init(params), jnp.int32(0))
        critic = ValueState(value, optimizers.value.init(value))
        life = Life(agent, critic, lifetime, (jnp.int32(0), rollouts))
        return meta_loss(rule, settings, optimizers, life, play)

    def loss(*given):
        losses, aux = jax.vmap(loss_of_one, in_axes=(None, 0, 0, 0, None))(*given)
        return losses.mean(), aux

    return jax.jit(jax.grad(loss, has_aux=True))


def relative_error(found, expected):
    difference = jax.tree.map(lambda f, e: f - e, found, expected)
    return float(optax.tree.norm(difference) / optax.tree.norm(expected))


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("tab", "ref"),
        pytest.param("tab", "fixed_both", marks=pytest.mark.slow),
        pytest.param("mlp", "ref", marks=pytest.mark.slow),
        pytest.param("mlp", "fixed_both", marks=pytest.mark.slow),
    ],
)
def test_the_meta_gradient_equals_the_reference(arrays, kind, mode):
    rule, (after, metrics) = gradient(arrays, kind, compat=MODES[mode])
    expected = golden_lpg.weights(arrays, f"meta/{kind}/{mode}/grad/")
    assert relative_error(rule.weights, expected) < 1e-4
    rtol = 2e-3 if kind == "mlp" else 1e-4
    golden_lpg.assert_close(rule.weights, expected, rtol=rtol)
    agents = golden_lpg.agent_params(arrays, f"meta/{kind}/after_K/")
    golden_lpg.assert_close(after.agent.params, agents, atol=2e-6)
    value = golden_lpg.agent_network(arrays, f"meta/{kind}/{mode}/value_after/")
    golden_lpg.assert_close(after.value.params, value, atol=2e-6)
    means = jax.tree.map(jnp.mean, metrics)
    update = means.update
    found = {
        "lpg_loss": means.policy_loss,
        "reg_lpg_loss": means.loss,
        "value_loss": means.value_loss,
        "policy_entropy": update.policy_entropy,
        "critic_entropy": update.target_entropy,
        "policy_l2": update.pi_l2,
        "critic_l2": update.y_l2,
        "critic_loss": update.kl,
    }
    for name, number in found.items():
        expected = arrays[f"meta/{kind}/{mode}/{name}"]
        np.testing.assert_allclose(number, expected, rtol=0, atol=1e-5, err_msg=name)


def indexed(observation):
    """One-hot observations as tabular agents see them, ``[index, time]``."""
    return jnp.stack([observation[..., :-1].argmax(-1), observation[..., -1]], -1)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        pytest.param("tab", "ref", marks=pytest.mark.slow),
        ("tab", "fixed_both"),
        pytest.param("mlp", "ref", marks=pytest.mark.slow),
        pytest.param("mlp", "fixed_both", marks=pytest.mark.slow),
    ],
)
def test_the_meta_gradient_of_a_pool_equals_the_reference(arrays, kind, mode):
    """By the program that trains: mini-batches, rematerialized, rows by index."""
    prefix, tabular = f"meta/{kind}/", kind == "tab"
    environment = "gridworld/small" if tabular else "gridworld/rand_dense"
    rule = golden_lpg.rule(arrays, f"{prefix}lpg/")
    settings = meta_gradients.preset(
        "lpg-groove",
        architecture=dataclasses.asdict(rule.architecture),
        environments=(environment,),
        lifetimes=2,
        minibatch=1,
        workers=4,
        updates=K,
        compat=MODES[mode],
    )
    rollouts = golden_lpg.rollout(arrays, f"{prefix}rollouts/")
    if tabular:
        rollouts = rollouts._replace(observation=indexed(rollouts.observation))
    rate = 40 if tabular else 1e-3
    hyper = pool.Hyper(jnp.int32(0), *map(jnp.float32, (rate, 0.5, 0.99, 0.05)))
    one = task(environment)
    optimizers = pool.optimizers(settings, one, hyper, 250)
    none = jnp.zeros(4)
    account = EpisodeState(None, none, jnp.int32(none), none, jnp.int32(none))
    lives = []
    for i in range(2):
        params = golden_lpg.agent_params(arrays, f"{prefix}agent{i}/")
        value = golden_lpg.agent_network(arrays, f"{prefix}agent{i}/value/")
        params, value = jax.tree.map(jnp.asarray, (params, value))
        agent = AgentState(params, optimizers.agent.init(params), jnp.int32(0))
        critic = ValueState(value, optimizers.value.init(value))
        mine = jax.tree.map(lambda x, i=i: x[i], rollouts)
        world = pool.World(account, (jnp.int32(0), mine), jax.random.key(0))
        life = Life(agent, critic, jnp.int32(250), world)
        lives.append(pool.Lifetime(life, hyper, jnp.float32(1), jnp.int32(0)))

    def stored(params, world):
        after, rollout = play(params, world.observation)
        return world._replace(observation=after), rollout

    run = jax.jit(lambda rule, lives: pool.advance(settings, one, stored, rule, lives))
    totals, after, outcome = run(rule, jax.tree.map(lambda *x: jnp.stack(x), *lives))
    found = jax.tree.map(lambda x: x.sum(0) / 2, totals.weights)
    expected = golden_lpg.weights(arrays, f"{prefix}{mode}/grad/")
    assert relative_error(found, expected) < 1e-4
    golden_lpg.assert_close(found, expected, rtol=1e-4 if tabular else 2e-3)
    agents = golden_lpg.agent_params(arrays, f"{prefix}after_K/")
    golden_lpg.assert_close(after.life.agent.params, agents, atol=2e-6)
    value = golden_lpg.agent_network(arrays, f"{prefix}{mode}/value_after/")
    golden_lpg.assert_close(after.life.value.params, value, atol=2e-6)
    assert not outcome.broken.any() and not outcome.collapsed.any()


@pytest.mark.slow
def test_an_input_that_is_never_active_leaves_the_meta_gradient_finite(arrays):
    rule, _ = gradient(arrays, "mlp", unused=[0], compat=False)
    for leaf in jax.tree.leaves(rule):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0


@pytest.mark.slow
def test_the_meta_gradient_of_updates_past_the_lifetime_is_zero(arrays):
    """But for the regularisers of the targets, which are computed all the same."""
    settings = {"policy_l2": 0.0, "target_l2": 0.0}
    within, (after, _) = gradient(arrays, "tab", lifetime=2, **settings)
    assert after.agent.step.tolist() == [2, 2]
    assert optax.tree.norm(within.weights) > 0
    ended, (after, _) = gradient(arrays, "tab", lifetime=0, **settings)
    assert after.agent.step.tolist() == [0, 0]
    assert optax.tree.norm(ended.weights) == 0


def test_a_number_of_updates_below_one_is_refused():
    with pytest.raises(ValueError, match="updates=0 must be a positive whole number"):
        MetaConfig(config("tab"), updates=0)


def test_adam_with_the_root_has_adams_updates():
    ours, theirs = adam(1e-2, 0.8), optax.adam(1e-2, 0.8)
    params = {"a": jnp.zeros(3), "b": jnp.zeros((2, 2))}
    states = ours.init(params), theirs.init(params)
    for i in range(5):
        keys = jax.random.split(jax.random.key(i), 2)
        grads = {
            "a": jax.random.normal(keys[0], (3,)).at[0].set(0.0),
            "b": 1e-6 * jax.random.normal(keys[1], (2, 2)),
        }
        found, first = ours.update(grads, states[0], params)
        expected, second = theirs.update(grads, states[1], params)
        states = first, second
        jax.tree.map(
            lambda f, e: np.testing.assert_allclose(f, e, rtol=1e-6, atol=1e-12),
            (found, first),
            (expected, second),
        )


def after_two(adam, weight):
    """Two parameters after two updates; the second never has a gradient."""
    tx, params = adam(0.1), jnp.ones(2)
    state = tx.init(params)
    for _ in range(2):
        gradient = weight * params * jnp.array([1.0, 0.0])
        updates, state = tx.update(gradient, state, params)
        params += updates
    return params.sum()


def test_adam_with_the_root_has_a_finite_derivative_where_plain_adam_has_none():
    assert np.isnan(jax.grad(lambda w: after_two(optax.adam, w))(1.0))
    assert np.isfinite(jax.grad(lambda w: after_two(adam, w))(1.0))
