"""Dormancy of neurons, and its spread over parameters."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from learned_opt_rl.features import broadcast_dormancy, dormancy
from tests.shapes import checked


def loop_dormancy(activation):
    flat = np.asarray(activation, np.float64).reshape(-1, activation.shape[-1])
    level = []
    for j in range(flat.shape[1]):
        level.append(sum(abs(v) for v in flat[:, j]) / len(flat) + 1e-11)
    return [len(level) * a / sum(level) for a in level]


@pytest.mark.parametrize(
    "shape", [(5, 3), (3,), (4, 1), (2, 3, 3, 4)], ids=["dense", "one", "head", "conv"]
)
def test_dormancy_equals_a_loop(shape, getkey):
    activation = jax.random.normal(getkey(), shape)
    found = dormancy(activation)
    assert (found.shape, found.dtype) == (shape[-1:], jnp.float32)
    np.testing.assert_allclose(found, loop_dormancy(activation), rtol=1e-5)


def test_the_mean_is_one_and_a_dead_neuron_has_almost_nothing(getkey):
    activation = jax.random.uniform(getkey(), (16, 8)).at[:, 3].set(0.0)
    found = dormancy(activation)
    assert float(found.mean()) == pytest.approx(1, abs=1e-6)
    assert 0 < float(found[3]) < 1e-10


def test_a_wholly_dead_layer_has_dormancy_one():
    np.testing.assert_allclose(dormancy(jnp.zeros((4, 3))), 1, rtol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float16])
def test_half_precision_is_averaged_in_float32(dtype):
    # 1 + 2048 additions would be lost to rounding in either dtype.
    activation = jnp.ones((4096, 2), dtype)
    np.testing.assert_array_equal(dormancy(activation), [1.0, 1.0])


PARAMETERS = {
    "actor": {"Dense_0": {"bias": jnp.ones(4), "kernel": jnp.ones((3, 4))}},
    "conv": {"kernel": jnp.ones((2, 2, 3, 5))},
    "log_std": jnp.ones(()),
}


def test_without_values_dormancy_is_one_everywhere():
    found = broadcast_dormancy(None, PARAMETERS)
    assert [(d.shape, float(d)) for d in found] == [((), 1.0)] * 4


@pytest.mark.parametrize(
    "values",
    [
        {"actor": jnp.arange(4.0), "conv": jnp.arange(5.0), "log_std": 1},
        {
            "actor": {"Dense_0": jnp.arange(4.0)},
            "conv": {"kernel": jnp.arange(5.0)},
            "log_std": jnp.ones(()),
        },
        {
            "actor": {"Dense_0": {"bias": jnp.arange(4.0), "kernel": np.arange(4)}},
            "conv": np.arange(5, dtype=np.float64),
            "log_std": 1.0,
        },
    ],
    ids=["network", "module", "leaf"],
)
def test_a_tree_prefix_serves_all_leaves_below_it(values):
    found = broadcast_dormancy(values, PARAMETERS)
    expected = [np.arange(4), np.arange(4), np.arange(5), 1]
    for d, e in zip(found, expected, strict=True):
        assert d.dtype == jnp.float32
        np.testing.assert_array_equal(d, e)


def test_one_scalar_serves_the_whole_tree():
    assert [float(d) for d in broadcast_dormancy(0.5, PARAMETERS)] == [0.5] * 4


@pytest.mark.parametrize("width", [(3,), (1,), (3, 4)])
def test_a_wrong_width_names_the_parameter_and_both_shapes(width):
    values = {"actor": {"Dense_0": jnp.ones(width)}, "conv": 1.0, "log_std": 1.0}
    with pytest.raises(ValueError) as error:
        broadcast_dormancy(values, PARAMETERS)
    assert "'actor/Dense_0/bias'" in str(error.value)
    assert str(width) in str(error.value) and "(4,)" in str(error.value)


@pytest.mark.parametrize(
    "values",
    [{"actor": 1.0}, {**PARAMETERS, "critic": 1.0}, [1.0, 1.0, 1.0], {}],
    ids=["missing", "unknown", "list", "empty"],
)
def test_a_tree_that_is_no_prefix_is_refused(values):
    with pytest.raises(ValueError, match="dormancy= does not fit .*tree prefix"):
        broadcast_dormancy(values, PARAMETERS)


def test_shapes_are_as_annotated(monkeypatch):
    function = checked(monkeypatch, dormancy)
    for shape in [(3,), (5, 3), (2, 4, 4, 3)]:
        assert function(jnp.ones(shape)).shape == (3,)
    with pytest.raises(jaxtyping.TypeCheckError):
        function(jnp.ones(()))


def test_an_array_of_the_parameters_own_shape_serves_out_in_kernels():
    kernel = jnp.ones((2, 3))  # equinox: [out, in]
    per_output = jnp.array([0.5, 1.5])
    (spread,) = broadcast_dormancy(
        jnp.broadcast_to(per_output[:, None], kernel.shape), kernel
    )
    np.testing.assert_array_equal(spread, [[0.5] * 3, [1.5] * 3])


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 5, 5, 3, 4), (2, 4), (2, 2, 3, 4)])
def test_an_ensemble_has_values_per_member(shape):
    members = shape[: 2 if len(shape) == 4 else 1]
    values = jnp.arange(np.prod(members) * 4.0).reshape(*members, 4)
    (spread,) = broadcast_dormancy(values, jnp.ones(shape))
    assert spread.shape == shape
    for member in np.ndindex(members):
        for row in np.asarray(spread[member]).reshape(-1, 4):
            np.testing.assert_array_equal(row, values[member])


def test_vmap_over_an_ensemble_gives_what_one_update_takes(getkey):
    kernels = jax.random.normal(getkey(), (2, 3, 4))
    x = jax.random.normal(getkey(), (5, 3))
    values = jax.vmap(lambda kernel: dormancy(jax.nn.relu(x @ kernel)))(kernels)
    (spread,) = broadcast_dormancy(values, kernels)
    expected = [loop_dormancy(np.maximum(np.asarray(x @ k), 0)) for k in kernels]
    np.testing.assert_allclose(spread[:, 0], expected, rtol=1e-5)
