"""OPEN against the loop-level oracle, on parameters and weights drawn at random."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from learned_opt_rl import open_rl
from learned_opt_rl.features import broadcast_dormancy, leaf_roles
from tests import oracle_open
from tests.rules.open_cases import FEED_FORWARD, HORIZON, RECURRENT, part, weights

SILENT = {"critic": ""}  # the oracle has no noise
FEW, MANY = (
    settings(deadline=None, max_examples=examples, derandomize=True)
    for examples in (5, 15)
)

# Drawn from a few trees only, because each is compiled once; the values vary.
TREES = [
    {"actor": {"kernel": (3, 2), "bias": (2,)}, "critic": {"Dense_0": (3, 1)}},
    {"actor": [(2, 1, 2, 3), ()], "critic": ((1,), (4,), (2, 2))},
    (5,),
]
# Exact zeros and many magnitudes, as gradients have; float32 holds each exactly.
numbers = st.one_of(
    st.just(0.0),
    st.floats(-2, 2, width=32).filter(lambda v: abs(v) > 1e-6),
    st.floats(-(2**-13), 2**-13, width=32).filter(lambda v: abs(v) > 1e-9),
)


@st.composite
def agents(draw):
    """Parameters, the gradients of two steps, and dormancy of either kind."""

    def fill(shape, elements=numbers):
        return draw(arrays.arrays(np.float32, shape, elements=elements))

    tree = draw(st.sampled_from(TREES))
    values = [jax.tree.map(fill, tree, is_leaf=is_shape) for _ in range(3)]
    dormancy = jax.tree.map(
        lambda shape: fill(
            shape[-1:] if len(shape) > 1 else (), st.floats(0, 2, width=32)
        ),
        tree,
        is_leaf=is_shape,
    )
    return *values, dormancy


def is_shape(node):
    return isinstance(node, tuple) and all(isinstance(n, int) for n in node)


PUBLISHED = {"zero_mean": True, "zero_gradients": "move"}


@jax.jit
def library_step(w, grads, state, params, dormancy):
    tx = open_rl.optimizer(w, HORIZON, networks=SILENT, **PUBLISHED)
    return tx.update(grads, state, params, dormancy=dormancy)


def oracle_step(w, params, grads, state, dormancy, time):
    """One step of the oracle, from and to the library's trees."""
    momenta, carries = (
        [np.asarray(x) for x in jax.tree.leaves(tree)]
        for tree in (part(state, "momenta"), part(state, "carry"))
    )
    carries = carries or [None] * len(momenta)
    leaves = [
        {
            "p": p,
            "g": g,
            "m": m,
            "h": h,
            "position": r.position,
            "dormancy": np.asarray(d),
        }
        for p, g, m, h, r, d in zip(
            jax.tree.leaves(params),
            jax.tree.leaves(grads),
            momenta,
            carries,
            leaf_roles(params, SILENT),
            broadcast_dormancy(dormancy, params),
            strict=True,
        )
    ]
    return oracle_open.step(w, leaves, *time)


def compare(found, expected, atol):
    for f, e in zip(jax.tree.leaves(found), expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-4, atol=atol)


ARCHITECTURES = pytest.mark.parametrize(
    "architecture", [RECURRENT, FEED_FORWARD], ids=["recurrent", "feed-forward"]
)
AGENTS = given(agent=agents(), seed=st.integers(0, 9), count=st.integers(0, 30))


def check_two_steps(architecture, agent, seed, count):
    params, first, second, dormancy = agent
    w = weights(architecture, seed)
    state = open_rl.optimizer(w, HORIZON).init(params)
    state = optax.tree.set(state, count=jnp.int32(count))
    for i, grads in enumerate((first, second)):
        time = min((count + i) // 6 / 3, 1), (count + i) // 2 % 3 / 2
        expected = oracle_step(w, params, grads, state, dormancy, time)
        updates, state = library_step(w, grads, state, params, dormancy)
        compare(updates, expected[0], 1e-6)
        compare(part(state, "momenta"), expected[1], 1e-8)
        compare(part(state, "carry"), expected[2], 2e-5)


@ARCHITECTURES
@FEW
@AGENTS
def test_two_steps_equal_the_oracle(architecture, agent, seed, count):
    check_two_steps(architecture, agent, seed, count)


@pytest.mark.slow
@ARCHITECTURES
@MANY
@AGENTS
def test_two_steps_equal_the_oracle_for_many_agents(architecture, agent, seed, count):
    check_two_steps(architecture, agent, seed, count)


@ARCHITECTURES
def test_the_meta_gradient_equals_a_finite_difference_of_the_oracle(architecture):
    keys = jax.random.split(jax.random.key(0), 3)
    params, grads, target = (
        {"actor": {"kernel": jax.random.normal(k, (2, 3))}} for k in keys
    )
    w = weights(architecture)
    direction = jax.tree.map(
        lambda x: np.sign(np.asarray(x, float)), weights(architecture, 7)
    )
    goal = np.asarray(target["actor"]["kernel"])

    def library(w):
        tx = open_rl.optimizer(w, HORIZON, networks=SILENT, **PUBLISHED)
        updates, _ = tx.update(grads, tx.init(params), params)
        return 1e3 * jnp.vdot(updates["actor"]["kernel"], goal)

    def oracle(step):
        moved = jax.tree.map(lambda x, d: np.asarray(x, float) + step * d, w, direction)
        state = open_rl.optimizer(w, HORIZON).init(params)
        numpy_params = jax.tree.map(np.asarray, params)
        numpy_grads = jax.tree.map(np.asarray, grads)
        updates, *_ = oracle_step(moved, numpy_params, numpy_grads, state, 1.0, (0, 0))
        return 1e3 * np.vdot(updates[0], goal)

    slope = sum(
        np.vdot(g, d)
        for g, d in zip(
            *map(jax.tree.leaves, (jax.jit(jax.grad(library))(w), direction)),
            strict=True,
        )
    )
    difference = (oracle(1e-6) - oracle(-1e-6)) / 2e-6
    np.testing.assert_allclose(slope, difference, rtol=1e-3)
