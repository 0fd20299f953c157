"""OPEN in the training states of other libraries, and through checkpoints."""

import equinox as eqx
import flax.linen as nn
import flax.serialization
import haiku as hk
import jax
import jax.numpy as jnp
import numpy as np
import optax
import orbax.checkpoint
import pytest
from flax import nnx
from flax.training.train_state import TrainState

from learned_opt_rl import open_rl
from tests.rules.open_cases import (
    FEED_FORWARD,
    HORIZON,
    RECURRENT,
    agent,
    assert_close,
    assert_equal,
    gradients,
    part,
    run,
    transform,
    weights,
)


@pytest.fixture
def x(getkey):
    return jax.random.normal(getkey(), (8, 3))


def clipped(**options):
    rule = open_rl.optimizer(weights(FEED_FORWARD), HORIZON, **options)
    return optax.chain(optax.clip_by_global_norm(0.5), rule)


def by_hand(tx, params, loss, steps=2):
    """Parameters after plain optax steps; what every library should arrive at."""
    state = tx.init(params)

    @jax.jit
    def step(params, state):
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    for _ in range(steps):
        params, state = step(params, state)
    return params


class ActorCritic(nn.Module):
    """purejaxrl's layout: one module whose layers are told apart by number."""

    @nn.compact
    def __call__(self, x):
        actor = nn.Dense(2)(nn.tanh(nn.Dense(4)(x)))
        return actor, nn.Dense(1)(nn.tanh(nn.Dense(4)(x)))


NETWORKS = {"actor": "Dense_[01]", "critic": "Dense_[23]"}


def test_flax_train_state(x):
    model, tx = ActorCritic(), clipped(networks=NETWORKS)
    params = model.init(jax.random.key(0), x)

    def loss(params):
        actor, critic = model.apply(params, x)
        return (actor**2).mean() + (critic**2).mean()

    @jax.jit
    def step(state):
        return state.apply_gradients(grads=jax.grad(loss)(state.params))

    state = TrainState.create(apply_fn=model.apply, params=params, tx=tx)
    for _ in range(2):
        state = step(state)
    assert_close(state.params, by_hand(tx, params, loss))
    restored = flax.serialization.from_bytes(state, flax.serialization.to_bytes(state))
    assert_equal(restored.opt_state, state.opt_state)


class NnxAgent(nnx.Module):
    def __init__(self):
        self.actor = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        self.critic = nnx.Linear(3, 1, rngs=nnx.Rngs(1))


def test_nnx_optimizer(x):
    tx, model = clipped(), NnxAgent()
    graph, params = nnx.split(model, nnx.Param)
    optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)

    def loss(model):
        return (model.actor(x) ** 2).mean() + (model.critic(x) ** 2).mean()

    @nnx.jit
    def step(model, optimizer):
        optimizer.update(model, nnx.grad(loss)(model))

    expected = by_hand(tx, params, lambda state: loss(nnx.merge(graph, state)))
    for _ in range(2):
        step(model, optimizer)
    assert_close(nnx.state(model, nnx.Param), expected)


class EquinoxAgent(eqx.Module):
    actor: eqx.nn.MLP
    critic: eqx.nn.Linear
    steps: jax.Array

    def __init__(self):
        self.actor = eqx.nn.MLP(3, 2, 4, 1, key=jax.random.key(0))
        self.critic = eqx.nn.Linear(3, 1, key=jax.random.key(1))
        self.steps = jnp.zeros((), jnp.int32)

    def loss(self, x):
        return (jax.vmap(self.actor)(x) ** 2).mean() + jax.vmap(self.critic)(x).mean()


def test_equinox_filtered(x):
    tx, model = clipped(), EquinoxAgent()
    params, rest = eqx.partition(model, eqx.is_inexact_array)
    expected = by_hand(tx, params, lambda p: eqx.combine(p, rest).loss(x))

    @eqx.filter_jit
    def step(model, state):
        grads = eqx.filter_grad(lambda m: m.loss(x))(model)
        floating = eqx.filter(model, eqx.is_inexact_array)
        updates, state = tx.update(grads, state, floating)
        return eqx.apply_updates(model, updates), state

    state = tx.init(params)
    for _ in range(2):
        model, state = step(model, state)
    assert_close(eqx.filter(model, eqx.is_inexact_array), expected)


def test_haiku(x):
    def forward(x):
        return hk.nets.MLP([4, 2], name="actor")(x), hk.Linear(1, name="critic")(x)

    network = hk.without_apply_rng(hk.transform(forward))
    params, tx = network.init(jax.random.key(0), x), clipped()

    def loss(params):
        actor, critic = network.apply(params, x)
        return (actor**2).mean() + (critic**2).mean()

    before, after = loss(params), by_hand(tx, params, loss)
    assert jax.tree.structure(after) == jax.tree.structure(params)
    assert np.isfinite(loss(after)) and loss(after) != before


def test_multi_steps_accumulates_gradients():
    params, tx = agent(), transform()
    multi = optax.MultiSteps(tx, every_k_schedule=2)
    first, second = gradients(params, 0), gradients(params, 1)
    state, update = multi.init(params), jax.jit(multi.update)
    nothing, state = update(first, state, params)
    updates, state = update(second, state, params)
    assert_equal(nothing, jax.tree.map(jnp.zeros_like, params))
    mean = jax.tree.map(lambda a, b: (a + b) / 2, first, second)
    expected, after = jax.jit(tx.update)(mean, tx.init(params), params)
    # The mean is rounded in another order; the log of a small gradient shows it.
    assert_close(updates, expected, rtol=1e-3, atol=1e-6)
    assert part(state.inner_opt_state, "count") == part(after, "count") == 1


def through_orbax(state, folder):
    with orbax.checkpoint.StandardCheckpointer() as checkpointer:
        checkpointer.save(folder / "state", state)
        checkpointer.wait_until_finished()
        like = jax.tree.map(orbax.checkpoint.utils.to_shape_dtype_struct, state)
        return checkpointer.restore(folder / "state", like)


def through_equinox(state, folder):
    eqx.tree_serialise_leaves(folder / "state.eqx", state)
    like = jax.tree.map(jnp.zeros_like, state)
    return eqx.tree_deserialise_leaves(folder / "state.eqx", like)


def through_npz(state, folder):
    leaves, structure = jax.tree.flatten(state)
    np.savez(folder / "state.npz", *leaves)
    with np.load(folder / "state.npz", allow_pickle=False) as file:
        return jax.tree.unflatten(structure, [file[name] for name in file.files])


@pytest.mark.parametrize(
    "architecture", [RECURRENT, FEED_FORWARD], ids=["recurrent", "feed-forward"]
)
@pytest.mark.parametrize(
    "through", [through_orbax, through_equinox, through_npz], ids=lambda f: f.__name__
)
def test_after_a_checkpoint_the_next_update_is_the_same(
    through, architecture, tmp_path
):
    params, tx = agent(), transform(architecture)
    _, state = run(tx, params)
    restored = through(state, tmp_path)
    assert_equal(restored, state)
    update = jax.jit(tx.update)
    grads = gradients(params, 7)
    assert_equal(update(grads, restored, params), update(grads, state, params))
