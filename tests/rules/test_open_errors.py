"""What OPEN, and the other families, say of something they cannot use."""

import copy

import flax.core
import jax
import jax.numpy as jnp
import optax
import pytest

from learned_opt_rl import Horizon, open_rl
from learned_opt_rl.errors import WeightsError
from learned_opt_rl.rules.open_rl import RuleState
from tests.rules.open_cases import FEED_FORWARD, HORIZON, agent, transform, weights
from tests.rules.test_sharding import FAMILIES, rules

EVERY_FAMILY = pytest.mark.parametrize("family", FAMILIES)
PARAMS = {"actor": {"bias": jnp.ones(2), "kernel": jnp.ones((3, 2))}}


def update(grads, params=PARAMS, state=None, **extra):
    tx = transform()
    state = tx.init(PARAMS) if state is None else state
    return tx.update(grads, state, params, **extra)


def test_missing_params_is_optaxs_message_and_the_fix():
    with pytest.raises(ValueError) as error:
        transform().update(PARAMS, transform().init(PARAMS))
    assert "not passing `params` when calling `update`" in str(error.value)
    assert "tx.update(grads, state, params)" in str(error.value)
    with pytest.raises(ValueError) as optaxs:
        optax.scale_by_trust_ratio().update(
            PARAMS, optax.ScaleByTrustRatioState(), None
        )
    assert str(optaxs.value).rstrip(".") in str(error.value)


@pytest.mark.parametrize(
    ("grads", "match"),
    [
        ({"actor": {"bias": jnp.ones(2)}}, "'actor/kernel': .* absent, needed .*3, 2"),
        ({**PARAMS, "critic": jnp.ones(1)}, r"'critic': .* \(1,\), needed is absent"),
        (
            {"actor": {"bias": jnp.ones(2), "kernel": jnp.ones((2, 3))}},
            r"'actor/kernel': its shape is \(2, 3\), needed is \(3, 2\)",
        ),
    ],
    ids=["missing", "unknown", "shape"],
)
def test_gradients_of_another_shape_name_the_path(grads, match):
    with pytest.raises(ValueError, match=f"the gradient does not match .*{match}"):
        update(grads)


def test_gradients_in_another_container_are_named():
    with pytest.raises(ValueError, match="FrozenDict tree.*dict tree.*unfreeze"):
        update(flax.core.freeze(PARAMS))


@EVERY_FAMILY
def test_a_state_of_other_parameters_is_refused(family):
    tx = rules()[family]
    state = tx.init({"actor": jnp.ones(2)})
    with pytest.raises(ValueError, match=r"optimizer state.*tx\.init\(params\)"):
        tx.update(PARAMS, state, PARAMS)


@pytest.mark.parametrize(
    ("of", "to", "match"),
    [
        (
            open_rl.Architecture(16, 16),
            open_rl.Architecture(8, 16),
            r"'carry' .* 16\), needed is .* 8\).*tx\.init\(params\)",
        ),
        (FEED_FORWARD, open_rl.Architecture(8, 16), "from another rule.*tx.init"),
        (open_rl.Architecture(8, 16), FEED_FORWARD, "from another rule.*tx.init"),
    ],
)
def test_a_state_of_other_weights_is_refused(of, to, match):
    state = transform(of).init(PARAMS)
    with pytest.raises(ValueError, match=match):
        transform(to).update(PARAMS, state, PARAMS)


def test_a_state_that_is_none_is_refused():
    rule = open_rl.scale_by_open(weights(), HORIZON)
    chained = optax.chain(optax.clip_by_global_norm(0.5), rule)
    with pytest.raises(TypeError, match="state is a tuple, not a RuleState"):
        rule.update(PARAMS, chained.init(PARAMS), PARAMS)


@EVERY_FAMILY
def test_every_family_names_a_wrong_state_and_an_integer_parameter(family):
    tx = rules()[family]
    state = jax.tree.map(
        lambda _: (), tx.init(PARAMS), is_leaf=lambda s: isinstance(s, RuleState)
    )
    with pytest.raises(TypeError, match="a tuple, not a RuleState"):
        tx.update(PARAMS, state, PARAMS)
    with pytest.raises(TypeError, match="'actor/n' is int32, not a floating array"):
        tx.init({"actor": {"n": jnp.ones(2, jnp.int32)}})


@pytest.mark.parametrize(
    ("leaf", "kind"),
    [
        (jnp.ones(2, jnp.int32), "int32"),
        (jnp.ones(2, bool), "bool"),
        (3, "int"),
        (jnp.ones(2, jnp.complex64), "complex64"),
        (1j, "complex"),
    ],
)
def test_a_parameter_that_is_no_floating_array_is_named(leaf, kind):
    with pytest.raises(TypeError, match=f"'actor/steps' is {kind}, not a floating"):
        transform().init({"actor": {"steps": leaf, "w": jnp.ones(2)}})


def test_a_complex_parameter_names_the_wrapper_that_splits_it():
    params = {"w": jnp.ones(2, jnp.complex64), "b": jnp.ones(2)}
    with pytest.raises(TypeError, match=r"optax\.contrib\.split_real_and_imaginary"):
        transform().init(params)
    tx = optax.contrib.split_real_and_imaginary(transform())
    grads = {"w": jnp.full(2, 1 + 1j, jnp.complex64), "b": jnp.ones(2)}
    updates, _ = jax.jit(tx.update)(grads, tx.init(params), params)
    assert updates["w"].dtype == jnp.complex64 and updates["w"].imag.any()


