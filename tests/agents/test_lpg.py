"""An LPG agent as a learner, by a rule written by hand."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import envs
from learned_opt_rl.agents import LPGConfig
from learned_opt_rl.agents.lpg import (
    AgentState,
    Rollout,
    agent_update,
    init_params,
    make_loop,
    make_train,
)
from learned_opt_rl.agents.networks import apply_mlp
from tests import probe_envs
from tests.rules import lpg_cases

CONFIG = LPGConfig(
    total_timesteps=12_800, num_envs=8, num_steps=16, hidden=(16,), activation="tanh"
)


class DelayedAction(probe_envs.DelayedReward):
    """Observes the time; the second step pays for the action of the first."""

    num_actions = 2

    def transition(self, key, state, action):
        reward = state.time * state.observation[0]
        done = state.time + 1 >= self.length
        time = jnp.where(done, 0, state.time + 1)
        chosen = jnp.where(done, 0.0, 2.0 * action - 1)[None]
        state = probe_envs.ProbeState(time, chosen)
        return time.astype(jnp.float32)[None], state, reward, done


def train(env, rule, optimizer=None, config=CONFIG):
    run = make_train(config, envs.adapt(env), rule, optimizer or optax.adam(1e-2))
    return jax.jit(run)(jax.random.key(0))


def probabilities(network, *observations):
    x = jnp.array(observations, jnp.float32)[:, None]
    return jax.nn.softmax(apply_mlp(network, x, "tanh")[0])


@pytest.mark.parametrize("policy_sign", ["descend", "ascend"])
def test_learns_a_policy_and_a_prediction(policy_sign):
    rule = lpg_cases.reinforce(0.5, policy_sign)
    result = train(probe_envs.NamedAction(), rule)
    policy = probabilities(result.params["actor"], -1, 1)
    assert policy.argmax(-1).tolist() == [0, 1]
    assert result.final_return > 0.9
    # The rule's y_hat is uniform, so this is what the predictor learns to predict.
    y = probabilities(result.params["predictor"], -1, 1)
    np.testing.assert_allclose(y, 1 / 4, atol=0.02)


@pytest.mark.parametrize(
    ("env", "observations", "returns"),
    [
        # Easier probes, to tell where a failure lies.
        pytest.param(probe_envs.ConstantReward, [0], [1], marks=pytest.mark.slow),
        pytest.param(
            probe_envs.ObservedReward, [-1, 1], [-1, 1], marks=pytest.mark.slow
        ),
        (probe_envs.DelayedReward, [0, 1], [0.5, 1]),
    ],
)
def test_learns_to_predict_returns(env, observations, returns):
    y = probabilities(
        train(env(), lpg_cases.evaluator(0.5)).params["predictor"], *observations
    )
    np.testing.assert_allclose(jnp.log(y[:, 0] / y[:, 1]), returns, atol=0.1)
    np.testing.assert_allclose(y[:, 1:], jnp.tile(y[:, 1:2], 3), atol=0.03)


@pytest.mark.slow
def test_learns_a_policy():
    result = train(probe_envs.RewardedAction(), lpg_cases.evaluator(0.5))
    assert probabilities(result.params["actor"], 0)[0, 1] > 0.9
    assert result.final_return > 0.8


def test_continuous_actions_are_refused():
    env = envs.adapt(probe_envs.NamedVector())
    with pytest.raises(ValueError, match="'NamedVector' has continuous actions"):
        make_loop(CONFIG, env, lpg_cases.rule(), optax.sgd(1.0))


def test_a_reward_counts_for_earlier_actions_of_its_episode():
    result = train(DelayedAction(), lpg_cases.reinforce(0.5))
    assert probabilities(result.params["actor"], 0)[0, 1] > 0.9


def test_a_baseline_learns_pi_hat_and_leaves_the_policy_s_direction():
    """Of equation 7: f regresses on pi_hat."""
    rule = lpg_cases.reinforce(0.5)
    with_baseline = dataclasses.replace(CONFIG, baseline=True)
    result = train(probe_envs.NamedAction(), rule, config=with_baseline)
    assert probabilities(result.params["actor"], -1, 1).argmax(-1).tolist() == [0, 1]
    x = jnp.array([[-1.0], [1.0]])
    f = apply_mlp(result.params["baseline"], x, "tanh")[0][:, 0]
    # Agents descend this rule's pi_hat, the negated reward, which ends at 1.
    np.testing.assert_allclose(f, -1, atol=0.15)
    key, env = jax.random.key(0), envs.adapt(probe_envs.NamedAction())
    plain = init_params(key, CONFIG, env, 4)
    more = init_params(key, with_baseline, env, 4)
    assert set(more) - set(plain) == {"baseline"}
    jax.tree.map(np.testing.assert_array_equal, plain, {n: more[n] for n in plain})


def test_a_tabular_agent_is_one_linear_map():
    config = dataclasses.replace(CONFIG, hidden=())
    rates = {"actor": optax.sgd(5.0), "predictor": optax.sgd(0.5)}
    labels = {name: name for name in rates}
    result = train(
        probe_envs.NamedAction(),
        lpg_cases.reinforce(0.5),
        optax.multi_transform(rates, labels),
        config,
    )
    shapes = jax.tree.map(jnp.shape, result.params)
    assert shapes == {
        "actor": {"Dense_0": {"kernel": (1, 2)}},
        "predictor": {"Dense_0": {"kernel": (1, 4)}},
    }
    assert result.final_return > 0.9


@pytest.mark.parametrize("conv", [(), ((4, 3, 2),)])
@pytest.mark.parametrize("runs", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_takes_an_environment_of_images(conv, runs):
    """It is only traced where it does not run: compilation takes ten seconds."""
    rule = lpg_cases.rule(lifetime_inputs="relative", gamma_input=True)
    config = LPGConfig(480, num_envs=4, hidden=(16,), conv=conv, input_divisor=2)
    env = envs.make("Breakout-MinAtar")
    run, key = make_train(config, env, rule, optax.adam(1e-3)), jax.random.key(0)
    result = jax.jit(run)(key) if runs else jax.eval_shape(run, key)
    assert result.curve.mean.shape == (config.num_updates,) == (6,)
    before = jax.eval_shape(lambda key: init_params(key, config, env, 3), key)
    assert jax.tree.map(jnp.shape, before) == jax.tree.map(jnp.shape, result.params)
    for leaf in jax.tree.leaves(result.params if runs else ()):
        assert np.isfinite(leaf).all() and np.abs(leaf).max() > 0


@pytest.mark.slow
def test_vmap_over_seeds_equals_single_runs():
    config = dataclasses.replace(CONFIG, total_timesteps=1280)
    env, rule = envs.adapt(probe_envs.NamedAction()), lpg_cases.rule()
    run = make_train(config, env, rule, optax.adam(1e-3))
    keys = jax.random.split(jax.random.key(0), 2)
    together = jax.jit(jax.vmap(run))(keys)
    for i, key in enumerate(keys):
        alone = jax.jit(run)(key)
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-3, atol=1e-4),
            together,
            alone,
        )
    returns = np.asarray(together.returns)
    assert (returns[0] != returns[1]).any()


def test_an_agent_at_the_end_of_its_lifetime_stays_as_it_is():
    config = dataclasses.replace(CONFIG, lifetime=2)
    start, iterate = make_loop(
        config, envs.adapt(probe_envs.NamedAction()), lpg_cases.rule(), optax.adam(1e-3)
    )
    iterate, runners = jax.jit(iterate), [start(jax.random.key(0))]
    for _ in range(3):
        runners.append(iterate(runners[-1]))
    kernels = [r.params["actor"]["Dense_0"]["kernel"] for r in runners]
    assert (kernels[0] != kernels[1]).any() and (kernels[1] != kernels[2]).any()
    np.testing.assert_array_equal(kernels[2], kernels[3])
    assert [int(r.agent.step) for r in runners] == [0, 1, 2, 2]
    assert runners[3].metrics.pi_l2 > 0


def test_gradients_are_clipped_for_each_network_apart():
    def norms(max_grad_norm):
        config = dataclasses.replace(CONFIG, max_grad_norm=max_grad_norm, alpha_y=50.0)
        params = init_params(
            jax.random.key(0), config, envs.adapt(probe_envs.NamedAction()), 3
        )
        keep = optax.GradientTransformation(
            lambda params: params,
            lambda grads, state, params=None: (
                jax.tree.map(jnp.zeros_like, grads),
                grads,
            ),
        )
        agent = AgentState(params, keep.init(params), jnp.int32(0))
        rewards, dones, *_ = lpg_cases.rollout()
        action = jnp.asarray(rewards > 0, jnp.int32)
        x = jnp.linspace(-1, 1, 18).reshape(3, 6, 1)
        rollout = Rollout(x, action, jnp.asarray(rewards), jnp.asarray(dones))
        update = functools.partial(agent_update, config, lpg_cases.rule(), keep)
        agent, _ = jax.jit(update)(agent, rollout)
        return {k: float(optax.tree.norm(g)) for k, g in agent.opt_state.items()}

    free = norms(None)
    bound = (free["actor"] + free["predictor"]) / 2
    assert free["actor"] < bound < free["predictor"]
    clipped = norms(bound)
    np.testing.assert_allclose(clipped["actor"], free["actor"], rtol=1e-6)
    np.testing.assert_allclose(clipped["predictor"], bound, rtol=1e-6)


def test_discarding_needs_a_lifetime():
    with pytest.raises(ValueError, match="discard=True needs lifetime="):
        agent_update(CONFIG, lpg_cases.rule(), optax.sgd(1.0), None, None, discard=True)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"num_envs": 0}, "num_envs=0 must be a positive whole number"),
        ({"hidden": (0,)}, "hidden=0 must be a positive whole number"),
        ({"lifetime": 0}, "lifetime=0 must be a positive whole number"),
        ({"gamma": 1.5}, r"gamma=1.5 must be in \[0, 1\]"),
        ({"alpha_y": -1.0}, "alpha_y=-1.0 must not be negative"),
        ({"max_grad_norm": 0.0}, "max_grad_norm=0.0 must be positive, or None"),
        ({"activation": "gelu"}, "activation='gelu' must be"),
        ({"total_timesteps": 100}, "total_timesteps=100 is less than one rollout"),
    ],
)
def test_a_config_out_of_range_is_refused(change, match):
    with pytest.raises(ValueError, match=match):
        LPGConfig(**change)
