import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl.agents import PPOConfig, networks
from learned_opt_rl.features import dormancy, leaf_roles


@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (64, 64), (400, 64), (64, 1)])
def test_orthogonal_is_jaxs_initializer(shape):
    key = jax.random.key(1)
    expected = jax.nn.initializers.orthogonal()(key, shape)
    np.testing.assert_allclose(networks.orthogonal(key, shape), expected, atol=2e-5)


def test_columns_are_orthonormal_to_float32_precision():
    kernel = np.asarray(networks.orthogonal(jax.random.key(0), (64, 64)), float)
    np.testing.assert_allclose(kernel.T @ kernel, np.eye(64), atol=2e-6)


def test_many_agents_are_initialized_at_once():
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


@pytest.mark.parametrize("width", [1, 2, 5, 7])
@pytest.mark.parametrize("sizes", [(6, 3), (6, 4, 3)])
def test_inputs_of_another_width_are_refused(sizes, width):
    params = networks.init_mlp(jax.random.key(0), sizes, 1.0)
    with pytest.raises(TypeError, match="shape"):
        networks.apply_mlp(params, jnp.zeros((2, width)), "relu")
    scaled = PPOConfig(hidden=sizes[1:-1], normalize_observations=True)
    with pytest.raises(TypeError, match="shape"):
        networks.apply_network(params, jnp.zeros((2, width)), scaled)


def test_only_tables_look_rows_up_by_an_index():
    table = networks.init_mlp(jax.random.key(0), (6, 3), 1.0, bias=False)
    kernel, config = table["Dense_0"]["kernel"], PPOConfig(hidden=())
    rows, _ = networks.apply_network(table, jnp.array([[4.0], [0.0]]), config)
    np.testing.assert_array_equal(rows, kernel[jnp.array([4, 0])])
    timed, _ = networks.apply_network(table, jnp.array([[4.0, 0.5]]), config)
    np.testing.assert_allclose(timed[0], kernel[4] + 0.5 * kernel[5], rtol=1e-6)
    for width in (3, 5, 7):
        with pytest.raises(TypeError, match="shape"):
            networks.apply_network(table, jnp.zeros((2, width)), config)
    deep = networks.init_mlp(jax.random.key(0), (6, 4, 3), 1.0)
    with pytest.raises(TypeError, match="shape"):
        networks.apply_network(deep, jnp.zeros((2, 1)), PPOConfig(hidden=(4,)))


CONV = PPOConfig(conv=((5, 3, 2), (4, 2, 1)), hidden=(6,))
SHAPE = (8, 9, 2)


def test_convolutions_are_flaxs():
    linen = pytest.importorskip("flax.linen")

    class Agent(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.relu(linen.Conv(5, (3, 3), 2, padding="VALID")(x))
            x = linen.relu(linen.Conv(4, (2, 2), 1, padding="VALID")(x))
            x = linen.relu(linen.Dense(6)(x.reshape(len(x), -1)))
            return linen.Dense(3)(x)

    params = networks.init_network(jax.random.key(0), CONV, SHAPE, 3, 0.5)
    params = jax.tree.map(lambda x: x + 0.1, params)
    x = jax.random.normal(jax.random.key(1), (7, *SHAPE))
    theirs = jax.eval_shape(Agent().init, jax.random.key(0), x)["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, dict(theirs))

    def ours(params):
        return networks.apply_network(params, x, CONV)[0]

    def flaxs(params):
        return Agent().apply({"params": params}, x)

    @functools.partial(jax.jit, static_argnums=0)
    def both(network, params):
        output, pullback = jax.vjp(network, params)
        return output, pullback(jnp.cos(output))

    found, expected = both(ours, params), both(flaxs, params)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-4, atol=1e-5)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4),
        found[1],
        expected[1],
    )


