"""What OPEN does with parameters, noise, time and weights."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt_rl
from learned_opt_rl import Horizon, HorizonWarning, artifacts, open_rl
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.rules._core import notice
from tests.rules.open_cases import (
    FEED_FORWARD,
    HORIZON,
    RECURRENT,
    agent,
    assert_close,
    assert_equal,
    constant_weights,
    flat,
    gradients,
    part,
    run,
    transform,
    weights,
)

ARCHITECTURES = pytest.mark.parametrize(
    "architecture", [RECURRENT, FEED_FORWARD], ids=["recurrent", "feed-forward"]
)
BIG = {"actor": {"w": jnp.ones((100, 100))}, "critic": {"w": jnp.ones((50, 50))}}
CARD = artifacts.card("goldie2024/minatar")


@functools.cache
def noise_alone(scale=1):
    return open_rl.optimizer(constant_weights(0, 0, scale), HORIZON)


def keyed(key):  # keys cannot be hashed, so these are not cached
    return open_rl.optimizer(weights(FEED_FORWARD), HORIZON, key=key)


# Noise


def test_noise_reaches_the_actor_alone_and_is_standard_normal():
    updates, _ = run(noise_alone(), BIG, steps=1)
    # The critic has only its share of the mean that was taken from everything.
    critic = np.unique(updates["critic"]["w"])
    assert critic.size == 1
    noise = (critic - np.ravel(updates["actor"]["w"])) / 1e-3
    assert abs(noise.mean()) < 4 / 100
    assert noise.std() == pytest.approx(1, abs=0.03)
    assert abs(np.mean(noise**3)) < 0.15 and np.mean(noise**4) == pytest.approx(3, 0.1)


def test_noise_is_fresh_at_each_step_and_scaled_by_the_third_output():
    tx, twice = noise_alone(), noise_alone(2)
    first, second = run(tx, BIG, 1)[0], run(tx, BIG, 2)[0]
    correlation = np.corrcoef(flat(first["actor"]), flat(second["actor"]))[0, 1]
    assert abs(correlation) < 0.05
    assert_close(run(twice, BIG, 2)[0], jax.tree.map(lambda u: 2 * u, second))


def test_a_critic_alone_gets_no_noise():
    params = {"critic": agent()["critic"]}
    a, b = (run(transform(FEED_FORWARD, seed=s), params)[0] for s in (3, 4))
    assert_equal(a, b)


def test_the_seed_decides_the_noise():
    first, again, other = (
        run(transform(FEED_FORWARD, seed=s), agent()) for s in (3, 3, 4)
    )
    assert_equal(first, again)
    assert not np.allclose(flat(first[0]["actor"]), flat(other[0]["actor"]), atol=1e-6)
    assert not np.array_equal(part(first[1], "key"), part(other[1], "key"))


def test_a_key_of_any_kind_replaces_the_seed():
    seeded = run(transform(FEED_FORWARD, seed=3), agent())
    for key in (jax.random.key(3), jax.random.PRNGKey(3)):
        assert_equal(run(keyed(key), agent()), seeded)
    rbg = jax.random.key(3, impl="rbg")
    first, again = (run(keyed(rbg), agent()) for _ in range(2))
    assert_equal(first, again)
    assert part(first[1], "key").dtype == jnp.uint32
    assert not np.array_equal(flat(first[0]), flat(seeded[0]))


def test_agents_under_vmap_draw_different_noise():
    tx = noise_alone()
    agents = jax.vmap(lambda key: {"w": jax.random.normal(key, (50,))})(
        jax.random.split(jax.random.key(0), 3)
    )

    @jax.jit
    def first_update(params):
        return tx.update(params, tx.init(params), params)[0]

    updates = jax.vmap(first_update)(agents)
    correlation = np.corrcoef(updates["w"])
    assert np.abs(correlation - np.eye(3)).max() < 0.5
    # Side by side or alone, an agent draws the same.
    alone = jax.tree.map(lambda p: p[1], agents)
    expected = first_update(alone)
    np.testing.assert_allclose(updates["w"][1], expected["w"], atol=1e-8)


def test_agents_under_vmap_can_have_keys_of_their_own():
    params = agent()

    @jax.jit
    def update(key):
        return run(keyed(key), params)[0]

    keys = jax.random.split(jax.random.key(0), 2)
    found = jax.vmap(update)(keys)
    for i, key in enumerate(keys):
        assert_close(jax.tree.map(lambda u, i=i: u[i], found), update(key))


def test_networks_decide_who_explores():
    tx = open_rl.optimizer(
        constant_weights(0, 0, 1), HORIZON, networks={"critic": "actor", "pi": "critic"}
    )
    updates, _ = run(tx, BIG)
    assert np.unique(updates["actor"]["w"]).size == 1
    assert np.unique(updates["critic"]["w"]).size > 2000


# Parameters


@ARCHITECTURES
def test_the_mean_over_all_parameters_is_zero(architecture):
    for steps in (1, 3):
        updates = flat(run(transform(architecture), agent(), steps)[0])
        assert updates.std() > 1e-5
        assert abs(updates.mean()) < 1e-4 * updates.std()


def test_the_first_output_is_scaled_by_the_exponential_of_the_second():
    params, steps = {"critic": agent()["critic"]}, []
    for second in (0, 500):
        w = constant_weights(0, second, 0)
        kernel = w["mlp"]["dense_2"]["kernel"].at[:, 0].set(1.0)
        w["mlp"]["dense_2"]["kernel"] = kernel
        steps.append(run(open_rl.optimizer(w, HORIZON), params)[0])
    assert flat(steps[0]).std() > 1e-5
    assert_close(steps[1], jax.tree.map(lambda u: float(np.exp(0.5)) * u, steps[0]))


def test_updates_are_added():
    """A rule that sees the gradient's sign and follows it descends."""
    params = {"critic": jnp.array([1.0, -1.0])}
    tx = open_rl.optimizer(descending_weights(), HORIZON)
    updates, _ = jax.jit(tx.update)(params, tx.init(params), params)
    assert updates["critic"][0] < 0 < updates["critic"][1]


