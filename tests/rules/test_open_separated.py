"""OPEN with weights of their own for actor and critic."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import open_rl, rules
from learned_opt_rl.artifacts import registry
from learned_opt_rl.artifacts.weights import save_safetensors
from learned_opt_rl.errors import WeightsError
from tests.artifact_files import card_data, write_card
from tests.rules.open_cases import (
    FEED_FORWARD,
    HORIZON,
    RECURRENT,
    agent,
    assert_close,
    assert_equal,
    constant_weights,
    flat,
    part,
    run,
    transform,
    weights,
)

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = {"actor": jnp.array([1.0, -2.0]), "critic": jnp.ones((1, 3))}


def pair(architecture=RECURRENT, actor=0, critic=5):
    return {
        "actor": weights(architecture, actor),
        "critic": weights(architecture, critic),
    }


@functools.cache
def separated(architecture=RECURRENT, actor=0, critic=5):
    return open_rl.optimizer(pair(architecture, actor, critic), HORIZON)


def test_the_same_weights_twice_are_open():
    params = agent()
    assert_close(run(separated(critic=0), params), run(transform(), params), atol=1e-6)


def centered(weights):
    """Return a rule that removes the mean even without a hidden layer."""
    return open_rl.optimizer(weights, HORIZON, zero_mean=True)


def test_each_network_is_moved_by_its_weights_up_to_the_common_mean():
    updates, state = run(centered(pair()), SMALL)
    for network, seed in (("actor", 0), ("critic", 5)):
        alone, memory = run(centered(weights(seed=seed)), SMALL)
        shift = flat(updates[network]) - flat(alone[network])
        np.testing.assert_allclose(shift, shift[0], atol=2e-7)
        assert_close(
            part(state, "carry")[network],
            part(memory, "carry")[network],
            atol=1e-6,
        )
    assert_close(part(state, "momenta"), part(memory, "momenta"))
    assert abs(flat(updates).mean()) < 1e-9


def test_the_mean_is_that_of_both_networks_together():
    """Equation 9 takes it over the agent; a mean per network would give zeros."""
    sets = {"actor": constant_weights(1, 0, 0), "critic": constant_weights(3, 0, 0)}
    tx = centered(sets)
    params = {"actor": jnp.ones(30), "critic": jnp.ones(10)}
    updates, _ = run(tx, params, 1)
    # What is subtracted: 1e-3 and 3e-3, minus their mean over 40 parameters, 1.5e-3.
    np.testing.assert_allclose(updates["actor"], 0.5e-3, rtol=1e-5)
    np.testing.assert_allclose(updates["critic"], -1.5e-3, rtol=1e-5)


def test_noise_is_the_actors_and_scaled_by_its_weights():
    params = {"actor": jnp.ones(500), "critic": jnp.ones(500)}
    sets = {"actor": constant_weights(0, 0, 2), "critic": constant_weights(0, 0, 100)}
    updates, _ = run(open_rl.optimizer(sets, HORIZON), params, 1)
    assert np.unique(updates["critic"]).size == 1
    assert np.std(updates["actor"]) == pytest.approx(2e-3, rel=0.15)


def test_networks_say_who_is_who_and_leaves_interleave():
    params = {f"Dense_{i}": jnp.full((2, 2), float(i + 1)) for i in range(4)}
    names = {"actor": "[02]", "critic": "[13]"}

    def carries(critic):
        tx = open_rl.optimizer(pair(critic=critic), HORIZON, networks=names)
        return part(run(tx, params, 1)[1], "carry")

    # The critic's weights decide the critic's carries and no others.
    one, other = carries(5), carries(7)
    same = [np.array_equal(one[name], other[name]) for name in params]
    assert same == [True, False, True, False]


def test_parameters_that_no_name_assigns_are_the_actors():
    params = {"torso": jnp.ones(3)}
    assert_equal(run(separated(), params)[0], run(separated(critic=7), params)[0])


def test_a_population_and_meta_gradients():
    members = [pair(), pair(actor=1, critic=2)]
    stacked = jax.tree.map(lambda *w: jnp.stack(w), *members)

    def update(w):
        tx = open_rl.optimizer(w, HORIZON)
        return tx.update(SMALL, tx.init(SMALL), SMALL)[0]

    together = jax.jit(jax.vmap(update))(stacked)
    one = jax.tree.map(lambda x: x[1], together)
    assert_close(one, jax.jit(update)(members[1]), atol=1e-6)

    def objective(w):
        return sum(jnp.sum((1e3 * u) ** 2) for u in jax.tree.leaves(update(w)))

    grad = jax.jit(jax.grad(objective))(members[0])
    for path, leaf in jax.tree_util.tree_leaves_with_path(grad):
        # The first step starts from carries of zero, which hide the state's kernels.
        hidden = path[-2].key in ("hr", "hz", "hn") and path[-1].key == "kernel"
        assert np.isfinite(leaf).all() and (hidden or np.any(leaf))


def test_under_multi_transform_a_network_may_be_missing():
    params = agent()
    tx = optax.multi_transform(
        {"open": separated(), "sgd": optax.sgd(0.1)},
        {"actor": "sgd", "critic": "open"},
    )
    updates, _ = run(tx, params)
    assert np.isfinite(flat(updates)).all() and flat(updates["critic"]).any()


@pytest.mark.parametrize(
    ("keys", "match"),
    [
        (("actor",), r"not \['actor', 'critic'\]; give .*\.\.\."),
        (("actor", "critic", "torso"), r"not \['actor', 'critic'\]; give .*\.\.\."),
        (("pi", "vf"), "do not fit the network of OPEN"),
    ],
)
def test_other_keys_are_refused(keys, match):
    sets = {key: weights() for key in keys}
    with pytest.raises(WeightsError, match=match):
        open_rl.optimizer(sets, HORIZON)


def test_two_architectures_are_refused():
    mixed = {"actor": weights(RECURRENT), "critic": weights(FEED_FORWARD)}
    with pytest.raises(WeightsError, match="give both the same architecture"):
        open_rl.optimizer(mixed, HORIZON)
    with pytest.raises(WeightsError, match="do not fit the network of OPEN"):
        open_rl.optimizer({"actor": {}, "critic": {}}, HORIZON)


def test_a_horizon_that_is_none_is_refused():
    with pytest.raises(TypeError, match=r"horizon=10 must be a Horizon"):
        open_rl.optimizer(pair(), 10)


@pytest.mark.parametrize("damage", [False, True])
def test_an_artifact_of_two_networks_is_found_by_its_card(tmp_path, damage):
    """As campaigns of `open_separated` leave it."""
    made = pair(open_rl.Architecture(None, 3))
    number = sum(leaf.size for leaf in jax.tree.leaves(made))
    if damage:
        del made["critic"]["mlp"]["dense_2"]["bias"]
    folder = tmp_path / "ours/two"
    folder.mkdir(parents=True)
    digest = save_safetensors(folder / "weights.safetensors", made)
    card = card_data(
        "ours/two",
        algorithm="open_separated",
        architecture={"carry": None, "width": 3},
    )
    card["weights"] |= {"sha256": digest, "parameters": number}
    write_card(folder, card)
    with registry.bundled_in(tmp_path):
        if damage:
            with pytest.raises(WeightsError):
                rules.pretrained("ours/two")
            return
        found = rules.pretrained("ours/two", horizon=HORIZON)
    expected = open_rl.optimizer(made, HORIZON)
    assert_equal(run(found, SMALL)[0], run(expected, SMALL)[0])
