"""Updates of parameters and agents that are sharded over two devices."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from learned_opt_rl import Horizon, discovered, no_features, open_rl, optim4rl

pytestmark = pytest.mark.usefixtures("quick_compilation")

SHAPES = {"actor": {"w": (4, 6), "v": (6, 2), "b": (6,)}, "critic": {"w": (6, 1)}}
SPECS = {
    "actor": {"w": P(None, "m"), "v": P("m"), "b": P("m")},
    "critic": {"w": P()},
}
SMALL = open_rl.Architecture(carry=4, width=8)
SIGNS = """optimizer
inputs g, rand, dorm, lr
memory m = momentum(0.9)
return lr * (sign(m) + 0.1 * rand) * dorm"""


@functools.cache  # what is compiled for one test serves the others
def rules():
    key, horizon = jax.random.key(0), Horizon(100)
    rlc = optim4rl.Architecture("rlc2024", carry=4, width=None)
    return {
        "open": open_rl.optimizer(open_rl.init(key, SMALL), horizon),
        "open_separated": open_rl.optimizer(
            open_rl.init_separated(key, SMALL), horizon
        ),
        "no_features": no_features.optimizer(no_features.init(key, SMALL)),
        "optim4rl": optim4rl.optimizer(optim4rl.init(key, rlc), 1e-3),
        "expression": discovered.optimizer(SIGNS, horizon),
    }


FAMILIES = sorted(rules())


def mesh_of(kind):
    return jax.make_mesh((2,), ("m",), axis_types=(kind,))


def parameters():
    def draw(path, shape):
        return jnp.cos(jnp.arange(np.prod(shape)) + len(str(path))).reshape(shape)

    return jax.tree_util.tree_map_with_path(
        draw, SHAPES, is_leaf=lambda x: isinstance(x, tuple)
    )


def place(tree, mesh, specs):
    return jax.tree.map(
        lambda x, s: jax.device_put(x, NamedSharding(mesh, s)), tree, specs
    )


def state_specs(tx, state, specs):
    return optax.tree_map_params(
        tx, lambda _, s: s, state, specs, transform_non_params=lambda _: P()
    )


def assert_like(found, expected, specs, mesh):
    def check(x, y, spec):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-6)
        assert x.sharding.is_equivalent_to(NamedSharding(mesh, spec), x.ndim)

    jax.tree.map(check, found, expected, specs)


def two_steps(tx, params, state):
    grads = jax.tree.map(jnp.sin, params)
    step = jax.jit(tx.update)
    _, state = step(grads, state, params)
    return step(grads, state, params)


@pytest.mark.parametrize("kind", [AxisType.Explicit, AxisType.Auto], ids=str)
@pytest.mark.parametrize("family", FAMILIES)
def test_updates_and_state_keep_the_sharding(family, kind):
    tx, mesh, params = rules()[family], mesh_of(kind), parameters()
    updates, state = two_steps(tx, params, tx.init(params))
    placed = place(params, mesh, SPECS)
    start = tx.init(placed)
    specs = state_specs(tx, state, SPECS)
    assert_like(start, tx.init(params), specs, mesh)
    found, after = two_steps(tx, placed, start)
    assert_like(found, updates, SPECS, mesh)
    assert_like(after, state, specs, mesh)


@pytest.mark.parametrize("family", FAMILIES)
def test_agents_sharded_over_devices(family):
    tx, mesh = rules()[family], mesh_of(AxisType.Explicit)
    agents = jax.tree.map(lambda x: jnp.stack([x, 2 * x]), parameters())

    def step(params):
        grads = jax.tree.map(jnp.sin, params)
        return tx.update(grads, tx.init(params), params)

    expected = jax.jit(jax.vmap(step))(agents)
    specs = jax.tree.map(lambda _: P("m"), agents)
    with jax.set_mesh(mesh):
        found = jax.jit(jax.vmap(step))(place(agents, mesh, specs))
    assert_like(found, expected, jax.tree.map(lambda _: P("m"), found), mesh)


@pytest.mark.parametrize("family", FAMILIES)
def test_init_takes_shapes(family):
    tx, mesh, params = rules()[family], mesh_of(AxisType.Auto), parameters()
    shapes = jax.tree.map(
        lambda x, s: jax.ShapeDtypeStruct(
            x.shape, x.dtype, sharding=NamedSharding(mesh, s)
        ),
        params,
        SPECS,
    )
    found, expected = tx.init(shapes), tx.init(params)
    assert_like(
        found[0]._replace(key=()),
        expected[0]._replace(key=()),
        state_specs(tx, expected, SPECS)[0]._replace(key=()),
        mesh,
    )


def test_gradient_through_a_sharded_update():
    key, mesh, params = jax.random.key(0), mesh_of(AxisType.Explicit), parameters()

    def loss(weights, params):
        tx = open_rl.optimizer(weights, Horizon(100))
        updates, _ = tx.update(jax.tree.map(jnp.sin, params), tx.init(params), params)
        return sum(jnp.sum(u**2) for u in jax.tree.leaves(updates))

    weights = open_rl.init(key, SMALL)
    expected = jax.jit(jax.grad(loss))(weights, params)
    with jax.set_mesh(mesh):
        found = jax.jit(jax.grad(loss))(weights, place(params, mesh, SPECS))
    jax.tree.map(
        lambda x, y: np.testing.assert_allclose(x, y, rtol=1e-3, atol=1e-9),
        found,
        expected,
    )