def descending_weights():
    """Feed-forward weights whose first output has the gradient's sign."""
    tree = jax.tree.map(jnp.zeros_like, open_rl.init(jax.random.key(0), FEED_FORWARD))
    mlp = tree["mlp"]
    signs = jnp.where(jnp.arange(4) % 2 == 0, 1.0, -1.0)
    mlp["dense_0"]["kernel"] = mlp["dense_0"]["kernel"].at[13].set(signs)
    mlp["dense_1"]["kernel"] = jnp.eye(4)
    mlp["dense_2"]["kernel"] = mlp["dense_2"]["kernel"].at[:, 0].set(signs)
    for norm in ("norm_0", "norm_1"):
        mlp[norm]["scale"] = jnp.ones(4)
    return tree


@ARCHITECTURES
def test_exactly_zero_gradients_give_finite_updates(architecture):
    params, tx = agent(), transform(architecture, zero_gradients="move")
    zeros = jax.tree.map(jnp.zeros_like, params)
    updates, state = jax.jit(tx.update)(zeros, tx.init(params), params)
    assert np.isfinite(flat(updates)).all() and flat(updates).std() > 0
    assert not flat(part(state, "momenta")).any()


@pytest.mark.parametrize(
    ("dtype", "architecture"), [(jnp.bfloat16, RECURRENT), (jnp.float16, FEED_FORWARD)]
)
def test_half_precision_is_computed_in_float32_and_returned_as_it_came(
    dtype, architecture
):
    params = agent(dtype=dtype)
    wide = jax.tree.map(lambda p: p.astype(jnp.float32), params)
    tx = transform(architecture)
    grads = gradients(params)
    update = jax.jit(tx.update)
    updates, state = update(grads, tx.init(params), params)
    wide_grads = jax.tree.map(lambda g: g.astype(jnp.float32), grads)
    expected, wide_state = update(wide_grads, tx.init(wide), wide)
    assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype(dtype)}
    ulp = float(jnp.finfo(dtype).eps)
    assert_close(updates, jax.tree.map(lambda u: u.astype(dtype), expected), rtol=ulp)
    assert_close(state, wide_state, atol=1e-6)