def test_any_leading_axes_and_dormancy_per_channel():
    params = networks.init_network(jax.random.key(0), CONV, SHAPE, 3, 0.5)
    x = jax.random.normal(jax.random.key(1), (2, 3, *SHAPE))
    apply = jax.jit(networks.apply_network, static_argnums=2)
    output, layers = apply(params, x, CONV)
    flat, _ = apply(params, x.reshape(6, *SHAPE), CONV)
    np.testing.assert_allclose(output.reshape(6, 3), flat, rtol=1e-5, atol=1e-6)
    assert layers["Conv_0"].shape == (2, 3, 3, 4, 5) and (layers["Conv_0"] >= 0).all()
    assert jax.tree.map(jnp.shape, jax.tree.map(dormancy, layers)) == {
        "Conv_0": (5,),
        "Conv_1": (4,),
        "Dense_0": (6,),
        "Dense_1": (3,),
    }
    roles = {role.path: role.position for role in leaf_roles({"actor": params})}
    order = ["Conv_0", "Conv_1", "Dense_0", "Dense_1"]
    positions = [roles[f"actor/{layer}/kernel"] for layer in order]
    np.testing.assert_allclose(positions, [0, 1 / 3, 2 / 3, 1])
    for layer in ("Conv_0", "Conv_1"):
        kernel = np.asarray(params[layer]["kernel"])
        kernel = kernel.reshape(-1, kernel.shape[-1])
        np.testing.assert_allclose(
            kernel.T @ kernel, 2 * np.eye(kernel.shape[-1]), atol=1e-4
        )


def test_kernels_of_a_network_are_drawn_apart():
    config = PPOConfig(conv=((16, 1, 1), (16, 1, 1)), hidden=(16, 16))
    params = networks.init_network(jax.random.key(0), config, (1, 1, 16), 16, 1.0)
    kernels = [np.ravel(layer["kernel"]) for layer in params.values()]
    assert len(kernels) == 5
    np.testing.assert_allclose(np.corrcoef(kernels), np.eye(5), atol=0.25)


def test_without_convolutions_a_network_is_the_perceptron_of_its_key():
    key = jax.random.key(3)
    params = networks.init_network(key, PPOConfig(hidden=(6,)), (2, 2), 3, 0.5)
    expected = networks.init_mlp(key, (4, 6, 3), 0.5)
    jax.tree.map(np.testing.assert_array_equal, params, expected)


def test_what_a_network_takes():
    images = jnp.full((4, 3, *SHAPE), 51, jnp.uint8)
    flat = networks.prepare(images, SHAPE, PPOConfig(input_divisor=255))
    assert flat.shape == (4, 3, 144) and flat.dtype == jnp.float32
    np.testing.assert_allclose(flat, 0.2, rtol=1e-6)
    assert networks.prepare(images, SHAPE, CONV).shape == images.shape


@pytest.mark.parametrize("shape", [(4,), (2, 9, 2), (6, 3, 2)])
def test_convolutions_that_do_not_fit_are_refused(shape):
    with pytest.raises(ValueError, match=r"conv=\(\(5, 3, 2\).* does not fit"):
        networks.init_network(jax.random.key(0), CONV, shape, 3, 0.5)


def test_an_index_stands_for_its_one_hot_part():
    """Of values and of gradients, with and without entries after it."""
    params = networks.init_mlp(jax.random.key(0), (6, 3), 1.0, bias=False)
    index = jnp.array([[0, 2, 2], [3, 1, 0]])
    for entries in (0, 1):
        rest = jax.random.normal(jax.random.key(1), (2, 3, entries))
        one_hot = jnp.concatenate([jax.nn.one_hot(index, 6 - entries), rest], -1)
        rows = jnp.concatenate([index[..., None].astype(jnp.float32), rest], -1)

        def loss(params, x):
            output, _ = networks.apply_mlp(params, x, "relu", tabular=True)
            return jnp.sin(output).sum()

        both = jax.jit(jax.value_and_grad(loss))
        found, expected = both(params, rows), both(params, one_hot)
        for a, b in zip(*map(jax.tree.leaves, (found, expected)), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
