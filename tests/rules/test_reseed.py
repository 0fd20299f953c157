"""Noise keys of both generators, and new ones for copies and resumed runs."""

import functools
import io

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import Horizon, discovered, no_features, reseed
from tests.rules.open_cases import part

NOISE = "optimizer\ninputs rand\nreturn rand"
PARAMS = {"actor": {"w": jnp.ones((3, 2))}}
GENERATORS = pytest.mark.parametrize("generator", ["threefry2x32", "rbg"])


def rule(**options):
    return discovered.optimizer(NOISE, Horizon(10), **options)


def noise(tx, state, params=PARAMS):
    updates, state = jax.jit(tx.update)(params, state, params)
    return np.concatenate([np.ravel(x) for x in jax.tree.leaves(updates)]), state


WRAPPED = {
    "plain": lambda tx: tx,
    "chain": lambda tx: optax.chain(optax.clip(1.0), tx),
    "multi_transform": lambda tx: optax.multi_transform({"a": tx}, {"actor": "a"}),
    "masked": lambda tx: optax.masked(tx, {"actor": True}),
    "MultiSteps": lambda tx: optax.MultiSteps(tx, 1).gradient_transformation(),
    "apply_if_finite": lambda tx: optax.apply_if_finite(tx, 3),
    "inject_hyperparams": lambda tx: optax.inject_hyperparams(
        lambda factor: optax.chain(tx, optax.scale(factor))
    )(factor=1.0),
}


@pytest.mark.parametrize("wrapper", WRAPPED)
def test_a_reseeded_state_draws_other_noise_and_keeps_the_rest(wrapper):
    tx = WRAPPED[wrapper](rule())
    _, state = noise(tx, tx.init(PARAMS))
    fresh = reseed(state, jax.random.key(1))
    assert jax.tree.structure(fresh) == jax.tree.structure(state)
    assert optax.tree.set(fresh, key=part(state, "key")) is not None
    changed = [
        not np.array_equal(a, b)
        for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(fresh), strict=True)
    ]
    assert sum(changed) == 1
    assert not np.allclose(noise(tx, fresh)[0], noise(tx, state)[0])
    again = reseed(state, jax.random.key(1))
    np.testing.assert_array_equal(noise(tx, again)[0], noise(tx, fresh)[0])


def test_two_rules_in_one_state_get_different_keys():
    tx = optax.multi_transform(
        {"a": rule(), "b": rule()}, {"actor": {"w": "a", "v": "b"}}
    )
    params = {"actor": {"w": jnp.ones(4), "v": jnp.ones(4)}}
    drawn, _ = noise(tx, reseed(tx.init(params), jax.random.key(1)), params)
    assert not np.allclose(drawn[:4], drawn[4:])


@GENERATORS
@pytest.mark.parametrize("batch", [False, True])
@pytest.mark.parametrize("raw", [False, True])
def test_members_that_took_over_a_state_explore_on_their_own(generator, batch, raw):
    tx = rule(key=jax.random.key(3, impl=generator))
    agents = {"actor": {"w": jnp.arange(12.0).reshape(2, 3, 2)}}
    states = jax.vmap(tx.init)(agents)
    agents, states = jax.tree.map(lambda x: x.at[1].set(x[0]), (agents, states))
    update = jax.jit(jax.vmap(lambda s, p: tx.update(p, s, p)[0]["actor"]["w"]))
    same = update(states, agents)
    if generator != "rbg":  # whose numbers under vmap depend on the place
        np.testing.assert_array_equal(same[0], same[1])
    key = jax.random.key(5)
    key = jax.random.split(key) if batch else key
    key = jax.random.key_data(key) if raw else key
    apart = update(jax.jit(reseed)(states, key), agents)
    assert not np.allclose(apart[0], apart[1])


@GENERATORS
def test_the_state_keeps_its_generator(generator):
    tx = rule(key=jax.random.key(0, impl=generator))
    state = tx.init(PARAMS)
    for other in ("threefry2x32", "rbg", "unsafe_rbg"):
        fresh = reseed(state, jax.random.key(1, impl=other))
        assert part(fresh, "key").shape == part(state, "key").shape
        assert not np.allclose(noise(tx, fresh)[0], noise(tx, state)[0])


@pytest.mark.parametrize("generator", ["threefry2x32", "rbg", "unsafe_rbg"])
def test_a_run_resumes_under_another_default_generator(generator):
    tx = rule(key=jax.random.key(3, impl=generator))
    _, state = noise(tx, tx.init(PARAMS))
    expected, _ = noise(tx, state)
    file = io.BytesIO()
    np.savez(file, *jax.tree.leaves(state))
    file.seek(0)
    with np.load(file) as saved, jax.default_prng_impl("rbg"):
        later = rule()  # neither the key nor the default are those of the first run
        structure = jax.tree.structure(later.init(PARAMS))
        state = jax.tree.unflatten(structure, list(saved.values()))
        np.testing.assert_array_equal(noise(later, state)[0], expected)


def test_the_seed_of_another_default_generator_works():
    with jax.default_prng_impl("rbg"):
        tx = rule(seed=2)
        state = tx.init(PARAMS)
    assert part(state, "key").shape == (4,)
    assert noise(tx, state)[0].std() > 0


@pytest.mark.parametrize(
    ("key", "match"),
    [
        (np.zeros(3, np.uint32), r"uint32\[3\], not uint32 words"),
        (jnp.zeros(2), r"float32\[2\], not uint32 words"),
        (jax.random.split(jax.random.key(0)), r"key has shape \(2,\); give one key"),
    ],
)
def test_what_is_no_single_key_is_refused(key, match):
    with pytest.raises(ValueError, match=match):
        rule(key=key)


def test_reseed_refuses_what_it_cannot_do():
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="no state of a learned optimizer"):
        reseed(optax.adam(1e-3).init(PARAMS), key)
    with pytest.raises(ValueError, match=r"key has shape \(3,\), .* agents \(\)"):
        reseed(rule().init(PARAMS), jax.random.split(key, 3))
    with pytest.raises(TypeError, match=r"key=0 must be .* jax\.random\.key"):
        reseed(rule().init(PARAMS), 0)


def test_a_rule_without_noise_keeps_its_state():
    weights = no_features.init(jax.random.key(0), no_features.Architecture(None, 4))
    state = no_features.optimizer(weights).init(PARAMS)
    fresh = functools.partial(reseed, key=jax.random.key(1))(state)
    jax.tree.map(np.testing.assert_array_equal, fresh, state)
