"""What LPG says when it is given something it cannot use."""

import copy

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl.errors import WeightsError
from learned_opt_rl.rules import lpg
from tests.rules import lpg_cases

NAMES = ("rewards", "dones", "probs", "y", "y_next")
GIVEN = dict(zip(NAMES, lpg_cases.rollout(), strict=True))


@pytest.mark.parametrize(
    ("name", "array", "match"),
    [
        ("rewards", np.ones(5), r"rewards has shape \(5,\); give \[B, T\].*vmap"),
        ("rewards", np.ones((2, 3, 5)), r"rewards has shape \(2, 3, 5\); give"),
        ("dones", np.ones((5, 3), bool), r"dones has shape \(5, 3\).*\(3, 5\)"),
        ("probs", np.ones((3, 5, 1)), r"probs has shape \(3, 5, 1\).*\(3, 5\)"),
        ("y", np.ones((3, 5, 8)), r"y has shape \(3, 5, 8\).*\(3, 5, 3\)"),
        ("y_next", np.ones((3, 6, 3)), r"y_next has shape \(3, 6, 3\).*\(3, 5, 3\)"),
    ],
)
@pytest.mark.parametrize("method", ["targets", "loss"])
def test_an_array_of_the_wrong_shape_is_named(method, name, array, match):
    with pytest.raises(ValueError, match=match):
        getattr(lpg_cases.rule(), method)(**{**GIVEN, name: array})


def test_a_baseline_of_the_wrong_shape_is_named():
    with pytest.raises(ValueError, match=r"baseline has shape \(3, 5, 1\).*\(3, 5\)"):
        lpg_cases.rule().loss(**GIVEN, baseline=np.ones((3, 5, 1)))


@pytest.mark.parametrize("name", ["probs", "y"])
def test_targets_of_another_rollout_are_refused(name):
    rule = lpg_cases.rule()
    targets = rule.targets(**GIVEN)
    with pytest.raises(ValueError, match=r"(targets.pi_hat|y) has shape"):
        rule.loss(**{**GIVEN, name: GIVEN[name][:2]}, targets=targets)


@pytest.mark.parametrize(
    ("changes", "told", "missing"),
    [
        ({"gamma_input": True}, {}, "gamma"),
        ({"prediction": "value", "target_width": 1}, {}, "gamma"),
        ({"lifetime_inputs": "raw"}, {"lifetime": 9}, "step"),
        ({"lifetime_inputs": "relative"}, {"step": 1}, "lifetime"),
    ],
)
@pytest.mark.parametrize("method", ["targets", "loss"])
def test_a_missing_input_is_named(method, changes, told, missing):
    rule = lpg_cases.rule(**changes)
    m = rule.architecture.target_width
    given = dict(zip(NAMES, lpg_cases.rollout(m=m), strict=True))
    with pytest.raises(ValueError, match=f"^{missing}= is missing.*pass {missing}="):
        getattr(rule, method)(**given, **told)


def test_a_discount_per_step_is_refused():
    rule = lpg_cases.rule(gamma_input=True)
    with pytest.raises(ValueError, match=r"gamma has shape \(3, 5\); give one number"):
        rule.targets(**GIVEN, gamma=np.ones((3, 5)))


@pytest.mark.parametrize(
    "of", [{"width": 7}, {"core": "lstm"}, {"gamma_input": True}, {"target_width": 4}]
)
def test_weights_of_another_architecture_are_refused(of):
    weights, architecture = lpg_cases.rule(**of).weights, lpg_cases.rule().architecture
    with pytest.raises(WeightsError, match="weights tensor '.*another algorithm or"):
        lpg.UpdateRule(weights, architecture).targets(**GIVEN)


@pytest.mark.parametrize("weights", [None, {}, {"mlp": {"bias": jnp.ones(2)}}])
def test_something_that_is_no_network_is_refused(weights):
    with pytest.raises(WeightsError, match="has shape missing, but Architecture"):
        lpg.UpdateRule(weights, lpg.Architecture()).targets(**GIVEN)


def test_a_population_of_weights_wants_vmap():
    rule = lpg_cases.rule()
    population = jax.tree.map(lambda w: jnp.stack([w, w]), rule)
    with pytest.raises(WeightsError, match="population of weights, vmap over Update"):
        population.targets(**GIVEN)


def test_a_missing_tensor_is_named():
    rule = lpg_cases.rule()
    weights = copy.deepcopy(rule.weights)
    del weights["gru"]["hn"]["bias"]
    with pytest.raises(WeightsError, match=r"'gru\.hn\.bias' has shape missing"):
        lpg.UpdateRule(weights, rule.architecture).targets(**GIVEN)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("core", "rnn"),
        ("width", 0),
        ("width", True),
        ("embedding", 2.0),
        ("target_width", "8"),
        ("gamma_input", 1),
        ("lifetime_inputs", True),
        ("policy_sign", -1),
    ],
)
def test_an_architecture_that_is_none_is_refused(field, value):
    with pytest.raises(ValueError, match=rf"architecture\.{field} is {value!r}; write"):
        lpg.Architecture(**{field: value})


def test_values_of_several_components_are_refused():
    with pytest.raises(ValueError, match=r"architecture\.target_width is 8; write 1"):
        lpg.Architecture(prediction="value")


def test_an_unknown_sign_to_convert_to_is_refused():
    with pytest.raises(ValueError, match="policy_sign='up' must be 'descend' or 'asc"):
        lpg_cases.rule().with_policy_sign("up")
