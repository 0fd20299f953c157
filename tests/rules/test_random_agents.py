"""Rules of every family train, save, load and shard random agents' parameters.

Every agent is traced, also on a mesh. Compiling takes ten times as long, so only one
agent in ten also runs.
"""

import functools
import io
import warnings
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import strategies as st
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from learned_opt_rl import Horizon, open_rl, pretrained
from learned_opt_rl.errors import RolesWarning
from learned_opt_rl.rules import no_features, optim4rl
from tests import random_agents

HORIZON, KEY = Horizon(100, epochs=2, minibatches=4), jax.random.key(0)


def small_open(carry: int | None) -> Any:
    weights = open_rl.init(KEY, open_rl.Architecture(carry, 4))
    return open_rl.optimizer(weights, HORIZON)


def small_no_features(carry: int | None) -> Any:
    weights = no_features.init(KEY, no_features.Architecture(carry, 4))
    return no_features.optimizer(weights)


def small_optim4rl(version: optim4rl.Version, width: int | None) -> Any:
    weights = optim4rl.init(KEY, optim4rl.Architecture(version, 2, width))
    return optim4rl.optimizer(weights, learning_rate=0.01)


EXPRESSIONS = (
    "discovered/archive_relative",
    "discovered/discovered_2",
    "discovered/no_features_symbolic_ant",
    "discovered/open_recurrent_llm_minatar",
    "discovered/open_symbolic_minatar",
)
RULES = {
    "OPEN": functools.partial(small_open, 2),
    "OPEN, feed-forward": functools.partial(small_open, None),
    "No Features": functools.partial(small_no_features, 2),
    "No Features, feed-forward": functools.partial(small_no_features, None),
    "Optim4RL of 2023": functools.partial(small_optim4rl, "arxiv2023", 4),
    "Optim4RL of 2024": functools.partial(small_optim4rl, "rlc2024", None),
    **{n: functools.partial(pretrained, n, horizon=HORIZON) for n in EXPRESSIONS},
}
FLOATS = ("float32", "bfloat16", "float16")
SETTINGS = hypothesis.settings(
    database=None, deadline=None, suppress_health_check=list(hypothesis.HealthCheck)
)
MOST_DEVICES = 4
STEPS = 3
PARTS, AGENTS = 25, 200  # the tests' time limit is for one part
build = functools.cache(lambda rule: RULES[rule]())


