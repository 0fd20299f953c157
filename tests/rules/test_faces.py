"""Public modules show their API and nothing else."""

import importlib

import pytest

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
