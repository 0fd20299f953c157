"""What LPG computes, against a loop-level oracle; and what it is as an object."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl import artifacts
from learned_opt_rl.artifacts.weights import save_safetensors
from learned_opt_rl.errors import ArtifactError, WeightsError
from learned_opt_rl.rules import lpg
from tests import oracle_lpg
from tests.artifact_files import card_data, write_card
from tests.rules import lpg_cases

GAMMA, STEP, LIFETIME = 0.995, 2, 3
# A program for each architecture, whatever the weights.
TARGETS, LOSS = jax.jit(lpg.UpdateRule.targets), jax.jit(lpg.UpdateRule.loss)
TOLD = {"gamma": GAMMA, "step": STEP, "lifetime": LIFETIME}
AGES = {"none": [], "relative": [STEP / LIFETIME, np.log(LIFETIME)]}
AGES["raw"] = [STEP, LIFETIME]
KINDS = [
    ("gru", False, "none"),
    ("gru", False, "raw"),
    ("gru", True, "relative"),
    ("lstm", False, "none"),
    ("lstm", True, "relative"),
]


def oracle_targets(rule, given):
    architecture = rule.architecture
    gamma = [GAMMA] if architecture.gamma_input else []
    age = AGES[architecture.lifetime_inputs]
    return oracle_lpg.targets(rule.weights, *given, gamma, age)


@pytest.mark.parametrize(("core", "gamma_input", "lifetime_inputs"), KINDS)
def test_targets_match_the_oracle(core, gamma_input, lifetime_inputs):
    rule = lpg_cases.rule(
        core=core, gamma_input=gamma_input, lifetime_inputs=lifetime_inputs
    )
    given = lpg_cases.rollout()
    pi_hat, y_hat = oracle_targets(rule, given)
    found = TARGETS(rule, *given, **TOLD)
    assert np.std(pi_hat) > 0.01 and np.std(y_hat) > 0.01
    np.testing.assert_allclose(found.pi_hat, pi_hat, rtol=0, atol=2e-6)
    np.testing.assert_allclose(found.y_hat, y_hat, rtol=0, atol=2e-6)


@pytest.mark.parametrize("gamma_input", [False, True])
def test_values_are_inputs_and_learn_by_td_lambda(gamma_input):
    """LPG-V of Oh et al.: v replaces y, and only pi_hat has weights."""
    rule = lpg_cases.rule(prediction="value", target_width=1, gamma_input=gamma_input)
    assert set(rule.weights) == {"gru", "policy"}
    rewards, dones, probs, _, _ = lpg_cases.rollout()
    v, v_next = np.random.default_rng(2).normal(size=(2, 3, 5, 1)).astype("f4")
    given = rewards, dones, probs, v, v_next
    pi_hat, target = oracle_targets(rule, given)
    found = TARGETS(rule, *given, **TOLD)
    np.testing.assert_allclose(found.pi_hat, pi_hat, rtol=0, atol=2e-6)
    np.testing.assert_allclose(found.y_hat, target, rtol=1e-5, atol=1e-6)

    @jax.jit
    @functools.partial(jax.value_and_grad, argnums=(0, 1, 2))
    def loss(rule, v, v_next):
        given = rewards, dones, probs, v, v_next
        return rule.loss(*given, alpha_y=0.5, **TOLD)[0]

    total, grads = loss(rule, v, v_next)
    np.testing.assert_allclose(grads[1], (v - target) / 15, rtol=1e-4, atol=1e-6)
    np.testing.assert_array_equal(grads[2], 0)
    policy = np.mean(np.log(probs + 1e-8) * pi_hat) + 0.5 * np.mean((v - target) ** 2)
    np.testing.assert_allclose(total, policy, rtol=1e-5)
    slope = np.mean(np.log(probs + 1e-8))
    np.testing.assert_allclose(grads[0].weights["policy"]["bias"], slope, rtol=1e-4)


@pytest.mark.parametrize("policy_sign", ["descend", "ascend"])
@pytest.mark.parametrize("with_baseline", [False, True])
def test_loss_matches_the_oracle(policy_sign, with_baseline):
    rule = lpg_cases.rule(policy_sign=policy_sign)
    given = lpg_cases.rollout()
    baseline = np.linspace(-1, 1, 15, dtype="f4").reshape(3, 5)
    baseline = baseline if with_baseline else None
    total, metrics = LOSS(rule, *given, alpha_y=0.7, baseline=baseline)
    pi_hat, y_hat = oracle_targets(rule, given)
    ascend = policy_sign == "ascend"
    expected = oracle_lpg.loss(pi_hat, y_hat, *given[2:4], 0.7, ascend, baseline)
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    np.testing.assert_allclose(metrics.pi_l2, np.mean(pi_hat**2), rtol=1e-5)
    np.testing.assert_allclose(metrics.y_l2, np.mean((y_hat**2).sum(-1)), rtol=1e-5)
    if not with_baseline:
        rest = metrics.policy_loss + 0.7 * metrics.kl.mean()
        np.testing.assert_allclose(rest, total, rtol=1e-6)


@pytest.mark.parametrize("policy_sign", ["descend", "ascend"])
def test_gradient_matches_differences_of_the_oracle(policy_sign):
    """Targets are constants; y moves the loss as weight and in its logarithm."""
    rule = lpg_cases.rule(policy_sign=policy_sign)
    rewards, dones, probs, y, y_next = lpg_cases.rollout()
    baseline = np.linspace(-1, 1, 15).reshape(3, 5)
    hats = oracle_targets(rule, (rewards, dones, probs, y, y_next))
    rng = np.random.default_rng(1)

    def ours(probs, y, y_next, baseline):
        return rule.loss(rewards, dones, probs, y, y_next, baseline=baseline)[0]

    start = (probs, y, y_next, jnp.float32(baseline))
    grads = jax.jit(jax.grad(ours, argnums=(0, 1, 2, 3)))(*start)
    np.testing.assert_array_equal(grads[2], 0)
    for _ in range(3):
        d_probs, d_y = rng.normal(size=probs.shape), rng.normal(size=y.shape)
        d_f = rng.normal(size=probs.shape)

        def moved(step, ways=(d_probs, d_y, d_f)):
            at = [x + step * d for x, d in zip((probs, y), ways, strict=False)]
            # The baseline in the policy's part is a constant.
            policy = oracle_lpg.loss(
                *hats, *at, ascend=policy_sign == "ascend", baseline=baseline
            )
            f = baseline + step * ways[2]
            return policy + 0.5 * np.mean((f - hats[0]) ** 2)

        slope = (moved(1e-6) - moved(-1e-6)) / 2e-6
        ways = zip((grads[0], grads[1], grads[3]), (d_probs, d_y, d_f), strict=True)
        total = sum(np.sum(np.asarray(g) * d) for g, d in ways)
        np.testing.assert_allclose(total, slope, rtol=1e-4)


def test_a_meta_gradient_reaches_pi_hat_past_a_baseline_but_not_its_fit():
    given, rule = lpg_cases.rollout(), lpg_cases.rule()
    baseline = np.linspace(-1, 1, 15, dtype="f4").reshape(3, 5)

    def head(baseline):
        def loss(rule):
            return rule.loss(*given, alpha_y=0.0, baseline=baseline)[0]

        return jax.jit(jax.grad(loss))(rule).weights["policy"]

    found, plain = head(baseline), head(None)
    assert np.abs(plain["kernel"]).max() > 0.01
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), found, plain)


def test_targets_computed_outside_give_the_same_loss_and_another_meta_gradient():
    rule = lpg_cases.rule()
    rewards, dones, probs, y, y_next = lpg_cases.rollout()

    def through(probs, outside):
        p = probs + lpg.EPS
        targets = rule.targets(rewards, dones, p, y, y_next) if outside else None
        return rule.loss(rewards, dones, probs, y, y_next, targets=targets)[0]

    inside, outside = (
        jax.jit(jax.value_and_grad(through), static_argnums=1)(probs, outside)
        for outside in (False, True)
    )
    np.testing.assert_allclose(inside[0], outside[0], rtol=1e-6)
    assert np.abs(inside[1] - outside[1]).max() > 1e-4


def test_nothing_after_the_end_of_an_episode_matters():
    rule = lpg_cases.rule()
    rewards, dones, probs, y, y_next = lpg_cases.rollout()
    dones = np.zeros_like(dones)
    dones[:, 2] = True
    before = TARGETS(rule, rewards, dones, probs, y, y_next)
    rewards, y, y_next = rewards.copy(), y.copy(), y_next.copy()
    rewards[:, 3:] += 1
    y[:, 3:] = y[:, 3:][..., ::-1]
    y_next[:, 2:] = y_next[:, 2:][..., ::-1]
    after = TARGETS(rule, rewards, dones, probs, y, y_next)
    for x, z in zip(before, after, strict=True):
        np.testing.assert_array_equal(x[:, :3], z[:, :3])
    assert (before.pi_hat[:, 3:] != after.pi_hat[:, 3:]).all()


@pytest.mark.parametrize("policy_sign", ["descend", "ascend"])
def test_a_rule_written_by_hand_sums_discounted_rewards(policy_sign):
    rewards = np.array([[1, 0, -2, 0.5], [0, 1, 0, 1]], np.float32)
    dones = np.array([[0, 0, 0, 0], [0, 1, 0, 0]], bool)
    rule = lpg_cases.reinforce(0.5, policy_sign, scale=1e-2)
    y = np.full((2, 4, 4), 0.25, np.float32)
    found = TARGETS(rule, rewards, dones, rewards, y, y).pi_hat
    last = -2 + 0.25
    returns = [[1 + last / 4, last / 2, last, 0.5], [0.5, 1, 0.5, 1]]
    sign = 1 if policy_sign == "ascend" else -1
    np.testing.assert_allclose(found, sign * np.array(returns), rtol=1e-3, atol=1e-3)


# The rule as an object.


@pytest.mark.parametrize(
    ("changes", "count"),
    [
        ({}, 203_946),
        ({"lifetime_inputs": "relative"}, 205_482),
        ({"prediction": "value", "target_width": 1}, 201_729),
    ],
)
def test_number_of_weights(changes, count):
    architecture = lpg.Architecture(**changes)
    weights = jax.eval_shape(lambda key: lpg.init(key, architecture), jax.random.key(0))
    leaves = jax.tree.leaves(weights)
    assert sum(leaf.size for leaf in leaves) == count
    assert {leaf.dtype for leaf in leaves} == {jnp.dtype("float32")}


@pytest.mark.parametrize("core", ["gru", "lstm"])
def test_initial_weights_are_as_specified(core):
    weights = lpg.init(jax.random.key(0), lpg.Architecture(core=core, width=64))
    for name, layer in weights[core].items():
        np.testing.assert_array_equal(layer.get("bias", 0), 0)
        kernel = np.asarray(layer["kernel"])
        if name.startswith("h"):
            np.testing.assert_allclose(kernel.T @ kernel, np.eye(64), atol=1e-5)
        else:
            np.testing.assert_allclose(kernel.std(), 5**-0.5, rtol=0.2)


def test_conversion_negates_pi_hat_and_keeps_the_loss():
    rule, given = lpg_cases.rule(), lpg_cases.rollout()
    converted = rule.with_policy_sign("ascend")
    assert converted.architecture.policy_sign == "ascend"
    before, after = TARGETS(rule, *given), TARGETS(converted, *given)
    np.testing.assert_array_equal(after.pi_hat, -before.pi_hat)
    np.testing.assert_array_equal(after.y_hat, before.y_hat)
    np.testing.assert_array_equal(LOSS(converted, *given)[0], LOSS(rule, *given)[0])
    assert rule.with_policy_sign("descend") is rule


def test_a_rule_is_a_pytree_to_jit_vmap_and_differentiate():
    given = lpg_cases.rollout()
    rules = [lpg_cases.rule(), lpg_cases.rule().with_policy_sign("ascend")]
    rules[1] = dataclasses.replace(rules[1], architecture=rules[0].architecture)
    population = jax.tree.map(lambda *x: jnp.stack(x), *rules)

    def loss(rule):
        return rule.loss(*given)[0]

    one = jax.jit(jax.value_and_grad(loss))
    together = jax.vmap(one)(population)
    for i, rule in enumerate(rules):
        alone = one(rule)
        jax.tree.map(
            lambda a, b, i=i: np.testing.assert_allclose(a[i], b, rtol=1e-4, atol=1e-6),
            together,
            alone,
        )
        assert all(np.abs(x).max() > 0 for x in jax.tree.leaves(alone[1]))


def test_the_second_call_does_not_compile_again():
    given, traces = lpg_cases.rollout(), []

    @jax.jit
    def loss(rule, given):
        traces.append(1)
        return rule.loss(*given)[0]

    loss(lpg_cases.rule(), given)
    loss(jax.tree.map(lambda w: 2 * w, lpg_cases.rule()), given)
    assert len(traces) == 1


# Artifacts.


def write(folder, rule, **changes):
    """An artifact of a rule; returns it as the registry would."""
    folder.mkdir(exist_ok=True)
    digest = save_safetensors(folder / "weights.safetensors", rule.weights)
    count = sum(leaf.size for leaf in jax.tree.leaves(rule.weights))
    fields = {
        "algorithm": "lpg",
        "kind": "update_rule",
        "architecture": dataclasses.asdict(rule.architecture),
        "horizon": None,
    }
    data = card_data("tiny", **{**fields, **changes})
    data["weights"] = data["weights"] | {"sha256": digest, "parameters": count}
    path = write_card(folder, data)
    card = artifacts.Card.load(path)
    weights = artifact_weights(folder, card)
    return artifacts.Artifact(card, weights)


def artifact_weights(folder, card):
    from learned_opt_rl.artifacts.weights import check_weights, load_safetensors

    weights = load_safetensors(folder / card.weights.file, card.weights.sha256)
    check_weights(weights, card)
    return weights


@pytest.mark.parametrize("core", ["gru", "lstm"])
def test_an_artifact_gives_the_same_rule(tmp_path, core):
    rule = lpg_cases.rule(core=core, gamma_input=True, lifetime_inputs="relative")
    loaded = lpg.from_artifact(write(tmp_path, rule))
    assert loaded.architecture == rule.architecture
    given = lpg_cases.rollout()
    expected = TARGETS(rule, *given, **TOLD)
    jax.tree.map(
        np.testing.assert_array_equal, TARGETS(loaded, *given, **TOLD), expected
    )


def test_an_artifact_of_the_other_sign_is_refused_until_it_is_converted(tmp_path):
    artifact = write(tmp_path, lpg_cases.rule())
    assert lpg.from_artifact(artifact, policy_sign="descend")
    with pytest.raises(ArtifactError, match=r"with_policy_sign\('ascend'\)"):
        lpg.from_artifact(artifact, policy_sign="ascend")
    converted = lpg.from_artifact(artifact).with_policy_sign("ascend")
    assert converted.architecture.policy_sign == "ascend"
    with pytest.raises(ValueError, match="policy_sign='up' must be 'descend' or"):
        lpg.from_artifact(artifact, policy_sign="up")


def test_an_artifact_of_another_algorithm_is_refused():
    with pytest.raises(ArtifactError, match="'minatar' is of algorithm 'open', not"):
        lpg.pretrained("minatar")


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"width": 7}, r"has shape \(6,\).*\(7,\)"),
        ({"core": "lstm"}, "lack 'lstm|hold an unknown tensor 'gru"),
        ({"lifetime_inputs": "raw"}, r"gru\.i..kernel has shape \(5, 6\).*\(7, 6\)"),
    ],
)
def test_a_card_that_does_not_fit_its_weights_is_refused(tmp_path, change, match):
    rule = lpg_cases.rule()
    architecture = {**dataclasses.asdict(rule.architecture), **change}
    with pytest.raises(WeightsError, match=match):
        write(tmp_path, rule, architecture=architecture)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"core": "rnn"}, r"architecture\.core is 'rnn'; write 'gru' or 'lstm'"),
        ({"policy_sign": "up"}, r"architecture\.policy_sign is 'up'; write 'descend'"),
        ({"gamma_input": 1}, r"architecture\.gamma_input is 1; write true or false"),
        ({"width": 0}, r"architecture\.width is 0; write an integer of at least 1"),
        ({"prediction": "value"}, r"architecture\.target_width is 3; write 1, since"),
        ({"depth": 2}, r"architecture\.depth is not a known field"),
    ],
)
def test_a_card_with_an_unknown_architecture_is_refused(tmp_path, change, match):
    rule = lpg_cases.rule()
    architecture = {**dataclasses.asdict(rule.architecture), **change}
    with pytest.raises(ArtifactError, match=match):
        write(tmp_path, rule, architecture=architecture)
