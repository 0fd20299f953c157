"""Synthetic and visited inputs against their documentation, in NumPy."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import Horizon
from learned_opt_rl.features import DECAYS
from learned_opt_rl.training.distillation import inputs
from learned_opt_rl.training.distillation.visited import (
    inputs_of,
    record,
    stretches,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

SHAPE = (8, 64, 32)
B = np.array(DECAYS)


def drawn(sampler, key):
    """As one program: step by step it would compile each step of its own."""
    return jax.jit(sampler, static_argnums=1)(key, SHAPE)


@pytest.fixture(params=inputs.SYNTHETIC)
def sampled(request, getkey):
    return drawn(inputs.SYNTHETIC[request.param], getkey())


def test_every_sampler_gives_shapes_dtypes_and_ranges_as_documented(sampled):
    wide, narrow = SHAPE, SHAPE[:2]
    shapes = [wide, wide, (*narrow, 6, SHAPE[2]), wide, wide, narrow, narrow, narrow]
    assert [x.shape for x in sampled] == shapes
    assert all(x.dtype == jnp.float32 and bool(jnp.isfinite(x).all()) for x in sampled)
    for proportion in sampled[5:]:
        assert float(proportion.min()) >= 0 and float(proportion.max()) <= 1
    assert float(sampled.dormancy.min()) >= 0 and float(sampled.dormancy.max()) <= 10


def test_paper_inputs_have_the_published_distributions(getkey):
    x = drawn(inputs.paper, getkey())
    np.testing.assert_allclose(x.parameter.std(), 1, atol=0.02)
    np.testing.assert_allclose(x.gradient.std(), 0.5, atol=0.02)
    np.testing.assert_allclose(x.momenta.std((0, 1, 3)), 0.5, atol=0.02)
    values, counts = np.unique(x.layer_proportion, return_counts=True)
    assert values.tolist() == [0.0, 0.5, 1.0]
    np.testing.assert_allclose(counts / counts.sum(), 1 / 3, atol=0.05)
    np.testing.assert_allclose(x.training_proportion.mean(), 0.5, atol=0.03)


def test_dead_entries_are_exactly_zero_in_all_momenta(getkey):
    for sample in (inputs.scaled, inputs.correlated):
        x = drawn(sample, getkey())
        dead = np.asarray((x.gradient == 0).all(0))
        assert 0.05 < dead.mean() < 0.6
        never = np.asarray((x.momenta == 0).all((0, 2)))
        assert never[dead].mean() > 0.9


def test_correlated_momenta_follow_from_their_gradients(getkey):
    x = jax.tree.map(np.asarray, drawn(inputs.correlated, getkey()))
    for k in range(1, SHAPE[0]):
        expected = (
            B[:, None] * x.momenta[k - 1] + (1 - B)[:, None] * x.gradient[k, :, None]
        )
        np.testing.assert_allclose(x.momenta[k], expected, rtol=1e-3, atol=1e-7)
    first = (1 - B)[:, None] * x.gradient[0, :, None]
    scale = np.abs(x.gradient).max((0, 2))[:, None, None] + 1e-12
    fresh = (np.abs(x.momenta[0] - first) < 1e-5 * scale).all((1, 2))
    assert 0.3 < fresh.mean() < 0.7  # half start with the run


def test_correlated_single_steps_are_from_anywhere_in_a_run(getkey):
    sample = jax.jit(inputs.correlated, static_argnums=1)
    x = jax.tree.map(np.asarray, sample(getkey(), (1, 4096, 2)))
    for proportion, values in ((x.batch_proportion, 4), (x.layer_proportion, 3)):
        found, counts = np.unique(proportion, return_counts=True)
        np.testing.assert_allclose(found, np.linspace(0, 1, values), atol=1e-6)
        np.testing.assert_allclose(counts / 4096, 1 / values, atol=0.05)
    fresh = np.abs(x.momenta - (1 - B)[:, None] * x.gradient[:, :, None])
    assert (fresh < 1e-6).all((0, 2, 3)).mean() < 0.6  # with those without gradient


def test_correlated_epochs_follow_each_other(getkey):
    x = np.asarray(drawn(inputs.correlated, getkey()).batch_proportion)
    steps = np.unique(np.round(np.diff(x, axis=0) * 3).astype(int))
    assert steps.tolist() == [-3, 0, 1]


@pytest.mark.parametrize("place", [0, 5, -1])
def test_momenta_of_the_past_have_the_covariance_of_white_noise(place):
    before = int(inputs._BEFORE[place])
    left = np.zeros((6, 6))
    for _ in range(before):
        left = np.outer(B, B) * left + np.outer(1 - B, 1 - B)
    root = inputs._ROOTS[place].astype(float)
    np.testing.assert_allclose(root @ root.T, left, rtol=1e-4, atol=1e-8)


def test_recorded_inputs_are_what_the_optimizer_was_given():
    """Three stretches of two updates out of six, of entries known by their value."""
    values = jnp.arange(6.0).reshape(3, 2)
    params = {"actor": {"Dense_0": {"bias": values[0], "kernel": values}}}
    tx = record(optax.sgd(0.0), Horizon(6, 1, 2), inputs_of, steps=2, size=8, seed=0)
    state = tx.init(params)

    @jax.jit
    def update(u, state):
        grads = jax.tree.map(lambda p: (u + 1) * p, params)
        dormancy = {"actor": {"Dense_0": jnp.array([0.5, 1.5])}}
        return tx.update(grads, state, params, dormancy=dormancy)

    for u in range(6):
        moved, state = update(u, state)
    assert float(moved["actor"]["Dense_0"]["bias"].sum()) == 0
    x = jax.tree.map(np.asarray, stretches(state.kept, 2))
    assert x.gradient.shape == (2, 6, 8)  # stretches by leaves
    updates = np.arange(6).reshape(3, 2).T.repeat(2, axis=1)
    np.testing.assert_allclose(x.gradient, (updates + 1)[..., None] * x.parameter)
    momentum = np.zeros((6, 7))
    for u in range(6):  # of an entry whose gradient is 1, 2, 3, ...
        momentum[:, u + 1] = B * momentum[:, u] + (1 - B) * (u + 1)
    expected = momentum.T[1:][updates][..., None] * x.parameter[:, :, None]
    np.testing.assert_allclose(x.momenta, expected, rtol=1e-3)  # 1 - b is float32
    np.testing.assert_allclose(x.dormancy, 0.5 + x.parameter % 2)
    np.testing.assert_allclose(x.training_proportion, updates // 2 / 2)
    assert set(np.unique(x.parameter[:, 1])) <= set(range(6))
    assert len(np.unique(x.parameter[:, 1])) > 3


def test_stretches_start_with_the_run_and_do_not_overlap():
    tx = record(optax.sgd(0.0), Horizon(100), inputs_of, steps=3, size=1, seed=3)
    params = {"actor": jnp.ones(1)}
    state = tx.init(params)

    def step(state, u):
        dormancy = {"actor": jnp.ones(())}
        return tx.update({"actor": u[None]}, state, params, dormancy=dormancy)[1], None

    state, _ = jax.lax.scan(step, state, jnp.arange(100.0))
    seen = np.asarray(stretches(state.kept, 3).gradient)[..., 0]
    assert seen.shape == (3, 16) and seen[0, 0] == 0
    np.testing.assert_array_equal(seen[1:], seen[:-1] + 1)
    assert (np.diff(seen[0]) >= 3).all()
