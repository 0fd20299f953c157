"""Optim4RL: parity with the authors' two revisions and an oracle; what it refuses."""

import copy
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import artifacts
from learned_opt_rl.artifacts import Artifact
from learned_opt_rl.artifacts.card import Card
from learned_opt_rl.errors import ArtifactError, WeightsError
from learned_opt_rl.rules import optim4rl
from learned_opt_rl.rules.optim4rl import Architecture, optimizer
from tests import golden_open, golden_optim4rl, oracle_optim4rl
from tests.artifact_files import card_data
from tests.rules.open_cases import agent, assert_close, flat, gradients, part, run

ARCHITECTURES = [
    Architecture("arxiv2023", 3, 4),
    Architecture("rlc2024", 3, 4),
    Architecture("rlc2024", 3, None),
    Architecture("arxiv2023", 3, None),
]
TAGS = pytest.mark.parametrize("tag", golden_optim4rl.TAGS)
RATE = 1e-2

pytestmark = pytest.mark.usefixtures("quick_compilation")


@functools.cache
def weights(architecture=ARCHITECTURES[0], seed=0):
    """Random weights without a zero among them."""
    tree = optim4rl.init(jax.random.key(seed), architecture)
    noise = gradients(tree, seed + 1)
    return jax.tree.map(lambda w, n: w + 0.3 * n, tree, noise)


@functools.cache
def transform(architecture=ARCHITECTURES[0], **options):
    return optimizer(weights(architecture), RATE, **options)


@functools.partial(jax.jit, static_argnames="clip")
def rollout(w, rate, grads, params, clip=1.0):
    """Updates, states and parameters after each step; weights may be anything."""
    tx = optimizer(w, rate, grad_clip=clip)

    def step(carry, g):
        params, state = carry
        updates, state = tx.update(g, state, params)
        params = jax.tree.map(jnp.add, params, updates)
        return (params, state), (updates, state, params)

    return jax.lax.scan(step, (params, tx.init(params)), grads)[1]


def first_update(w, params, grads, rate=RATE, clip=1.0):
    one = jax.tree.map(lambda g: g[None], grads)
    return jax.tree.map(lambda u: u[0], rollout(w, rate, one, params, clip=clip)[0])


# Parity with the authors' code


def reference_case(reference, tag):
    """The file, and arguments for ``rollout`` after the weights."""
    arrays = golden_optim4rl.load(reference)
    steps = [golden_open.subtree(arrays, f"step{i}/grads/") for i in range(3)]
    clip = float(arrays[f"{tag}/grad_clip"])
    return arrays, {
        "rate": np.float32(arrays[f"{tag}/learning_rate"]),
        "grads": jax.tree.map(lambda *g: np.stack(g), *steps),
        "params": golden_open.subtree(arrays, "params0/"),
        "clip": clip if clip > 0 else None,
    }


def hidden(carry):
    """Carries in the reference's layout, ``[2, *shape, H]``."""
    return jax.tree.map(lambda c: np.stack(np.split(np.asarray(c), 2, -1)), carry)


@TAGS
def test_updates_and_hidden_states_equal_the_reference(reference, tag):
    arrays, case = reference_case(reference, tag)
    found = rollout(golden_optim4rl.weights(arrays, tag), **case)
    for i in range(3):
        updates, state, params = jax.tree.map(lambda x, i=i: x[i], found)
        expected = golden_open.subtree(arrays, f"{tag}/step{i}/update/")
        size = np.abs(flat(expected)).max()
        assert_close(updates, expected, rtol=1e-5, atol=1e-6 * max(size, case["rate"]))
        expected = golden_open.subtree(arrays, f"{tag}/step{i}/hidden/")
        assert_close(hidden(part(state, "carry")), expected, rtol=0, atol=1e-6)
        expected = golden_open.subtree(arrays, f"{tag}/step{i}/params/")
        assert_close(params, expected, atol=1e-6)
        assert state[0].count == i + 1


@functools.partial(jax.jit, static_argnames="clip")
@jax.value_and_grad
def meta_loss(w, rate, grads, params, clip):
    after = rollout(w, rate, grads, params, clip=clip)[2]
    return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(after))


