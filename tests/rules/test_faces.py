"""Public modules show their API and nothing else."""

import importlib

import jax
import jax.numpy as jnp
import optax
import pytest

import learned_opt_rl
from learned_opt_rl import drifts

PUBLIC = [
    "features",
    "rules.discovered",
    "rules.drifts",
    "rules.losses",
    "rules.lpg",
    "rules.lpo",
    "rules.no_features",
    "rules.open_rl",
    "rules.optim4rl",
    "rules.parts",
    "testing",
]
OPTIMIZERS = ["discovered", "no_features", "open_rl", "optim4rl"]


@pytest.mark.parametrize("name", PUBLIC)
def test_dir_is_the_api(name):
    module = importlib.import_module(f"learned_opt_rl.{name}")
    shown = [entry for entry in dir(module) if not entry.startswith("__")]
    assert shown == sorted(module.__all__)
    for entry in shown:
        assert getattr(module, entry) is not None


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_have_the_same_functions(name):
    module = importlib.import_module(f"learned_opt_rl.rules.{name}")
    functions = {"init", "optimizer", "from_artifact", "pretrained"}
    assert functions <= set(dir(module))
    assert sum(entry.startswith("scale_by_") for entry in dir(module)) == 1


def test_rules_print_as_what_they_are():
    horizon = learned_opt_rl.Horizon(1000)
    tx = learned_opt_rl.pretrained("minatar", horizon=horizon)
    assert repr(tx) == "<optimizer 'minatar' (open, 3,571 parameters)>"
    drift = learned_opt_rl.pretrained("lpo/minatar")
    assert repr(drift) == "<drift 'lpo/minatar' (lpo, 1,152 parameters)>"
    rule = repr(learned_opt_rl.pretrained("lpg/gridworld"))
    assert rule.startswith("<update rule of") and "array" not in rule
    assert repr(drifts.dpo()) == "dpo(alpha=2.0, beta=0.6)"
    # What prints differently is still what optax and jit take.
    assert isinstance(tx, optax.GradientTransformationExtraArgs)
    assert jax.jit(drift)(jnp.ones(2), jnp.ones(2)).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("name", ["lpo/minatar", "discovered/dpo", "lpg/gridworld"])
def test_options_of_optimizers_are_refused_for_other_kinds(name):
    message = f"'{name}' is of kind .*; leave out horizon, which only optimizers take"
    with pytest.raises(TypeError, match=message):
        learned_opt_rl.pretrained(name, horizon=learned_opt_rl.Horizon(10))
