"""LPO's drift network: parity, mirror conditions, populations, artifacts, errors."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import learned_opt_rl
from learned_opt_rl import artifacts
from learned_opt_rl.artifacts import registry
from learned_opt_rl.artifacts.weights import flatten_names, save_safetensors
from learned_opt_rl.errors import ArtifactError, WeightsError
from learned_opt_rl.rules import drifts, losses, lpo
from tests import oracle_drifts
from tests.artifact_files import card_data, write_card

SMALL = lpo.Architecture(width=5)
ARCHITECTURE = {"width": 5, "clip_eps": 0.3, "margin": 1e-3}


def points(n=200):
    rng = np.random.default_rng(0)
    ratio = np.exp(rng.uniform(-1, 1, n)).astype(np.float32)
    return ratio, (2 * rng.normal(size=n)).astype(np.float32)


def weights(width=5, seed=0, scale=0.5):
    rng = np.random.default_rng(seed)
    return {
        "dense_0": {"kernel": scale * rng.normal(size=(8, width)).astype("f4")},
        "dense_1": {"kernel": scale * rng.normal(size=(width, 1)).astype("f4")},
    }


def gradient(f, ratio, advantage):
    return jax.jit(jax.grad(lambda r: f(r, advantage).sum()))(ratio)


# Parity.


@pytest.mark.parametrize("mode", ["eager", "jit"])
def test_drift_gradient_and_loss_equal_the_reference(reference, mode):
    arrays = np.load(reference / "golden" / "lpo_network.npz")
    given = {
        "dense_0": {"kernel": arrays["kernel_in"]},
        "dense_1": {"kernel": arrays["kernel_out"]},
    }
    ratio, advantage = jnp.asarray(arrays["ratio"]), jnp.asarray(arrays["advantage"])
    clip_eps = float(arrays["clip_epsilon"])
    drift = lpo.drift(given, clip_eps=clip_eps, margin=1e-6)
    with jax.disable_jit(mode == "eager"):
        value = jax.jit(drift)(ratio, advantage)
        slope = jax.jit(lambda r, a: gradient(drift, r, a))(ratio, advantage)
        terms = jax.jit(lambda r, a: losses.policy_loss_terms(r, a, drift))
        terms = terms(ratio, advantage)
    # Sums of 128 terms of size 1 cancel: rounding is absolute.
    np.testing.assert_allclose(value, arrays["drift"], rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(slope, arrays["drift_grad_ratio"], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(terms, arrays["policy_loss_terms"], rtol=1e-5, atol=3e-6)
    assert np.count_nonzero(arrays["drift"]) > 100


@pytest.mark.parametrize("margin", [1e-4, 1e-2])
def test_drift_equals_the_oracle(margin):
    ratio, advantage = points()
    given = weights()
    kernels = given["dense_0"]["kernel"], given["dense_1"]["kernel"]
    expected = [
        oracle_drifts.lpo(float(r), float(a), *kernels, clip_eps=0.1, margin=margin)
        for r, a in zip(ratio, advantage, strict=True)
    ]
    drift = lpo.drift(given, clip_eps=0.1, margin=margin)
    np.testing.assert_allclose(drift(ratio, advantage), expected, rtol=1e-4, atol=1e-5)
    assert 50 < np.count_nonzero(expected) < 200


# What makes it a drift.


def test_any_weights_give_a_drift():
    report = drifts.check(lpo.drift(weights(), margin=1e-6), size=50)
    assert report.valid, report
    assert 0 < report.correlation < 1


def test_the_network_vanishes_at_ratio_one_and_the_margin_flattens_it_there():
    given, advantage = weights(128), points()[1]
    drift = lpo.drift(given, margin=1e-4)
    one = jnp.ones_like(advantage)
    np.testing.assert_array_equal(drift(one, advantage), 0)
    np.testing.assert_array_equal(gradient(drift, one, advantage), 0)
    # A last bit away the network has a slope, but of less than the margin.
    np.testing.assert_array_equal(drift(jnp.nextafter(one, 2), advantage), 0)


def test_near_one_the_inputs_keep_their_last_bits():
    ratio = (1 + np.arange(-8, 9) * 2.0**-20).astype(np.float32)
    advantage = np.full(17, 2.0, np.float32)
    given = weights()
    kernels = given["dense_0"]["kernel"], given["dense_1"]["kernel"]
    found = lpo.drift(given, margin=1e-9)(ratio, advantage)
    expected = [oracle_drifts.lpo(float(r), 2.0, *kernels, margin=1e-9) for r in ratio]
    assert np.count_nonzero(expected) == 8
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-12)


def test_initial_weights_are_near_ppo():
    grid = np.meshgrid(
        np.exp(np.linspace(-1, 1, 50)).astype("f4"), np.linspace(-4, 4, 50, dtype="f4")
    )

    @jax.jit
    @jax.vmap
    def difference(key):
        drift = lpo.drift(lpo.init(key, lpo.Architecture()))
        return drift(*grid) - drifts.ppo(0.2)(*grid)

    largest = np.abs(difference(jax.random.split(jax.random.key(0), 10))).max((1, 2))
    assert (largest > 0).all() and (largest < 0.02).all()


def test_extreme_ratios_give_no_nan():
    # exp of log-probability differences that underflow, overflow when squared, and
    # all but overflow.
    ratio = jnp.array([0.0, 1e-38, 1e-20, 1e20, 1e30] * 2)
    advantage = jnp.repeat(jnp.array([1.0, -1.0]), 5)

    @jax.jit
    def found(weights):
        drift = lpo.drift(weights)
        return drift(ratio, advantage), gradient(drift, ratio, advantage)

    for seed in range(3):
        assert np.isfinite(found(weights(seed=seed))).all()


def test_half_precision_is_computed_in_float32():
    ratio, advantage = points()
    rough = jnp.asarray(ratio, jnp.bfloat16), jnp.asarray(advantage, jnp.bfloat16)
    drift = lpo.drift(weights())
    found = drift(*rough)
    assert found.dtype == jnp.bfloat16
    exact = drift(*(x.astype(jnp.float32) for x in rough))
    np.testing.assert_array_equal(found, exact.astype(jnp.bfloat16))


# Weights are an argument.


def test_vmap_over_a_population_equals_one_by_one():
    members = [weights(seed=seed) for seed in range(3)]
    population = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    ratio, advantage = points()
    together = jax.jit(jax.vmap(lambda w: lpo.drift(w)(ratio, advantage)))(population)
    for member, found in zip(members, together, strict=True):
        alone = lpo.drift(member)(ratio, advantage)
        np.testing.assert_allclose(found, alone, rtol=1e-5, atol=1e-5)


def test_gradients_reach_the_weights():
    ratio, advantage = points()
    grads = jax.grad(
        lambda w: losses.policy_loss(ratio, advantage, lpo.drift(w, margin=1e-4))
    )(weights())
    assert all(np.any(g != 0) for g in jax.tree.leaves(grads))


def test_init_is_reproducible_and_has_the_documented_layout():
    first, again = (lpo.init(jax.random.key(1), SMALL) for _ in range(2))
    jax.tree.map(np.testing.assert_array_equal, first, again)
    assert jax.tree.map(jnp.shape, first) == jax.tree.map(jnp.shape, weights())
    assert {leaf.dtype for leaf in jax.tree.leaves(first)} == {jnp.dtype("float32")}


# Artifacts.


def lpo_card(**changes):
    data = card_data(
        algorithm="lpo", kind="drift", architecture=ARCHITECTURE, horizon=None
    )
    data["weights"] = data["weights"] | {"parameters": 45}
    return data | changes


def test_an_artifact_brings_its_clip_and_margin():
    card = artifacts.Card.from_dict(lpo_card())
    drift = lpo.from_artifact(artifacts.Artifact(card, weights()))
    ratio, advantage = points()
    expected = lpo.drift(weights(), clip_eps=0.3, margin=1e-3)(ratio, advantage)
    np.testing.assert_array_equal(drift(ratio, advantage), expected)
    other = lpo.drift(weights())(ratio, advantage)
    assert np.any(other != expected)


def test_pretrained_loads_by_name(tmp_path, monkeypatch):
    monkeypatch.setattr(registry, "bundled_root", lambda: tmp_path)
    digest = save_safetensors(tmp_path / "weights.safetensors", weights())
    data = lpo_card()
    data["weights"]["sha256"] = digest
    write_card(tmp_path, data)
    ratio, advantage = points()
    found = lpo.pretrained("tiny")(ratio, advantage)
    expected = lpo.drift(weights(), clip_eps=0.3, margin=1e-3)(ratio, advantage)
    np.testing.assert_array_equal(found, expected)


def test_an_artifact_of_another_algorithm_is_refused():
    artifact = artifacts.load("minatar")
    with pytest.raises(ArtifactError, match="'minatar' is of algorithm 'open'.*not 'l"):
        lpo.from_artifact(artifact)
    assert callable(learned_opt_rl.pretrained)  # what the message recommends


# Errors.


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"width": 0}, "architecture.width is 0; write an integer of at"),
        ({"width": 1.5}, "width is 1.5; write"),
        ({"clip_eps": 0.0}, "clip_eps is 0.0; write a number above 0"),
        ({"margin": -1e-4}, "margin is -0.0001; write a number above 0"),
    ],
)
def test_architecture_errors(change, message):
    with pytest.raises(ValueError, match=message):
        lpo.Architecture(**change)


@pytest.mark.parametrize("name", ["clip_eps", "margin"])
@pytest.mark.parametrize("value", [0.0, -0.1, float("nan")])
def test_clip_and_margin_must_be_positive(name, value):
    with pytest.raises(ValueError, match=f"{name}={value} must be positive"):
        lpo.drift(weights(), **{name: value})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mlp": {"dense_0": {"kernel": np.ones((8, 5))}}}, "need dense_0.kernel"),
        ({}, "need dense_0.kernel"),
        (np.ones((8, 5)), "need dense_0.kernel"),
        (weights() | {"dense_2": {"kernel": np.ones((1, 1))}}, "dense_2"),
        (weights() | {"gru": {"hn": np.ones(2)}}, "gru.hn.*needs no such tensor"),
        (weights() | {"dense_1": {"kernel": np.ones((4, 1))}}, r"\(4, 1\).*\(5, 1\)"),
        (weights() | {"dense_0": {"kernel": np.ones((7, 5))}}, r"\(7, 5\).*\(8, 5\)"),
        (jax.tree.map(lambda x: x[None], weights()), r"\(1, 8, 5\).*vmap over lpo"),
    ],
)
def test_weights_of_another_architecture_are_refused(given, message):
    with pytest.raises(WeightsError, match=message):
        lpo.drift(given)


def test_a_bias_is_refused():
    given = weights()
    given["dense_0"]["bias"] = np.zeros(5, "f4")
    with pytest.raises(WeightsError, match="dense_0.bias.*needs no such tensor"):
        lpo.drift(given)
    assert "dense_0.bias" in flatten_names(given)


def test_different_shapes_are_refused():
    with pytest.raises(ValueError, match=r"ratio has shape \(3,\), advantage \(1,\)"):
        lpo.drift(weights())(jnp.ones(3), jnp.ones(1))