@TAGS
def test_the_meta_gradient_equals_the_reference(reference, tag):
    arrays, case = reference_case(reference, tag)
    loss, grad = meta_loss(golden_optim4rl.weights(arrays, tag), **case)
    np.testing.assert_allclose(loss, arrays[f"{tag}/meta_loss"], rtol=1e-6)
    expected = golden_optim4rl.weights(arrays, tag, "meta_grad")
    scale = np.abs(flat(expected)).max()
    assert scale > 1e-3
    assert_close(grad, expected, rtol=1e-4, atol=2e-6 * scale)


@TAGS
def test_a_zero_gradient_has_a_zero_update_and_advances_the_state(reference, tag):
    arrays, case = reference_case(reference, tag)
    case["grads"] = jax.tree.map(np.zeros_like, case["grads"])
    w = golden_optim4rl.weights(arrays, tag)
    updates, state, _ = rollout(w, **case)
    assert not flat(updates).any()
    for leaf in jax.tree.leaves(part(state, "carry")):  # [step, *shape, units]
        # Equal inputs, so equal states: not 0.
        assert (np.abs(leaf).max(axis=-1) > 0.1).all()
    # And goes on where it left off: each step has another state.
    assert all(np.any(c[0] != c[1]) for c in jax.tree.leaves(part(state, "carry")))


@pytest.mark.parametrize("architecture", ARCHITECTURES[:2], ids=repr)
def test_clipping_matters_only_above_its_limit(architecture):
    params = {"w": jnp.linspace(-1, 1, 12).reshape(3, 4)}
    for scale, same in ((1.0, True), (3.0, False)):
        grads = {"w": scale * params["w"]}
        a, b = (
            first_update(weights(architecture), params, grads, clip=clip)["w"]
            for clip in (1.0, None)
        )
        assert np.array_equal(a, b) is same


@pytest.mark.parametrize(
    ("architecture", "count"),
    [
        (Architecture("rlc2024", 8, None), 514),
        (Architecture("rlc2024", 8, 16), 1362),
        (Architecture("arxiv2023", 8, 16), 1403),
        (Architecture("arxiv2023", 16, 32), 5107),
    ],
    ids=repr,
)
def test_published_sizes(architecture, count):
    tree = jax.eval_shape(
        lambda key: optim4rl.init(key, architecture), jax.random.key(0)
    )
    assert sum(leaf.size for leaf in jax.tree.leaves(tree)) == count


@TAGS
def test_init_is_drawn_as_the_reference_draws(reference, tag):
    arrays = golden_optim4rl.load(reference)
    theirs = golden_optim4rl.weights(arrays, tag, "init_theta")
    version = tag.partition("_")[0]
    width = 16 if "mlp16" in tag else None
    ours = optim4rl.init(jax.random.key(1), Architecture(version, 8, width))
    assert jax.tree.map(jnp.shape, ours) == jax.tree.map(np.shape, theirs)
    for path, leaf in jax.tree_util.tree_leaves_with_path(ours):
        *_, layer, kind = (key.key for key in path)
        if kind == "bias":
            assert not leaf.any()
        elif layer in ("hr", "hz", "hn"):
            np.testing.assert_allclose(leaf @ leaf.T, np.eye(8), atol=1e-5)
        else:  # LeCun normal, cut at two standard deviations
            assert np.abs(leaf).max() < 2 / 0.87962566 / np.sqrt(leaf.shape[0]) + 1e-6
            assert leaf.std() > 0.3 / np.sqrt(leaf.shape[0])


# The oracle


