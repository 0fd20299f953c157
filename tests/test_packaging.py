"""What importing costs, counted in modules rather than in milliseconds."""

import importlib.metadata
import json
import subprocess
import sys

import pytest

import learned_opt_rl

HEAVY = {"chex", "flax", "gymnax", "matplotlib", "pandas", "pooch", "scipy.stats"}
CORE = {"jax", "jaxlib", "learned_opt_rl", "numpy", "optax", "safetensors"}
BASELINE = "import jax, numpy, optax, safetensors.numpy"


def modules_after(code: str) -> set[str]:
    """The names in ``sys.modules`` after a fresh interpreter has run ``code``."""
    script = f"{code}\nimport json, sys\nprint(json.dumps(list(sys.modules)))"
    result = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout.splitlines()[-1]))


def test_import_of_the_package_is_lazy() -> None:
    loaded = modules_after("import learned_opt_rl")
    assert "learned_opt_rl" in loaded
    assert not loaded & (HEAVY | {"jax", "numpy", "optax"})


@pytest.mark.parametrize(
    "code",
    [
        "from learned_opt_rl import artifacts; assert artifacts.cards()",
        "import learned_opt_rl.cli",
    ],
    ids=["cards", "cli"],
)
def test_listing_artifacts_needs_no_jax(code: str) -> None:
    assert not modules_after(code) & (HEAVY | {"jax", "optax"})


def test_open_rl_imports_only_the_core_dependencies() -> None:
    added = modules_after("from learned_opt_rl import open_rl") - modules_after(
        BASELINE
    )
    packages = {name.partition(".")[0] for name in added}
    assert "learned_opt_rl.rules.open_rl" in added
    assert packages - CORE - set(sys.stdlib_module_names) == set()


def test_every_public_name_resolves() -> None:
    assert learned_opt_rl.__all__
    for name in learned_opt_rl.__all__:
        assert getattr(learned_opt_rl, name) is not None


def test_version_is_that_of_the_installed_metadata() -> None:
    try:
        installed = importlib.metadata.version("learned-opt-rl")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("learned-opt-rl is not installed here, only importable")
    assert learned_opt_rl.__version__ == installed