@st.composite
def meshes(draw: st.DrawFn) -> Mesh:
    """Draw a mesh of all devices, up to four, with one or two axes of a kind."""
    count = min(MOST_DEVICES, jax.device_count())
    shape = draw(st.sampled_from(((count,), (count // 2, 2)) if count > 1 else ((1,),)))
    kind = draw(st.sampled_from((AxisType.Auto, AxisType.Explicit)))
    return jax.make_mesh(shape, ("x", "y")[: len(shape)], (kind,) * len(shape))


@st.composite
def lives(draw: st.DrawFn, dtypes: tuple[str, ...]) -> tuple[Any, ...]:
    """Draw an agent, a rule, a seed, a mesh, and whether the agent runs."""
    agent = draw(random_agents.agents(dtypes))
    rule = draw(st.sampled_from(sorted(RULES)))
    seed = draw(st.integers(0, 2**32 - 1))  # hashed below: hypothesis repeats itself
    runs = bool(np.random.default_rng(seed).random() < 0.1)
    return agent, rule, seed, draw(meshes()), runs


def sharding(leaf: Any, mesh: Mesh, random: np.random.Generator) -> NamedSharding:
    """Draw how to split a leaf: each axis of the mesh along one that it divides."""
    spec: list[str | None] = [None] * leaf.ndim
    for name, parts in mesh.shape.items():
        free = [
            axis
            for axis, size in enumerate(leaf.shape)
            if spec[axis] is None and size and size % parts == 0
        ]
        if free and random.random() < 0.8:
            spec[random.choice(free)] = name
    return NamedSharding(mesh, PartitionSpec(*spec))


def through_a_file(state: Any) -> Any:
    leaves, structure = jax.tree.flatten(jax.tree.map(np.asarray, state))
    file = io.BytesIO()
    np.savez(file, *leaves, allow_pickle=False)
    file.seek(0)
    with np.load(file, allow_pickle=False) as saved:
        read = [jnp.asarray(saved[name]) for name in saved.files]
    return jax.tree.unflatten(structure, read)


def check_types(found: Any, like: Any) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(like)
    for leaf, other in zip(jax.tree.leaves(found), jax.tree.leaves(like), strict=True):
        assert (leaf.shape, leaf.dtype) == (other.shape, other.dtype)


def check_finite(tree: Any) -> None:
    for leaf in jax.tree.leaves(tree):
        assert np.all(np.isfinite(np.asarray(leaf, float)))


def check_close(found: Any, expected: Any) -> None:
    """Check values up to the order of sums and the last digit of a short dtype."""
    leaves = [np.asarray(leaf, float) for leaf in jax.tree.leaves(expected)]
    largest = max((np.max(np.abs(leaf), initial=0) for leaf in leaves), default=0)
    for ours, theirs in zip(jax.tree.leaves(found), leaves, strict=True):
        bound = max(1e-3, 2 * float(jnp.finfo(ours.dtype).eps)) * largest
        np.testing.assert_allclose(np.asarray(ours, float), theirs, rtol=0, atol=bound)


def on_mesh(tx: Any, place: Any, state: Any, places: Any) -> Any:
    """Put what the state has of each parameter where the parameter is."""
    return optax.tree.map_params(
        tx, place, state, places, transform_non_params=lambda leaf: leaf
    )


def split_axes(leaf: Any) -> tuple[str | None, ...]:
    spec = tuple(leaf.sharding.spec)
    return (*spec, *[None] * (leaf.ndim - len(spec)))


def trace(tx: Any, params: Any, places: Any, mesh: Mesh) -> None:
    """Check what tracing shows: shapes, dtypes and, with Explicit axes, layouts."""
    params = jax.eval_shape(lambda: params)
    state = jax.eval_shape(tx.init, params)
    updates, after = jax.eval_shape(tx.update, params, state, params)
    check_types(updates, params)
    check_types(after, state)

    def place(leaf: Any, where: NamedSharding) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=where)

    with jax.set_mesh(mesh):
        params = jax.tree.map(place, params, places)
        state = on_mesh(tx, place, state, places)
        updates, after = jax.eval_shape(tx.update, params, state, params)
    check_types(updates, params)
    if AxisType.Explicit in mesh.axis_types:
        found, given = map(jax.tree.leaves, ((updates, after), (params, state)))
        for leaf, other in zip(found, given, strict=True):
            if other.sharding is not None:  # as of the count and of the key
                assert split_axes(leaf) == split_axes(other)


def live(tx: Any, params: Any, grads: Any, places: Any, mesh: Mesh) -> None:
    """Three updates, a file, and a fourth update, on one device and on the mesh."""
    state, update = tx.init(params), jax.jit(tx.update)
    for _ in range(STEPS):
        updates, state = update(grads, state, params)
        check_finite(updates)
        # In NumPy, which compiles nothing.
        params = jax.tree.map(lambda p, u: p + np.asarray(u), params, updates)
    expected, _ = update(grads, state, params)
    with jax.set_mesh(mesh):
        placed = jax.device_put((grads, params), (places, places))
        moved = on_mesh(tx, jax.device_put, through_a_file(state), places)
        found, _ = jax.jit(tx.update)(placed[0], moved, placed[1])
    check_types(found, params)
    check_close(found, expected)


def live_through(agent: Any, rule: str, seed: int, mesh: Mesh, runs: bool) -> None:
    tx, random = build(rule), np.random.default_rng(seed)
    places = jax.tree.map(lambda leaf: sharding(leaf, mesh, random), agent)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RolesWarning)  # names are drawn at random
        trace(tx, agent, places, mesh)
        if runs:
            live(tx, agent, random_agents.gradients(agent, seed), places, mesh)


@pytest.fixture(autouse=True)
def _quickly(quick_compilation: None) -> None:
    """Most of the time of an agent that runs is compilation."""


@hypothesis.settings(SETTINGS, max_examples=30, derandomize=True)
@hypothesis.given(lives(FLOATS))
def test_random_agents(life: tuple[Any, ...]) -> None:
    live_through(*life)


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_thousands_of_random_agents(part: int) -> None:
    """Every fifth part has float64 leaves too."""
    doubles = part % 5 == 4

    @hypothesis.seed(part)
    @hypothesis.settings(SETTINGS, max_examples=AGENTS)
    @hypothesis.given(lives((*FLOATS, "float64") if doubles else FLOATS))
    def run(life: tuple[Any, ...]) -> None:
        live_through(*life)

    with jax.enable_x64(doubles):
        run()