@pytest.mark.parametrize(
    ("architecture", "clip"),
    list(zip(ARCHITECTURES, (1.0, None, 1.0, None), strict=True)),
    ids=[repr(architecture) for architecture in ARCHITECTURES],
)
def test_steps_equal_the_oracle(architecture, clip):
    params = {"a": [jnp.float32(0.3), jnp.ones((2, 1, 3))], "b": jnp.ones((3, 2))}
    w = weights(architecture)
    steps = [gradients(params, seed=i) for i in range(3)]
    grads = jax.tree.map(lambda *g: jnp.stack(g), *steps)
    grads["b"] *= jnp.array([[[0.0, 1e-15], [1e-30, 1e-3], [1, 3]]])
    found = rollout(w, RATE, grads, params, clip=clip)
    hidden = [np.zeros((2, 3, *p.shape)) for p in jax.tree.leaves(params)]
    for i in range(3):
        updates, state, _ = jax.tree.map(lambda x, i=i: x[i], found)
        given = [g[i] for g in jax.tree.leaves(grads)]
        expected, hidden = oracle_optim4rl.step(
            architecture.version, w, RATE, given, hidden, clip
        )
        for f, e in zip(jax.tree.leaves(updates), expected, strict=True):
            np.testing.assert_allclose(f, e, rtol=2e-4, atol=1e-6 * RATE)
        for f, e in zip(jax.tree.leaves(part(state, "carry")), hidden, strict=True):
            e = np.moveaxis(e.reshape(-1, *e.shape[2:]), 0, -1)
            np.testing.assert_allclose(f, e, rtol=0, atol=2e-5)


@pytest.mark.parametrize("architecture", ARCHITECTURES[2:], ids=repr)
def test_only_the_2023_version_can_flip_the_sign(architecture):
    params = {"w": jnp.ones((20, 20))}
    grads, w = gradients(params), copy.deepcopy(weights(architecture))
    signs = []
    for bias in (-30.0, 30.0):
        head = w["tower_1"]["mlp"]["dense_0"]
        head["bias"] = head["bias"].at[0].set(bias)
        updates = first_update(w, params, grads)
        signs.append(np.unique(np.sign(updates["w"] * grads["w"])).tolist())
    flips = architecture.version == "arxiv2023"
    assert signs == [[1.0 if flips else -1.0], [-1.0]]


# Use


def test_inputs_carry_no_gradient():
    params, tx = agent(), transform()
    state = tx.init(params)

    def total(grads):
        updates, after = tx.update(grads, state, params)
        return sum(jnp.sum(u) for u in jax.tree.leaves((updates, part(after, "carry"))))

    assert not flat(jax.jit(jax.grad(total))(gradients(params))).any()


def test_a_schedule_is_read_at_the_count_and_scales_the_update():
    params = agent()
    schedule = optax.linear_schedule(RATE, 0.0, 4)
    tx = optimizer(weights(), schedule)
    for steps, factor in ((1, 1.0), (2, 0.75), (3, 0.5)):
        annealed, state = run(tx, params, steps)
        constant, _ = run(transform(), params, steps)
        assert_close(annealed, jax.tree.map(lambda u, f=factor: f * u, constant))
        assert state[0].count == steps


def test_the_learning_rate_may_be_traced_and_injected():
    params, w = agent(), weights()
    traced = jax.jit(lambda r: run(optimizer(w, r), params)[0])(RATE)
    assert_close(traced, run(transform(), params)[0])
    injected = optax.inject_hyperparams(
        lambda learning_rate: optimizer(w, learning_rate)
    )(learning_rate=RATE)
    assert_close(run(injected, params)[0], run(transform(), params)[0])


def test_half_precision_parameters_get_half_precision_updates():
    params = agent(dtype=jnp.bfloat16)
    updates, state = run(transform(), params)
    assert {u.dtype for u in jax.tree.leaves(updates)} == {jnp.dtype(jnp.bfloat16)}
    assert {c.dtype for c in jax.tree.leaves(part(state, "carry"))} == {
        jnp.dtype("float32")
    }


# What it refuses


@pytest.mark.parametrize(
    "tree", [{}, None, {"tower_1": {}}, {"tower_1": {"gru": 1, "mlp": {}}}], ids=repr
)
def test_something_that_is_no_network_is_refused(tree):
    with pytest.raises(WeightsError, match=r"do not fit an Optim4RL.*optim4rl\.init"):
        optimizer(tree, RATE)


def test_a_population_wants_vmap():
    stacked = jax.tree.map(lambda w: jnp.stack([w, w]), weights())
    with pytest.raises(WeightsError, match="vmap over scale_by_optim4rl"):
        optimizer(stacked, RATE)


