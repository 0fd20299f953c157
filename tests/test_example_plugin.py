"""The example plugin, built and installed as a third party would."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from learned_opt_rl.artifacts import Card

NAME = "example/sign-momentum"

CONTRACT = """
import sys
from learned_opt_rl import artifacts

artifact = artifacts.load("example/sign-momentum")
assert "jax" not in sys.modules, "loading an artifact imported its rule"

import jax, jax.numpy as jnp, optax

tx = artifacts.rule_module(artifact.card.algorithm).from_artifact(artifact)
grads = {"a": jnp.ones((2, 3), jnp.bfloat16), "b": (jnp.float32(-2.0), jnp.zeros(4))}
state = tx.init(grads)
assert isinstance(state, tuple) and hasattr(state, "_fields")
update = jax.jit(tx.update)
for _ in range(2):
    steps, state = update(grads, state, dormancy=1.0, unknown_keyword=2.0)
assert update._cache_size() == 1
assert jax.tree.map(lambda s: s.dtype, steps) == jax.tree.map(lambda g: g.dtype, grads)
assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype("float32")}
size = artifact.weights["step_size"]
assert jnp.all(steps["a"] == jnp.bfloat16(-size)) and steps["b"][0] == size
assert jnp.all(steps["b"][1] == 0)

optax.chain(optax.clip_by_global_norm(0.5), tx).init(grads)
"""


@pytest.fixture(scope="module")
def source(
    tmp_path_factory: pytest.TempPathFactory, repository: pathlib.Path
) -> pathlib.Path:
    """A copy of the example, so that building it leaves the repository clean."""
    copy = tmp_path_factory.mktemp("example") / "plugin"
    return shutil.copytree(repository / "examples/plugin", copy)


@pytest.fixture(scope="module")
def environment(
    tmp_path_factory: pytest.TempPathFactory,
    source: pathlib.Path,
    repository: pathlib.Path,
) -> dict[str, str]:
    """Environment variables under which the example is installed."""
    pytest.importorskip("pip", reason="the example is installed with pip")
    pytest.importorskip("hatchling", reason="the example is built with hatchling")
    site = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(site)]
    subprocess.run([*command, str(source)], check=True)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(repository)])}


def run(environment: dict[str, str], *arguments: str) -> str:
    """Run Python and return what it printed."""
    result = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_it_is_listed_shown_and_verified(environment: dict[str, str]) -> None:
    listed = run(environment, "-m", "learned_opt_rl", "list").splitlines()
    (line,) = [line for line in listed if line.startswith(NAME)]
    assert "plugin example" in line
    shown = run(environment, "-m", "learned_opt_rl", "show", NAME, "--json")
    assert json.loads(shown)["name"] == NAME
    verified = run(environment, "-m", "learned_opt_rl", "verify", NAME)
    assert verified == f"{'ok':<12} {NAME}\n"


def test_its_rule_keeps_the_contract(environment: dict[str, str]) -> None:
    run(environment, "-c", CONTRACT)


def test_its_weights_can_be_made_again(
    source: pathlib.Path, repository: pathlib.Path
) -> None:
    folder = source / "example_rl_optimizer"
    before = (folder / "weights.safetensors").read_bytes()
    environment = os.environ | {"PYTHONPATH": str(repository)}
    digest = run(environment, str(source / "make_weights.py")).strip()
    assert Card.load(folder / "card.json").weights.sha256 == digest
    assert (folder / "weights.safetensors").read_bytes() == before
