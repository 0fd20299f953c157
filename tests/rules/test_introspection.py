"""Signatures, injected hyperparameters and derivatives of the rules."""

import functools
import importlib
import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import learned_opt_rl
from learned_opt_rl import (
    Horizon,
    artifacts,
    discovered,
    no_features,
    open_rl,
    optim4rl,
)
from tests.conftest import REPOSITORY
from tests.rules.open_cases import FEED_FORWARD, weights

FAMILIES = ["discovered", "no_features", "open_rl", "optim4rl"]
HORIZON = Horizon(10)
PARAMS = {"actor": jnp.ones((3, 2))}
GRADS = {"actor": jnp.full((3, 2), 0.1)}
SIGN = "optimizer\ninputs g, lr, rand\nreturn lr * sign(g) + 0 * rand"


@functools.cache
def towers():
    architecture = optim4rl.Architecture("rlc2024", carry=2, width=None)
    return optim4rl.init(jax.random.key(0), architecture)


def functions():
    yield "pretrained", learned_opt_rl.pretrained
    for name in FAMILIES:
        module = importlib.import_module(f"learned_opt_rl.rules.{name}")
        for entry in ("optimizer", "from_artifact", "pretrained"):
            yield f"{name}.{entry}", getattr(module, entry)
        [scale] = [entry for entry in dir(module) if entry.startswith("scale_by_")]
        yield f"{name}.{scale}", getattr(module, scale)


@pytest.mark.parametrize(("name", "function"), list(functions()))
def test_signatures_list_every_option(name, function):
    parameters = inspect.signature(function).parameters
    assert not any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    common = {"horizon", "networks", "seed", "key", "zero_mean", "zero_gradients"}
    assert common <= set(parameters)
    assert ("environment" in parameters) == name.endswith(("pretrained", "artifact"))


INJECTED = {
    "open": (open_rl.optimizer, (weights(FEED_FORWARD), HORIZON), {"seed": 3}),
    "no_features": (
        no_features.scale_by_no_features,
        (no_features.init(jax.random.key(0), FEED_FORWARD),),
        {},
    ),
    "optim4rl": (
        optim4rl.optimizer,
        (towers(),),
        {"learning_rate": 1e-3, "grad_clip": 0.5},
    ),
    "optim4rl scale_by": (
        optim4rl.scale_by_optim4rl,
        (towers(),),
        {"learning_rate": optax.linear_schedule(1e-3, 0.0, 9)},
    ),
    "expression": (
        discovered.optimizer,
        (SIGN, HORIZON),
        {"learning_rate": 0.01, "key": jax.random.key(3)},
    ),
    "by name": (
        learned_opt_rl.pretrained,
        ("sign_mixture",),
        {"horizon": HORIZON, "networks": {"actor": "."}, "seed": 5},
    ),
}


@pytest.mark.parametrize("name", INJECTED)
def test_injected_hyperparameters_change_nothing_else(name):
    make, arguments, options = INJECTED[name]
    injected = optax.inject_hyperparams(make)(*arguments, **options)
    plain = make(*arguments, **options)
    states = injected.init(PARAMS), plain.init(PARAMS)
    for _ in range(2):
        found, ours = jax.jit(injected.update)(GRADS, states[0], PARAMS)
        expected, theirs = jax.jit(plain.update)(GRADS, states[1], PARAMS)
        np.testing.assert_allclose(found["actor"], expected["actor"], rtol=1e-6)
        states = ours, theirs
    assert ("learning_rate" in states[0].hyperparams) == ("learning_rate" in options)
    unwanted = {"weights", "horizon", "networks", "name", "function"}
    assert not unwanted & set(states[0].hyperparams)


def test_an_injected_learning_rate_is_changed_in_the_state():
    tx = optax.inject_hyperparams(optim4rl.optimizer)(towers(), learning_rate=1e-3)
    state = tx.init(PARAMS)
    before = tx.update(GRADS, state, PARAMS)[0]["actor"]
    state.hyperparams["learning_rate"] = jnp.float32(2e-3)
    after = tx.update(GRADS, state, PARAMS)[0]["actor"]
    np.testing.assert_allclose(after, 2 * before, rtol=1e-6)


def slope_by_gradient(name):
    tx = learned_opt_rl.pretrained(name, horizon=Horizon(100))
    params = {"actor": {"kernel": jnp.sin(1 + jnp.arange(6.0)).reshape(2, 3)}}

    def total(grads):
        updates, _ = tx.update(grads, tx.init(params), params, training_proportion=0.3)
        return jnp.sum(updates["actor"]["kernel"] ** 2)

    slope = jax.grad(total)(jax.tree.map(jnp.cos, params))
    return float(jnp.abs(slope["actor"]["kernel"]).max())


def without_a_slope():
    """The artifacts that the contract names as constant in their gradient."""
    page = (REPOSITORY / "docs/contract.md").read_text(encoding="utf-8")
    (listed,) = re.findall(r"for these artifacts:\n(.*?)\.\n", page, re.DOTALL)
    return set(re.findall(r"`(.+?)`", listed))


BUNDLED = [
    name
    for name, card in artifacts.cards().items()
    if card.kind == "optimizer" and not card.is_remote
]
USUAL = {"discovered/archive_sign", "discovered/discovered_1", "sign_mixture"}


@pytest.mark.parametrize(
    "name",
    [
        name if name in USUAL else pytest.param(name, marks=pytest.mark.slow)
        for name in BUNDLED
    ],
)
def test_the_contract_names_the_rules_that_pass_no_gradient(name):
    assert (slope_by_gradient(name) == 0) == (name in without_a_slope())
    assert without_a_slope() <= set(BUNDLED)