def test_a_tensor_that_does_not_fit_is_named():
    tree = copy.deepcopy(weights())
    tree["tower_2"]["gru"]["hr"]["kernel"] = jnp.ones((2, 3))
    with pytest.raises(WeightsError, match=r"'tower_2\.gru\.hr\.kernel' has shape \(2"):
        optimizer(tree, RATE)
    del tree["tower_2"]
    with pytest.raises(WeightsError, match=r"'tower_2\..*' has shape missing"):
        optimizer(tree, RATE)


@pytest.mark.parametrize("clip", [0, -1.0, True, "1", float("nan")], ids=repr)
def test_a_clip_that_is_none_is_refused(clip):
    with pytest.raises(
        ValueError, match="grad_clip=.* must be a positive number; give"
    ):
        optimizer(weights(), RATE, grad_clip=clip)


@pytest.mark.parametrize("changes", [{"carry": 0}, {"width": 2.5}, {"version": "2024"}])
def test_an_architecture_that_cannot_be_is_refused(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"architecture.{name} is .*; write"):
        Architecture(**{"version": "arxiv2023", "carry": 8, "width": 16, **changes})


# What every family refuses is in test_open_errors and in the contract.
def test_a_state_of_other_weights_is_refused():
    params = agent()
    other = optimizer(weights(Architecture("arxiv2023", 2, 4)), RATE)
    with pytest.raises(ValueError, match=r"'carry' .* 6\), needed is .* 4\)"):
        other.update(params, transform().init(params), params)


# Artifacts


def artifact(architecture=ARCHITECTURES[0], algorithm="optim4rl", **fields):
    sizes = ("version", "carry", "width")
    named: dict = {name: getattr(architecture, name) for name in sizes}
    if algorithm == "open":
        named = card_data()["architecture"]
    data = card_data(
        algorithm=algorithm, architecture={**named, **fields}, horizon=None
    )
    return Artifact(
        Card.from_dict(data), jax.tree.map(np.asarray, weights(architecture))
    )


def test_an_artifact_becomes_its_transformation(monkeypatch):
    params, architecture = agent(), ARCHITECTURES[2]
    trained = artifact(architecture, learning_rate=RATE)
    monkeypatch.setattr(artifacts, "load", lambda name, fetch: trained)
    expected = flat(run(transform(architecture), params)[0])
    found = flat(run(optim4rl.pretrained("some/name"), params)[0])
    np.testing.assert_array_equal(found, expected)
    twice = optim4rl.pretrained("some/name", learning_rate=2 * RATE, grad_clip=None)
    other = optimizer(weights(architecture), 2 * RATE, grad_clip=None)
    np.testing.assert_array_equal(
        flat(run(twice, params)[0]), flat(run(other, params)[0])
    )
    assert artifacts.rule_module("optim4rl") is optim4rl
    trained = artifact(ARCHITECTURES[0], learning_rate=RATE)

    def program(tx):
        state = jax.eval_shape(tx.init, params)
        return jax.make_jaxpr(tx.update)(params, state, params)

    # What compiles is compared instead of its values, which takes no compilation.
    found, wanted = program(optim4rl.pretrained("some/name")), program(transform())
    assert str(found) == str(wanted) != str(program(transform(architecture)))
    for ours, theirs in zip(found.consts, wanted.consts, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_an_artifact_without_a_learning_rate_needs_one():
    with pytest.raises(ArtifactError, match="names no learning_rate; pass learning_ra"):
        optim4rl.from_artifact(artifact())
    optim4rl.from_artifact(artifact(), learning_rate=RATE)


def test_an_artifact_of_another_algorithm_is_refused():
    with pytest.raises(ArtifactError, match="'open', not 'optim4rl'"):
        optim4rl.from_artifact(artifact(algorithm="open"))


def test_a_numpy_learning_rate_keeps_the_dtype_of_the_parameters():
    weights = optim4rl.init(
        jax.random.key(0), optim4rl.Architecture("rlc2024", 8, None)
    )
    tx = optim4rl.optimizer(weights, np.float32(1e-3))
    params = {"w": jnp.ones(3, jnp.bfloat16)}
    updates, _ = jax.eval_shape(tx.update, params, tx.init(params), params)
    assert updates["w"].dtype == jnp.bfloat16
