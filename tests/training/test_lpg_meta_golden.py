"""Parity of LPG's meta-gradient with the reference implementation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl.agents.lpg import AgentState
from learned_opt_rl.training.guarded_adam import guarded_adam
from learned_opt_rl.training.lpg_meta import (
    Life,
    MetaConfig,
    Optimizers,
    ValueState,
    meta_loss,
)
from tests import golden_lpg
from tests.agents.test_lpg_golden import config, optimizer

KINDS = ["mlp", "tab"]
MODES = {"ref": True, "fixed_both": False}
K = 3


@pytest.fixture(scope="module")
def arrays(reference):
    return golden_lpg.load(reference, "lpg_agent_step")


def stacked(arrays, read):
    agents = [read(arrays, i) for i in range(2)]
    return jax.tree.map(lambda *x: jnp.stack(x), *agents)


def play(params, world):
    """Hands out the rollouts of a lifetime, which are its world, one by one."""
    index, rollouts = world
    return (index + 1, rollouts), jax.tree.map(lambda x: x[index], rollouts)


def gradient(arrays, kind, adam=guarded_adam, lifetime=250, unused=(), **changes):
    prefix = f"meta/{kind}/"
    optimizers = (
        Optimizers(adam(1e-3), adam(1e-3))
        if kind == "mlp"
        else Optimizers(optimizer("tab"), optax.sgd(4.0))
    )
    params = stacked(
        arrays, lambda z, i: golden_lpg.agent_params(z, f"{prefix}agent{i}/")
    )
    value = stacked(
        arrays, lambda z, i: golden_lpg.agent_network(z, f"{prefix}agent{i}/value/")
    )
    settings = MetaConfig(config(kind), updates=K, **changes)
    rollouts = golden_lpg.rollout(arrays, f"{prefix}rollouts/")
    for feature in unused:
        blank = rollouts.observation.at[..., feature].set(0.0)
        rollouts = rollouts._replace(observation=blank)

    def begin(params, value, rollouts):
        agent = AgentState(params, optimizers.agent.init(params), jnp.int32(0))
        critic = ValueState(value, optimizers.value.init(value))
        return Life(agent, critic, jnp.int32(lifetime), (jnp.int32(0), rollouts))

    def loss(rule):
        lives = jax.vmap(begin)(params, value, rollouts)
        losses, aux = jax.vmap(
            lambda life: meta_loss(rule, settings, optimizers, life, play)
        )(lives)
        return losses.mean(), aux

    rule = golden_lpg.rule(arrays, f"{prefix}lpg/")
    return jax.jit(jax.grad(loss, has_aux=True))(rule)


def relative_error(found, expected):
    difference = jax.tree.map(lambda f, e: f - e, found, expected)
    return float(optax.tree.norm(difference) / optax.tree.norm(expected))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("kind", KINDS)
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


@pytest.mark.parametrize("kind", KINDS)
def test_targets_outside_the_agents_gradient_change_the_meta_gradient(arrays, kind):
    default, (life, _) = gradient(arrays, kind)
    through, (same, _) = gradient(arrays, kind, through_inputs=True)
    golden_lpg.assert_close(same.agent.params, life.agent.params, atol=1e-6)
    assert 0.1 < relative_error(through.weights, default.weights) < 0.4


def test_an_input_that_never_is_active_does_not_spoil_the_meta_gradient(arrays):
    plain, _ = gradient(arrays, "mlp", optax.adam, unused=[0])
    assert any(np.isnan(leaf).any() for leaf in jax.tree.leaves(plain))
    guarded, _ = gradient(arrays, "mlp", unused=[0])
    for leaf in jax.tree.leaves(guarded):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0


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
    with pytest.raises(ValueError, match="updates=0 must be a positive integer"):
        MetaConfig(config("tab"), updates=0)
