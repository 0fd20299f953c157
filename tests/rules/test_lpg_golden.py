"""Parity of LPG's network with the reference implementation."""

import numpy as np
import pytest

from learned_opt_rl.families.lpg import lpg_shapes
from learned_opt_rl.rules import _lpg as network
from learned_opt_rl.rules import lpg
from tests import golden_lpg

ATOL = 3e-6
STEP, LIFETIME = 17, 250


@pytest.fixture(scope="module")
def arrays(reference):
    return golden_lpg.load(reference, "lpg_network")


def rollout(arrays, batch):
    names = ("reward", "done", "pi", "y_t", "y_tp1")
    return [arrays[f"{batch}/in/{name}"] for name in names]


def check(arrays, batch, kind, targets):
    expected = arrays[f"{batch}/{kind}/pi_hat"][..., 0]
    np.testing.assert_allclose(targets.pi_hat, expected, rtol=0, atol=ATOL)
    expected = arrays[f"{batch}/{kind}/y_hat"]
    np.testing.assert_allclose(targets.y_hat, expected, rtol=0, atol=ATOL)


@pytest.mark.parametrize("batch", ["a", "b"])
def test_targets_equal_the_reference(arrays, batch):
    rule = golden_lpg.rule(arrays)
    check(arrays, batch, "plain", rule.targets(*rollout(arrays, batch)))


@pytest.mark.parametrize("batch", ["a", "b"])
@pytest.mark.parametrize("how", ["raw", "relative"])
def test_conditioned_targets_equal_the_reference(arrays, batch, how):
    rule = golden_lpg.rule(arrays, "params/plain/", "params/cond/", how)
    fed = arrays["cond/raw" if how == "raw" else "cond/rel"]
    expected = [STEP, LIFETIME] if how == "raw" else [17 / 250, np.log(250)]
    np.testing.assert_allclose(fed, expected, rtol=1e-6)
    told = {"step": STEP, "lifetime": LIFETIME}
    targets = rule.targets(*rollout(arrays, batch), **told)
    check(arrays, batch, f"cond_{how[:3]}", targets)


@pytest.mark.parametrize("batch", ["a", "b"])
def test_embeddings_equal_the_reference(arrays, batch):
    weights = golden_lpg.rule(arrays).weights
    *_, y, y_next = rollout(arrays, batch)
    for given, name in ((y, "phi_y_t"), (y_next, "phi_y_tp1_unmasked")):
        expected = arrays[f"{batch}/plain/{name}"][..., 0]
        found = network.embed(weights, given)
        np.testing.assert_allclose(found, expected, rtol=0, atol=ATOL)


def test_core_inputs_and_outputs_equal_the_reference(arrays):
    weights = golden_lpg.rule(arrays).weights
    given = rollout(arrays, "a")
    x = network.core_inputs(weights, *given, [], [])
    np.testing.assert_allclose(x, arrays["a/plain/gru_in"], rtol=0, atol=ATOL)
    hidden = network.run_core(weights, x, given[1])
    np.testing.assert_allclose(hidden, arrays["a/plain/gru_out"], rtol=0, atol=ATOL)


@pytest.mark.parametrize(("how", "count"), [("none", 203_946), ("raw", 205_482)])
def test_the_reference_has_as_many_weights_as_ours(arrays, how, count):
    conditioned = None if how == "none" else "params/cond/"
    rule = golden_lpg.rule(arrays, "params/plain/", conditioned, how)
    found = sum(np.prod(shape) for shape in lpg_shapes(rule.architecture).values())
    assert found == count
    network.check_weights(rule.weights, lpg.Architecture(lifetime_inputs=how))
