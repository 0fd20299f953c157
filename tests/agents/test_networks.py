import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl.agents import networks


@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (64, 64), (400, 64), (64, 1)])
def test_orthogonal_is_jaxs_initializer(shape):
    key = jax.random.key(1)
    expected = jax.nn.initializers.orthogonal()(key, shape)
    np.testing.assert_allclose(networks.orthogonal(key, shape), expected, atol=2e-5)


def test_columns_are_orthonormal_to_float32_precision():
    kernel = np.asarray(networks.orthogonal(jax.random.key(0), (64, 64)), float)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(64), atol=2e-6)


def test_many_agents_are_initialised_at_once():
    # With LAPACK's QR decomposition this deadlocks on two cores.
    def init(key):
        keys = jax.random.split(key, 6)
        return [networks.init_mlp(k, (400, 64, 64, 3), 1.0) for k in keys]

    agents = jax.jit(jax.vmap(init))(jax.random.split(jax.random.key(0), 8))
    shapes = {layer["kernel"].shape for mlp in agents for layer in mlp.values()}
    assert shapes == {(8, 400, 64), (8, 64, 64), (8, 64, 3)}


def test_activations_are_those_of_each_layer():
    params = networks.init_mlp(jax.random.key(0), (3, 5, 4, 2), 0.5)
    params = jax.tree.map(lambda x: x + 0.1, params)
    x = jax.random.normal(jax.random.key(1), (6, 2, 3))
    output, activations = networks.apply_mlp(params, x, "relu")
    expected = np.asarray(x)
    for i in range(3):
        layer = params[f"Dense_{i}"]
        expected = expected @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
        if i < 2:
            expected = np.maximum(expected, 0)
        np.testing.assert_allclose(activations[f"Dense_{i}"], expected, rtol=1e-5)
    np.testing.assert_array_equal(output, activations["Dense_2"])
    assert (activations["Dense_0"] == 0).any()
    tanh, _ = networks.apply_mlp(params, x, "tanh")
    assert not jnp.allclose(tanh, output)
