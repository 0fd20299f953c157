"""Parameters without a gradient stay put, and small groups can change their sum."""

import functools

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import Horizon, discovered, no_features, open_rl, optim4rl
from tests.rules.open_cases import (
    FEED_FORWARD,
    RECURRENT,
    agent,
    gradients,
    run,
    weights,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

HORIZON = Horizon(1000)
KEY = jax.random.key(0)
# Moves without a gradient in three ways, and its slot changes without one.
RESTLESS = """optimizer
inputs p, g, rand
memory n = 0
n = n + 1
return 0.01 * sign(g) + 0.001 * p + 0.001 * rand + 0.0001 * n"""
MAKERS = {
    "open": functools.partial(open_rl.optimizer, weights(), HORIZON),
    "open feed-forward": functools.partial(
        open_rl.optimizer, weights(FEED_FORWARD), HORIZON
    ),
    "no_features": functools.partial(
        no_features.optimizer, no_features.init(KEY, RECURRENT)
    ),
    "optim4rl": functools.partial(
        optim4rl.optimizer,
        optim4rl.init(KEY, optim4rl.Architecture("arxiv2023", 4, 8)),
        learning_rate=1e-3,
    ),
    "expression": functools.partial(discovered.optimizer, RESTLESS, HORIZON),
}


@functools.cache  # what is compiled for one test serves the others
def rule(name, **options):
    return MAKERS[name](**options)


# The network without memory is compiled in a fraction of the time.
EVERY = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.slow] * (n == "open")) for n in MAKERS],
)


def mostly_still():
    """Parameters, and gradients that only some of them have."""
    params = {
        **agent(),
        "target": {"Dense_0": {"kernel": jnp.ones((3, 2))}},
        "statistics": {"mean": jnp.ones(4), "count": jnp.float32(3)},
        "embed": {"embedding": jnp.ones((5, 2))},
    }
    grads = jax.tree.map(jnp.zeros_like, params) | gradients(agent())
    grads["embed"]["embedding"] = grads["embed"]["embedding"].at[1:3, 0].set(1.0)
    grads["actor"]["Dense_0"]["kernel"] = jnp.eye(3, 4)
    return params, grads


def steps(tx, params, grads, count=4):
    state, update, found = tx.init(params), jax.jit(tx.update), []
    for _ in range(count):
        updates, state = update(grads, state, params)
        found.append(updates)
    return found


@EVERY
def test_leaves_and_rows_that_never_had_a_gradient_stay(name):
    params, grads = mostly_still()
    for updates in steps(rule(name), params, grads):
        for still in (updates["target"], updates["statistics"]):
            assert not any(np.any(leaf) for leaf in jax.tree.leaves(still))
        rows = np.asarray(updates["embed"]["embedding"])
        assert not rows[[0, 3, 4]].any() and rows[1:3].any(axis=1).all()
        assert updates["actor"]["log_std"].any()


@EVERY
def test_single_entries_stay_on_request_and_everything_moves_on_request(name):
    params, grads = mostly_still()
    for updates in steps(rule(name, zero_gradients="entry"), params, grads):
        kernel = np.asarray(updates["actor"]["Dense_0"]["kernel"])
        assert not kernel[np.eye(3, 4) == 0].any()
        assert kernel[np.eye(3, 4) == 1].all()
    if name != "optim4rl":  # its update is 0 at a zero gradient
        moving = steps(rule(name, zero_gradients="move"), params, grads)[-1]
        assert all(np.any(leaf) for leaf in jax.tree.leaves(moving))


@EVERY
def test_where_everything_has_a_gradient_the_default_is_the_published_update(name):
    params, _ = mostly_still()
    grads = gradients(params)
    grads["critic"]["Dense_0"]["kernel"] = jnp.eye(3, 2)  # zeros, but not a whole leaf
    found, published = (
        steps(rule(name, **options), params, grads)
        for options in ({}, {"zero_gradients": "move"})
    )
    # The masks make another program, which may round the last digit differently.
    chex.assert_trees_all_close(found, published, rtol=1e-5, atol=1e-10)