def test_python_floats_are_parameters():
    params, grads = {"w": 0.5, "b": 0.1}, {"w": 0.1, "b": -0.1}
    tx = transform()
    update = jax.jit(tx.update)
    updates, _ = update(grads, tx.init(params), params)
    arrays, of_arrays = (jax.tree.map(jnp.asarray, tree) for tree in (params, grads))
    expected, _ = update(of_arrays, tx.init(arrays), arrays)
    assert updates == expected
    assert optax.apply_updates(params, updates)["w"].dtype == jnp.float32


def test_a_whole_equinox_model_names_the_filter():
    model = {"mlp": {"weight": jnp.ones(2), "activation": jax.nn.relu, "scale": 1.0}}
    some = {"mlp": {"weight": jnp.ones(2), "activation": None, "scale": None}}
    tx = transform()
    with pytest.raises(ValueError, match=r"absent, needed .*eqx\.filter\(model"):
        tx.update(some, tx.init(some), model)
    with pytest.raises(TypeError, match=r"'mlp/activation' .*eqx\.filter"):
        tx.init(model)


def test_masking_keeps_an_integer_leaf_away():
    params = {"w": jnp.ones(2), "steps": jnp.ones(2, jnp.int32)}
    tx = optax.masked(transform(), {"w": True, "steps": False})
    updates, _ = tx.update(params, tx.init(params), params)
    assert updates["steps"] is params["steps"]


def test_dormancy_of_the_wrong_width_is_named():
    with pytest.raises(ValueError, match=r"'actor/bias' has shape \(3,\).*\(2,\)"):
        update(PARAMS, dormancy={"actor": jnp.ones(3)})


def test_dormancy_of_another_tree_is_refused():
    with pytest.raises(ValueError, match="dormancy= does not fit the parameters"):
        update(PARAMS, dormancy={"critic": jnp.ones(2)})


def test_dormancy_of_masked_parameters_is_refused_with_the_way_to_mask_it():
    params = {"w": jnp.ones(2), "rest": {"b": jnp.ones(3)}}
    mask, dormancy = {"w": True, "rest": False}, params
    tx = optax.masked(transform(), mask)
    with pytest.raises(ValueError, match="give those mask_compatible_extra_args=True"):
        tx.update(params, tx.init(params), params, dormancy=dormancy)
    tx = optax.masked(transform(), mask, mask_compatible_extra_args=True)
    updates, _ = tx.update(params, tx.init(params), params, dormancy=dormancy)
    assert updates["w"].shape == (2,)


@pytest.mark.parametrize("name", ["training_proportion", "batch_proportion"])
def test_a_proportion_per_parameter_is_refused(name):
    with pytest.raises(ValueError, match=rf"{name} has shape \(2,\); give one scalar"):
        update(PARAMS, **{name: jnp.ones(2)})


def test_networks_that_leave_a_parameter_out_are_refused():
    tx = open_rl.optimizer(weights(), HORIZON, networks={"actor": "kernel"})
    with pytest.raises(ValueError, match=r"'actor/bias' matches none of \['actor'\]"):
        tx.update(PARAMS, tx.init(PARAMS), PARAMS)


@pytest.mark.parametrize("horizon", [1000, None, (1000, 4, 8), "1000"])
def test_a_horizon_that_is_none_is_refused(horizon):
    with pytest.raises(TypeError, match=r"horizon=.* must be a Horizon: .*ppo\("):
        open_rl.optimizer(weights(), horizon)


@pytest.mark.parametrize(
    "tree", [{}, [], None, {"mlp": {}}, {"gru": {}, "mlp": weights()["mlp"]}]
)
def test_something_that_is_no_network_is_refused(tree):
    with pytest.raises(
        WeightsError, match=r"do not fit the network of OPEN.*open_rl.in"
    ):
        open_rl.optimizer(tree, HORIZON)


def test_weights_of_another_algorithm_name_the_tensor():
    tree = copy.deepcopy(weights(FEED_FORWARD))
    tree["mlp"]["dense_0"]["kernel"] = jnp.ones((8, 4))
    with pytest.raises(WeightsError, match=r"mlp\.dense_0\.kernel.*\(8, 4\).*\(19, "):
        open_rl.optimizer(tree, HORIZON)


@pytest.mark.parametrize("change", ["missing", "unknown"])
def test_a_missing_or_unknown_tensor_is_named(change):
    tree = copy.deepcopy(weights())
    if change == "missing":
        del tree["gru"]["ir"]["bias"]
        match = r"'gru\.ir\.bias' has shape missing"
    else:
        tree["mlp"]["dense_3"] = {"bias": jnp.ones(3)}
        match = r"'mlp\.dense_3\.bias'.*needs no such tensor"
    with pytest.raises(WeightsError, match=match):
        open_rl.optimizer(tree, HORIZON)


def test_a_population_of_weights_wants_vmap():
    population = jax.tree.map(lambda w: jnp.stack([w, w]), weights())
    with pytest.raises(WeightsError, match="population of weights, vmap over"):
        open_rl.optimizer(population, HORIZON)


def test_errors_are_the_same_under_jit():
    params, tx = agent(), transform()
    with pytest.raises(ValueError, match="the gradient does not match"):
        jax.jit(tx.update)({"actor": params["actor"]}, tx.init(params), params)


def test_options_are_checked_by_name():
    with pytest.raises(
        TypeError, match="learning_rate= is not an option of optimizers"
    ):
        open_rl.optimizer(weights(), Horizon(10), learning_rate=1e-3)