def test_float64_parameters_keep_a_float32_state():
    with jax.enable_x64(True):
        params = jax.tree.map(lambda p: p.astype(jnp.float64), agent())
        tx = transform()
        updates, state = jax.jit(tx.update)(params, tx.init(params), params)
        assert {leaf.dtype for leaf in jax.tree.leaves(updates)} == {jnp.dtype("f8")}
        kinds = jax.tree.map(lambda x: (x.shape, x.dtype), state)
        assert kinds == jax.tree.map(lambda x: (x.shape, x.dtype), tx.init(params))


@pytest.mark.parametrize("params", [{}, (), {"a": {}, "b": None}], ids=repr)
def test_an_empty_tree_has_empty_updates(params):
    tx = transform()
    assert tx.update(params, tx.init(params), params)[0] == params


def test_a_leaf_without_elements_is_no_trouble():
    params = {"a": jnp.ones((0, 3)), "b": jnp.ones(2)}
    updates, _ = run(transform(), params)
    assert updates["a"].shape == (0, 3) and np.isfinite(updates["b"]).all()


def test_dormancy_changes_the_updates_and_one_is_its_default():
    params = agent()
    ones = {"actor": 1.0, "critic": {"Dense_0": jnp.ones(2)}}
    plain = run(transform(), params)[0]
    assert_equal(run(transform(), params, dormancy=ones)[0], plain)
    ones["critic"]["Dense_0"] = jnp.array([2.0, 0.0])
    changed = run(transform(), params, dormancy=ones)[0]
    change = np.abs(flat(changed["critic"]) - flat(plain["critic"])).max()
    assert change > 1e-5


# Transformations of jax and optax


def test_a_scan_is_one_compilation_and_equals_single_steps():
    params = agent()
    tx = open_rl.optimizer(weights(), HORIZON)  # nobody else's cache
    grads = gradients(params)

    def step(state, _):
        updates, state = tx.update(grads, state, params)
        return state, updates

    state, scanned = jax.lax.scan(step, tx.init(params), length=3)
    update, one = jax.jit(tx.update), tx.init(params)
    for _ in range(3):
        updates, one = update(grads, one, params)
    assert update._cache_size() == 1
    assert_close(jax.tree.map(lambda u: u[-1], scanned), updates)
    assert_close(state, one, rtol=1e-4, atol=1e-6)


def test_extra_arguments_of_any_name_are_ignored():
    names = ("value", "count", "inputs", "roles", "options", "params_")
    found = run(transform(), agent(), **dict.fromkeys(names, 0.5))
    assert_equal(found[0], run(transform(), agent())[0])


def test_masked_parameters_are_as_if_they_were_not_there():
    params = agent()
    masked = optax.masked(transform(FEED_FORWARD), {"actor": True, "critic": False})
    updates, _ = run(masked, params)
    alone, tx = {"actor": params["actor"]}, transform(FEED_FORWARD)
    state, update = tx.init(alone), jax.jit(tx.update)
    for i in range(2):
        grads = {"actor": gradients(params, seed=i)["actor"]}
        expected, state = update(grads, state, alone)
    assert_close(updates["actor"], expected["actor"])
    assert_equal(updates["critic"], gradients(params, seed=1)["critic"])


def test_multi_transform_leaves_the_rest_to_adam():
    params = agent()
    both = optax.multi_transform(
        {"open": transform(FEED_FORWARD), "adam": optax.adam(1e-3)},
        {"actor": "open", "critic": "adam"},
    )
    updates, _ = run(both, params)
    adam = optax.adam(1e-3)
    state = adam.init(params["critic"])
    for i in range(2):
        expected, state = adam.update(gradients(params, seed=i)["critic"], state)
    assert_close(updates["critic"], expected)
    masked = optax.masked(transform(FEED_FORWARD), {"actor": True, "critic": False})
    assert_close(updates["actor"], run(masked, params)[0]["actor"])


