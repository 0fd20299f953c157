"""No Features: parity with the authors' code and an oracle, and what it refuses."""

import copy
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl import artifacts, open_rl
from learned_opt_rl.artifacts import Artifact
from learned_opt_rl.artifacts.card import Card
from learned_opt_rl.errors import ArtifactError, WeightsError
from learned_opt_rl.rules import no_features
from learned_opt_rl.rules.no_features import optimizer
from tests import golden_open, oracle_no_features
from tests.artifact_files import card_data
from tests.rules.open_cases import (
    FEED_FORWARD,
    RECURRENT,
    agent,
    assert_close,
    flat,
    gradients,
    part,
    run,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

ARCHITECTURES = pytest.mark.parametrize(
    "architecture", [RECURRENT, FEED_FORWARD], ids=["recurrent", "feed-forward"]
)


@functools.cache
def weights(architecture=RECURRENT, seed=0):
    """Random weights without a zero among them."""
    tree = no_features.init(jax.random.key(seed), architecture)
    noise = gradients(tree, seed + 1)
    return jax.tree.map(lambda w, n: w + 0.3 * n, tree, noise)


@functools.cache
def transform(architecture=RECURRENT):
    return optimizer(weights(architecture))


@pytest.mark.parametrize("mode", [pytest.param("eager", marks=pytest.mark.slow), "jit"])
def test_updates_and_momenta_equal_the_reference(reference, mode):
    arrays = golden_open.load(reference, "no_features_feedforward_h16")
    with jax.disable_jit(mode == "eager"):
        params = golden_open.subtree(arrays, "params0/")
        tx = optimizer(golden_open.weights(arrays), zero_gradients="move")
        state, update = tx.init(params), jax.jit(tx.update)
        assert set(part(state, "memory")) == {"momenta"}
        for i in range(3):
            grads = golden_open.subtree(arrays, f"step{i}/grads/")
            updates, state = update(grads, state, params)
            expected = golden_open.subtree(arrays, f"step{i}/update/")
            assert_close(updates, expected, rtol=0, atol=1.5e-7)
            momenta = part(state, "momenta")
            for network, tree in golden_open.subtree(
                arrays, f"step{i}/momentum/"
            ).items():
                assert_close(momenta[network], tree, rtol=1e-5, atol=1e-8)
            params = jax.tree.map(jnp.add, params, updates)


def oracle_step(w, params, grads, state):
    """One step of the oracle, from the library's trees."""
    momenta, carries = (
        [np.asarray(x) for x in jax.tree.leaves(tree)]
        for tree in (part(state, "momenta"), part(state, "carry"))
    )
    columns = (
        [np.asarray(x) for x in jax.tree.leaves(params)],
        [np.asarray(x) for x in jax.tree.leaves(grads)],
        momenta,
        carries or [None] * len(momenta),
    )
    leaves = [dict(zip("pgmh", row, strict=True)) for row in zip(*columns, strict=True)]
    return oracle_no_features.step(w, leaves)


@ARCHITECTURES
def test_steps_equal_the_oracle(architecture):
    params, tx = agent(), transform(architecture)
    params = {**params, "extra": [jnp.float32(0.3), jnp.ones((2, 1, 2, 3))]}
    state, update = tx.init(params), jax.jit(tx.update)
    for i in range(3):
        grads = gradients(params, seed=i)
        grads["actor"]["Dense_0"]["kernel"] *= jnp.array([[0.0, 1e-6, 1, 1e3]])
        expected = oracle_step(weights(architecture), params, grads, state)
        updates, state = update(grads, state, params)
        for j, tree in enumerate(
            (updates, part(state, "momenta"), part(state, "carry"))
        ):
            for f, e in zip(jax.tree.leaves(tree), expected[j], strict=True):
                np.testing.assert_allclose(f, e, rtol=1e-4, atol=(1e-6, 1e-8, 2e-5)[j])


@ARCHITECTURES
def test_the_meta_gradient_equals_a_finite_difference_of_the_oracle(architecture):
    params = {"actor": {"kernel": jax.random.normal(jax.random.key(0), (2, 3))}}
    grads, target = gradients(params, 1), gradients(params, 2)
    goal = np.asarray(target["actor"]["kernel"])
    w = weights(architecture)
    way = jax.tree.map(
        lambda x: np.sign(np.asarray(x, float)), weights(architecture, 7)
    )

    @jax.jit
    @jax.grad
    def slope(w):
        tx = optimizer(w, zero_mean=True)
        updates, _ = tx.update(grads, tx.init(params), params)
        return 1e3 * jnp.vdot(updates["actor"]["kernel"], goal)

    def oracle(step):
        moved = jax.tree.map(lambda x, d: np.asarray(x, float) + step * d, w, way)
        state = transform(architecture).init(params)
        return 1e3 * np.vdot(oracle_step(moved, params, grads, state)[0][0], goal)

    found = sum(
        np.vdot(g, d)
        for g, d in zip(*map(jax.tree.leaves, (slope(w), way)), strict=True)
    )
    difference = (oracle(1e-6) - oracle(-1e-6)) / 2e-6
    np.testing.assert_allclose(found, difference, rtol=1e-3)


def test_the_recurrent_form_does_not_see_the_parameter_and_the_other_does():
    params = agent()
    other = jax.tree.map(lambda p: 2 * p + 1, params)
    same, moved = (
        np.abs(flat(run(tx, params)[0]) - flat(run(tx, other)[0])).max()
        for tx in (transform(RECURRENT), transform(FEED_FORWARD))
    )
    assert same == 0 and moved > 1e-5


def test_time_and_dormancy_are_ignored_and_the_mean_is_removed():
    params = agent()
    plain, _ = run(transform(), params)
    told, _ = run(transform(), params, dormancy=0.0, training_proportion=0.7)
    np.testing.assert_array_equal(flat(plain), flat(told))
    assert abs(flat(plain).mean()) < 1e-9 < np.abs(flat(plain)).max()


@pytest.mark.parametrize(
    ("carry", "width", "inputs", "count"), [(8, 16, 14, 1074), (None, 16, 8, 514)]
)
def test_sizes(carry, width, inputs, count):
    tree = no_features.init(jax.random.key(0), no_features.Architecture(carry, width))
    assert sum(leaf.size for leaf in jax.tree.leaves(tree)) == count
    first = tree["gru"]["in"] if carry else tree["mlp"]["dense_0"]
    assert first["kernel"].shape[0] == inputs
    assert tree["mlp"]["dense_2"]["kernel"].shape == (width, 2)


# What it refuses


@pytest.mark.parametrize("tree", [{}, [], None, {"mlp": {}}], ids=repr)
def test_something_that_is_no_network_is_refused(tree):
    with pytest.raises(
        WeightsError, match=r"do not fit the network of No Features.*no_features\.i"
    ):
        optimizer(tree)


@ARCHITECTURES
def test_weights_of_open_are_refused(architecture):
    tree = open_rl.init(jax.random.key(0), architecture)
    with pytest.raises(WeightsError, match="another algorithm or architecture"):
        optimizer(tree)
    with pytest.raises(WeightsError, match="another algorithm or architecture"):
        open_rl.optimizer(weights(architecture), open_rl.Horizon(1))


def test_a_population_wants_vmap():
    stacked = jax.tree.map(lambda w: jnp.stack([w, w]), weights())
    with pytest.raises(WeightsError, match="vmap over scale_by_no_features"):
        optimizer(stacked)


def test_a_missing_tensor_is_named():
    tree = copy.deepcopy(weights())
    del tree["gru"]["ir"]["bias"]
    with pytest.raises(WeightsError, match=r"'gru\.ir\.bias' has shape missing"):
        optimizer(tree)


# What every family refuses is in test_open_errors and in the contract.
def test_a_state_of_the_other_form_is_refused():
    params = agent()
    state = transform().init(params)
    with pytest.raises(ValueError, match="slots .'carry', 'momenta'.* .'momenta'."):
        transform(FEED_FORWARD).update(params, state, params)


# Artifacts


def artifact(architecture=RECURRENT, **changes):
    data = card_data(
        algorithm="no_features",
        architecture=dataclasses.asdict(architecture),
        horizon=None,
    )
    return Artifact(
        Card.from_dict(data | changes),
        jax.tree.map(np.asarray, weights(architecture)),
    )


@ARCHITECTURES
def test_an_artifact_becomes_its_transformation(monkeypatch, architecture):
    monkeypatch.setattr(artifacts, "load", lambda name, fetch: artifact(architecture))
    params = agent()
    found, _ = run(no_features.pretrained("some/name"), params)
    expected, _ = run(transform(architecture), params)
    np.testing.assert_array_equal(flat(found), flat(expected))
    assert artifacts.rule_module("no_features") is no_features


def test_an_artifact_of_another_algorithm_is_refused():
    other = artifact(algorithm="open")
    with pytest.raises(ArtifactError, match="'open', not 'no_features'"):
        no_features.from_artifact(other)


def test_options_are_checked_though_they_are_not_used():
    weights = no_features.init(jax.random.key(0), no_features.Architecture(None, 8))
    with pytest.raises(TypeError, match="horizon=5 must be a Horizon"):
        no_features.optimizer(weights, 5)
    with pytest.raises(TypeError, match="key='x' must be a jax random key"):
        no_features.optimizer(weights, key="x")
    with pytest.raises(TypeError, match="sede= is not an option of .* 'seed'"):
        no_features.optimizer(weights, sede=1)