@EVERY
def test_what_had_a_gradient_once_moves_on(name):
    params, grads = mostly_still()
    tx = rule(name, zero_gradients="entry")
    update = jax.jit(tx.update)
    _, state = update(grads, tx.init(params), params)
    updates, _ = update(jax.tree.map(jnp.zeros_like, grads), state, params)
    moved = bool(updates["actor"]["Dense_0"]["kernel"][0, 0])
    assert moved == (name != "optim4rl")


@EVERY
def test_the_still_leaves_do_not_count_in_the_mean(name):
    params, grads = mostly_still()
    alone = {k: params[k] for k in ("actor", "critic")}
    tx = rule(name, zero_mean=True)
    updates = jax.jit(tx.update)(grads, tx.init(params), params)[0]
    moved = jax.tree.leaves({k: updates[k] for k in (*alone, "embed")})
    assert abs(sum(float(leaf.sum()) for leaf in moved)) < 1e-6


@pytest.mark.parametrize(
    ("option", "value"), [("zero_gradients", "stay"), ("zero_mean", "never")]
)
@EVERY
def test_other_values_are_refused(name, option, value):
    with pytest.raises(ValueError, match=f"{option}='{value}' must be one of"):
        MAKERS[name](**{option: value})


SMALL = {
    "value head": {"critic": {"kernel": jnp.zeros((3, 1)), "bias": jnp.zeros(1)}},
    "log_std": {"log_std": jnp.zeros(6)},
    "temperature": {"log_alpha": jnp.zeros(())},
    "bare": jnp.zeros(6),
}


def distance(params):
    """A loss that only a change of the sum can lower."""
    return sum(jnp.sum((leaf - 0.05) ** 2) for leaf in jax.tree.leaves(params))


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(
            *(name, kind),
            marks=[pytest.mark.slow] * (name != "sign_mixture" and kind != "log_std"),
        )
        for name in ("minatar", "no_features/minatar", "sign_mixture")
        for kind in SMALL
    ],
)
def test_a_group_without_a_hidden_layer_learns(name, kind):
    from learned_opt_rl import pretrained

    def final_loss(**options):
        tx = pretrained(name, horizon=Horizon(400), **options)

        def step(carry, _):
            params, state = carry
            updates, state = tx.update(jax.grad(distance)(params), state, params)
            return (optax.apply_updates(params, updates), state), None

        start = SMALL[kind], tx.init(SMALL[kind])
        return distance(jax.lax.scan(step, start, length=300)[0][0])

    assert final_loss() < 0.7 * distance(SMALL[kind])
    stuck = final_loss(zero_mean=True)
    assert stuck > 0.99 * distance(SMALL[kind])


def mean_of_first_update(tx, params):
    updates, _ = run(tx, params, 1)
    leaves = [np.ravel(leaf) for leaf in jax.tree.leaves(updates)]
    return abs(np.concatenate(leaves).mean())


@pytest.mark.parametrize("name", ["open feed-forward", "no_features"])
def test_the_mean_of_whole_networks_is_removed(name):
    assert mean_of_first_update(rule(name), agent()) < 1e-8
    assert mean_of_first_update(rule(name, zero_mean=False), agent()) > 1e-6
    one_layer_each = {n: {"kernel": jnp.ones((2, 3))} for n in ("actor", "critic")}
    assert mean_of_first_update(rule(name), one_layer_each) > 1e-6
    forced = rule(name, zero_mean=True)
    assert mean_of_first_update(forced, one_layer_each) < 1e-8


@pytest.mark.parametrize("name", ["open feed-forward", "no_features"])
def test_a_head_above_a_frozen_torso_keeps_its_mean(name):
    params = agent()
    grads = jax.tree.map(jnp.zeros_like, params)
    grads["actor"]["Dense_1"] = gradients(params)["actor"]["Dense_1"]
    updates = steps(rule(name), params, grads)[0]
    head = np.concatenate([np.ravel(u) for u in updates["actor"]["Dense_1"].values()])
    assert abs(head.mean()) > 1e-6
    assert not updates["actor"]["Dense_0"]["kernel"].any()