def test_multi_transform_may_leave_open_nothing():
    params = agent()
    tx = optax.multi_transform(
        {"open": transform(FEED_FORWARD), "adam": optax.adam(1e-3)},
        jax.tree.map(lambda _: "adam", params),
    )
    expected, _ = run(optax.adam(1e-3), params)
    assert_close(run(tx, params)[0], expected)


def test_the_meta_gradient_reaches_every_weight_through_several_steps():
    """Its value is checked against the oracle in test_open_oracle."""
    params = agent()
    target = gradients(params, seed=99)

    def meta_loss(w):
        updates, _ = run(open_rl.optimizer(w, HORIZON), params)
        return sum(
            1e3 * jnp.vdot(u, t)
            for u, t in zip(*map(jax.tree.leaves, (updates, target)), strict=True)
        )

    grad = jax.jit(jax.grad(meta_loss))(weights())
    for leaf in jax.tree.leaves(grad):
        assert np.isfinite(leaf).all() and np.any(leaf)


def test_a_meta_gradient_through_a_population_or_agents_under_vmap():
    params = agent()

    def meta_loss(w, p):
        updates, _ = run(open_rl.optimizer(w, HORIZON), p, 1)
        return 1e6 * sum(jnp.sum(u**2) for u in jax.tree.leaves(updates))

    w = weights(FEED_FORWARD)
    agents = jax.tree.map(lambda p: jnp.stack([p, 2 * p]), params)
    batched = jax.vmap(meta_loss, in_axes=(None, 0))
    found = jax.jit(jax.grad(lambda w: batched(w, agents).sum()))(w)
    each = jax.jit(jax.vmap(jax.grad(meta_loss), in_axes=(None, 0)))(w, agents)
    assert_close(found, jax.tree.map(lambda g: g.sum(0), each), rtol=1e-3, atol=1e-3)


def test_many_parameters_are_treated_as_few():
    """Trees above 2**18 parameters run in blocks, but not when differentiated."""
    params = {"critic": jax.random.normal(jax.random.key(0), (2000, 141))}
    tx, grads = transform(FEED_FORWARD), gradients(params)
    state = tx.init(params)

    def update(t_p):
        return tx.update(grads, state, params, training_proportion=t_p)

    plain = jax.jit(update)(0.5)
    primal, _ = jax.jit(lambda t: jax.jvp(update, (t,), (1.0,)))(0.5)
    assert_close(plain, primal, atol=1e-6)


# Time


@pytest.mark.parametrize("count", [0, 7, 23, 100])
def test_proportions_come_from_the_count_and_can_be_given(count):
    params, tx = agent(), transform()
    state = optax.tree.set(tx.init(params), count=jnp.int32(count))
    grads = gradients(params)
    update = jax.jit(tx.update)
    updates, after = update(grads, state, params)
    assert part(after, "count") == count + 1
    rollout, epoch = count // 6, count // 2 % 3
    given = {
        "training_proportion": min(rollout / 3, 1.0),
        "batch_proportion": np.float32(epoch / 2),
    }
    expected, _ = update(grads, tx.init(params), params, **given)
    assert_close(updates, expected)


@pytest.mark.parametrize("name", ["training_proportion", "batch_proportion"])
def test_either_proportion_matters(name):
    params = agent()
    a, b = (flat(run(transform(), params, **{name: v})[0]) for v in (0.1, 0.9))
    assert not np.allclose(a, b, atol=1e-6)


def past_horizon(steps, **options):
    params = {"w": jnp.ones(2)}
    tx = open_rl.optimizer(weights(FEED_FORWARD), Horizon(3), **options)
    run(tx, params, steps)
    jax.effects_barrier()


def test_past_the_horizon_one_line_is_logged(caplog, monkeypatch):
    monkeypatch.setattr(notice, "_LOGGED", set())
    past_horizon(6, warn_past_horizon=True)
    assert [line.message.partition(";")[0] for line in caplog.records] == [
        "past the horizon of 3 updates"
    ]


