"""Parity of an LPG agent's updates with the reference implementation."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl.agents import LPGConfig
from learned_opt_rl.agents.lpg import AgentState, agent_update
from tests import golden_lpg

STEP, LIFETIME = 17, 250
KINDS = ["mlp", "tab"]
CASES = ["plain", "plain_ay100", "cond"]


@pytest.fixture(scope="module")
def steps(reference):
    return golden_lpg.load(reference, "lpg_agent_step")


@pytest.fixture(scope="module")
def network(reference):
    return golden_lpg.load(reference, "lpg_network")


def config(kind, case="plain"):
    # The reference does not clip under Adam.
    return LPGConfig(
        total_timesteps=80,
        num_envs=4,
        num_steps=20,
        alpha_y=100.0 if case == "plain_ay100" else 0.5,
        max_grad_norm=None if kind == "mlp" else 0.5,
        hidden=(10,) if kind == "mlp" else (),
    )


def optimizer(kind):
    if kind == "mlp":
        return optax.adam(1e-3)
    labels = {"actor": "actor", "predictor": "predictor"}
    rates = {"actor": optax.sgd(40.0), "predictor": optax.sgd(4.0)}
    return optax.multi_transform(rates, labels)


def update(steps, network, kind, case="plain", tx=None, **options):
    """The jitted update, and the agent before it."""
    rule = (
        golden_lpg.rule(network, "params/plain/", "params/cond/", "raw")
        if case == "cond"
        else golden_lpg.rule(network)
    )
    tx = tx or optimizer(kind)
    params = jax.tree.map(jnp.asarray, golden_lpg.agent_params(steps, f"{kind}/"))
    rollout = golden_lpg.rollout(steps, f"{kind}/rollout/")
    settings = config(kind, case)
    agent = AgentState(params, tx.init(params), jnp.int32(STEP))

    @jax.jit
    def run(agent, lifetime=LIFETIME):
        told = dict(lifetime=lifetime, discard=True, **options)
        return agent_update(settings, rule, tx, agent, rollout, **told)

    return run, agent


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("kind", KINDS)
def test_two_updates_equal_the_reference(steps, network, kind, case):
    run, agent = update(steps, network, kind, case)
    for count in (1, 2):
        agent, metrics = run(agent)
        if count == 1:
            atol = 1e-4 if case == "plain_ay100" else 1e-5
            names = {"loss": "loss", "kl": "kl_mean", "pi_l2": "pi_l2", "y_l2": "y_l2"}
            for ours, theirs in names.items():
                expected = steps[f"{kind}/{case}/{theirs}"]
                found = getattr(metrics, ours)
                np.testing.assert_allclose(found, expected, rtol=0, atol=atol)
        expected = golden_lpg.agent_params(steps, f"{kind}/{case}/after_{count}/")
        golden_lpg.assert_close(agent.params, expected, atol=2e-6)
        assert agent.step == STEP + count


def keep_gradients():
    """An optimizer that stores the gradients it gets."""

    def keep(grads, state, params=None):
        return jax.tree.map(jnp.zeros_like, grads), grads

    return optax.GradientTransformation(lambda params: params, keep)


@pytest.mark.parametrize("case", CASES)
def test_gradients_equal_the_reference(steps, network, case):
    run, agent = update(steps, network, "mlp", case, keep_gradients())
    found = run(agent)[0].opt_state
    for ours, theirs in (("actor", "actor"), ("predictor", "critic")):
        prefix = f"mlp/{case}/{theirs}_grad/"
        expected = golden_lpg.agent_network(steps, prefix)
        golden_lpg.assert_close(found[ours], expected, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("case", CASES)
def test_targets_and_divergences_equal_the_reference(steps, network, kind, case):
    rollout = golden_lpg.rollout(steps, f"{kind}/rollout/")
    params = golden_lpg.agent_params(steps, f"{kind}/")
    conditioned = ("params/cond/", "raw") if case == "cond" else (None, "none")
    rule = golden_lpg.rule(network, "params/plain/", *conditioned)

    def forward(tree, x):
        for i, layer in enumerate(tree.values()):
            x = x if i == 0 else np.maximum(x, 0)
            x = x @ layer["kernel"] + layer.get("bias", np.float32(0))
        return jax.nn.softmax(x)

    with jax.numpy_rank_promotion("allow"):
        y = forward(params["predictor"], np.asarray(rollout.observation))
        policy = forward(params["actor"], np.asarray(rollout.observation[:, :-1]))
    index = np.asarray(rollout.action)[..., None]
    probs = np.take_along_axis(np.asarray(policy), index, -1)[..., 0]
    given = (rollout.reward, rollout.done, probs, y[:, :-1], y[:, 1:])
    told = {"step": STEP, "lifetime": LIFETIME}
    targets = rule.targets(*given, **told)
    for name, found in (("pi_hat", targets.pi_hat[..., None]), ("y_hat", targets[1])):
        expected = steps[f"{kind}/{case}/{name}"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)
    kl = rule.loss(*given, **told)[1].kl
    np.testing.assert_allclose(kl, steps[f"{kind}/{case}/kl"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_updates_past_the_lifetime_are_discarded(steps, network, kind):
    run, agent = update(steps, network, kind)
    for step, lifetime, changed, afterwards in steps[f"{kind}/discard_rule"]:
        before = agent._replace(step=jnp.int32(step))
        after, metrics = run(before, lifetime)
        assert after.step == afterwards
        same = jax.tree.map(
            np.array_equal, after._replace(step=0), before._replace(step=0)
        )
        assert all(jax.tree.leaves(same)) == (not changed)
        assert metrics.pi_l2 > 0
