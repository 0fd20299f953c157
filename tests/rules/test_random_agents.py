"""Rules of every family train, save, load and shard random agents' parameters."""

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
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from learned_opt_rl import Horizon, open_rl, pretrained
from learned_opt_rl.errors import RolesWarning
from learned_opt_rl.rules import no_features, optim4rl
from tests import random_agents

HORIZON, KEY = Horizon(100, epochs=2, minibatches=4), jax.random.key(0)
RULES = {
    "OPEN": lambda: pretrained("minatar", horizon=HORIZON),
    "OPEN, feed-forward": lambda: open_rl.optimizer(
        open_rl.init(KEY, open_rl.Architecture(None, 8)), HORIZON
    ),
    "No Features": lambda: no_features.optimizer(
        no_features.init(KEY, no_features.Architecture(4, 8))
    ),
    "No Features, feed-forward": lambda: no_features.optimizer(
        no_features.init(KEY, no_features.Architecture(None, 8))
    ),
    "Optim4RL of 2023": lambda: optim4rl.optimizer(
        optim4rl.init(KEY, optim4rl.Architecture("arxiv2023", 4, 8)), learning_rate=0.01
    ),
    "Optim4RL of 2024": lambda: optim4rl.optimizer(
        optim4rl.init(KEY, optim4rl.Architecture("rlc2024", 4, None)),
        learning_rate=0.01,
    ),
    **{
        name: functools.partial(pretrained, name, horizon=HORIZON)
        for name in (
            "discovered/open_symbolic_minatar",
            "discovered/no_features_symbolic_ant",
            "discovered/archive_relative",
            "discovered/discovered_2",
        )
    },
}
MOST_DEVICES = 4
build = functools.cache(lambda rule: RULES[rule]())


@st.composite
def meshes(draw: st.DrawFn) -> jax.sharding.Mesh:
    """Draw a mesh of all devices, up to four, with one or two axes of a kind."""
    count = min(MOST_DEVICES, jax.device_count())
    shape = draw(st.sampled_from(((count,), (count // 2, 2)) if count > 1 else ((1,),)))
    kind = draw(st.sampled_from((AxisType.Auto, AxisType.Explicit)))
    return jax.make_mesh(shape, ("x", "y")[: len(shape)], (kind,) * len(shape))


def sharding(leaf: jax.Array, mesh: jax.sharding.Mesh, random: Any) -> NamedSharding:
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


def check_types(found: Any, params: Any) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(params)
    for update, p in zip(jax.tree.leaves(found), jax.tree.leaves(params), strict=True):
        assert (update.shape, update.dtype) == (p.shape, p.dtype)
        assert np.all(np.isfinite(np.asarray(update, float)))


def check_close(found: Any, expected: Any) -> None:
    """Up to reordered sums, and one digit of a leaf of few digits."""
    leaves = [np.asarray(leaf, float) for leaf in jax.tree.leaves(expected)]
    largest = max((np.max(np.abs(leaf), initial=0) for leaf in leaves), default=0)
    for ours, theirs in zip(jax.tree.leaves(found), leaves, strict=True):
        bound = max(1e-3, 2 * float(jnp.finfo(ours.dtype).eps)) * largest
        np.testing.assert_allclose(np.asarray(ours, float), theirs, rtol=0, atol=bound)


def live_through(params: Any, rule: str, seed: int, mesh: jax.sharding.Mesh) -> None:
    """Three updates, a file, and a fourth update, on one device and on the mesh."""
    tx, params = build(rule), jax.tree.map(jnp.asarray, params)
    grads = jax.tree.map(jnp.asarray, random_agents.gradients(params, seed))
    state, step = tx.init(params), jax.jit(tx.update)
    for _ in range(3):
        updates, state = step(grads, state, params)
        check_types(updates, params)
        params = optax.apply_updates(params, updates)
    state = through_a_file(state)
    expected, _ = step(grads, state, params)
    random = np.random.default_rng(seed)
    places = jax.tree.map(lambda leaf: sharding(leaf, mesh, random), params)
    with jax.set_mesh(mesh):
        placed = jax.device_put((grads, params), (places, places))
        moved = optax.tree.map_params(
            tx, jax.device_put, state, places, transform_non_params=lambda leaf: leaf
        )
        found, _ = jax.jit(tx.update)(placed[0], moved, placed[1])
    check_types(found, params)
    check_close(found, expected)


@st.composite
def lives(draw: st.DrawFn, dtypes: tuple[str, ...]) -> tuple[Any, ...]:
    """Draw the arguments of `live_through`."""
    agent = draw(random_agents.agents(dtypes))
    rule = draw(st.sampled_from(list(RULES)))
    return agent, rule, draw(st.integers(0, 2**16)), draw(meshes())


FLOATS = ("float32", "bfloat16", "float16")
RANDOMLY = hypothesis.settings(
    database=None,
    deadline=None,
    suppress_health_check=list(hypothesis.HealthCheck),
)


@pytest.fixture(autouse=True)
def _quickly(quick_compilation: None) -> None:
    """Each agent is compiled for."""


@pytest.mark.slow
@hypothesis.settings(RANDOMLY, max_examples=40, derandomize=True)
@hypothesis.given(lives(FLOATS))
def test_random_agents(life: tuple[Any, ...]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RolesWarning)  # names are drawn at random
        live_through(*life)