@pytest.mark.parametrize(
    ("steps", "options"), [(3, {"warn_past_horizon": True}), (6, {})]
)
def test_nothing_is_logged_within_the_horizon_or_unasked(
    caplog, monkeypatch, steps, options
):
    monkeypatch.setattr(notice, "_LOGGED", set())
    past_horizon(steps, **options)
    assert not caplog.records


# Artifacts


def artifact(**changes):
    given = jax.tree.map(np.asarray, weights(FEED_FORWARD))
    return artifacts.Artifact(dataclasses.replace(CARD, **changes), given)


def step_at(tx, count):
    params = agent()
    state = optax.tree.set(tx.init(params), count=jnp.int32(count))
    return jax.jit(tx.update)(gradients(params), state, params)


def test_an_artifact_brings_its_horizon():
    trained = Horizon(**dataclasses.asdict(CARD.horizon))
    with pytest.warns(HorizonWarning):
        tx = open_rl.from_artifact(artifact(), seed=3)
    expected = open_rl.optimizer(weights(FEED_FORWARD), trained, seed=3)
    assert_equal(step_at(tx, 20_000), step_at(expected, 20_000))


def test_a_horizon_of_your_own_goes_before_the_artifacts():
    tx = open_rl.from_artifact(artifact(), horizon=HORIZON)
    expected = open_rl.optimizer(weights(FEED_FORWARD), HORIZON)
    assert_equal(step_at(tx, 10), step_at(expected, 10))


def test_an_artifact_of_another_algorithm_is_refused():
    with pytest.raises(ArtifactError, match="'lpo', not 'open'.*learned_opt_rl.pretr"):
        open_rl.from_artifact(artifact(algorithm="lpo"))


def test_an_artifact_without_horizon_needs_one():
    with pytest.raises(ArtifactError, match=r"names no horizon; pass horizon=Horizon"):
        open_rl.from_artifact(artifact(horizon=None))
    open_rl.from_artifact(artifact(horizon=None), horizon=HORIZON)


@pytest.mark.parametrize("pretrained", [open_rl.pretrained, learned_opt_rl.pretrained])
def test_pretrained_loads_by_name_and_passes_options_on(monkeypatch, pretrained):
    asked = []

    def load(name, *, fetch=False):
        asked.append((name, fetch))
        return artifact()

    monkeypatch.setattr(artifacts, "load", load)
    tx = pretrained("some/name", fetch=True, horizon=HORIZON, seed=5)
    assert asked == [("some/name", True)]
    expected = open_rl.optimizer(weights(FEED_FORWARD), HORIZON, seed=5)
    assert_equal(step_at(tx, 4), step_at(expected, 4))


# Weights


@ARCHITECTURES
def test_init_draws_weights_of_the_architecture(architecture):
    tree = open_rl.init(jax.random.key(0), architecture)
    assert open_rl.optimizer(tree, HORIZON)
    assert ("gru" in tree) is (architecture.carry is not None)
    assert {leaf.dtype for leaf in jax.tree.leaves(tree)} == {jnp.dtype("float32")}
    assert not tree["mlp"]["dense_0"]["bias"].any()
    assert (tree["mlp"]["norm_1"]["scale"] == 1).all()
    if "gru" in tree:
        hidden = np.asarray(tree["gru"]["hr"]["kernel"])
        np.testing.assert_allclose(hidden @ hidden.T, np.eye(3), atol=1e-5)


def test_published_sizes():
    def size(carry, width):
        tree = jax.eval_shape(
            lambda key: open_rl.init(key, open_rl.Architecture(carry, width)),
            jax.random.key(0),
        )
        return sum(leaf.size for leaf in jax.tree.leaves(tree))

    assert size(8, 16) == 1211 and size(16, 32) == 3571


@pytest.mark.parametrize("changes", [{"carry": 0}, {"width": -1}, {"width": 2.5}])
def test_an_architecture_has_positive_whole_sizes(changes):
    (name,) = changes
    with pytest.raises(ValueError, match=f"architecture.{name} is .*integer of at"):
        open_rl.Architecture(**{"carry": 8, "width": 16, **changes})
