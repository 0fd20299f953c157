"""The example plugin, built and installed as a third party would."""

import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from learned_opt_rl.artifacts import Card
from tests.conftest import REPOSITORY

NAMES = ["example/annealed-sign", "example/sign-momentum"]

# One process, as importing JAX takes most of its time.
RULES = """
import sys
import learned_opt_rl
from learned_opt_rl import artifacts

artifact = artifacts.load("example/sign-momentum")
assert "jax" not in sys.modules, "loading an artifact imported its rule"

import jax, jax.numpy as jnp, optax

horizon = learned_opt_rl.Horizon(100)
tx = learned_opt_rl.pretrained("example/annealed-sign", horizon=horizon)
params = {"actor": jnp.array([2.0, -3.0, 0.0])}
updates, _ = tx.update(params, tx.init(params), params, training_proportion=0.25)
assert jnp.allclose(updates["actor"], -3e-4 * 0.75 * jnp.array([1.0, -1.0, 0.0]))
assert "example_rl_optimizer" not in sys.modules, "a closed form ran the plugin's code"

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

# Nearly all of the time is compilation.
CONFORMS = """
import dataclasses, sys
import jax
jax.config.update("jax_disable_most_optimizations", True)
from learned_opt_rl import Horizon, artifacts, testing

artifact = artifacts.load(sys.argv[1])
rule = artifacts.rule_module(artifact.card.algorithm)
testing.check_rule(
    lambda weights: rule.from_artifact(
        dataclasses.replace(artifact, weights=weights), horizon=Horizon(100)
    ),
    artifact.weights,
)
results = testing.check_artifact(artifact)
assert {result.name: result.outcome for result in results} == {
    # The rule has no noise that could be reseeded.
    name: "skipped" if name == "reseeding" else "passed" for name in testing.CHECKS
}
"""

PAGES = """
import pathlib, sys
sys.path.insert(0, "docs")
from _artifact_pages import write_pages

write_pages(pathlib.Path(sys.argv[1]))
"""


@pytest.fixture(scope="module")
def source(
    tmp_path_factory: pytest.TempPathFactory,
) -> pathlib.Path:
    """A copy of the example, so that building it leaves the repository clean."""
    copy = tmp_path_factory.mktemp("example") / "plugin"
    return shutil.copytree(REPOSITORY / "examples/plugin", copy)


@pytest.fixture(scope="module")
def environment(
    tmp_path_factory: pytest.TempPathFactory,
    source: pathlib.Path,
) -> dict[str, str]:
    """Environment variables under which the example is installed."""
    pytest.importorskip("pip", reason="the example is installed with pip")
    pytest.importorskip("hatchling", reason="the example is built with hatchling")
    site = tmp_path_factory.mktemp("site")
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    command = [sys.executable, "-m", "pip", "install", *options, "--target", str(site)]
    subprocess.run([*command, str(source)], check=True)
    return os.environ | {"PYTHONPATH": os.pathsep.join([str(site), str(REPOSITORY)])}


def run(environment: dict[str, str], *arguments: str) -> str:
    """Run Python and return what it printed."""
    result = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env=environment,
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_it_is_listed_shown_and_verified(environment: dict[str, str]) -> None:
    listed = run(environment, "-m", "learned_opt_rl", "list").splitlines()
    verified = run(environment, "-m", "learned_opt_rl", "verify").splitlines()
    for name in NAMES:
        (line,) = [line for line in listed if line.startswith(name)]
        assert "plugin example" in line
        shown = run(environment, "-m", "learned_opt_rl", "show", name, "--json")
        assert json.loads(shown)["name"] == name
        assert f"{'ok':<12} {name}" in verified


def test_its_rules_do_what_they_say(environment: dict[str, str]) -> None:
    """The closed form does so without the plugin's code."""
    run(environment, "-c", RULES)


# A closed form shares its rule with those of tests/testing.
@pytest.mark.parametrize(
    "name", [pytest.param(NAMES[0], marks=pytest.mark.slow), NAMES[1]]
)
def test_it_keeps_the_contract(environment: dict[str, str], name: str) -> None:
    run(environment, "-c", CONFORMS, name)


@pytest.mark.slow
def test_it_gets_a_page_in_the_documentation(
    environment: dict[str, str], tmp_path: pathlib.Path
) -> None:
    run(environment, "-c", PAGES, str(tmp_path / "pages"))
    for name in NAMES:
        card = Card.load(folder_of(REPOSITORY / "examples/plugin", name) / "card.json")
        (page,) = tmp_path.rglob(f"{name}.md")
        text = page.read_text(encoding="utf-8")
        assert card.title in text and card.weights.sha256 in text


def folder_of(source: pathlib.Path, name: str) -> pathlib.Path:
    """Where the example keeps an artifact."""
    own = name.removeprefix("example/").replace("-", "_")
    return source / "example_rl_optimizer" / own


def test_verify_says_which_digest_the_card_has_to_state(
    environment: dict[str, str], source: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    site = shutil.copytree(
        environment["PYTHONPATH"].split(os.pathsep)[0], tmp_path / "s"
    )
    path = folder_of(site, NAMES[0]) / "card.json"
    digest = Card.load(path).weights.sha256
    path.write_text(path.read_text().replace(digest, "0" * 64))
    here = environment | {"PYTHONPATH": os.pathsep.join([str(site), str(REPOSITORY)])}
    result = subprocess.run(
        [sys.executable, "-m", "learned_opt_rl", "verify", NAMES[0]],
        env=here,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 1 and f"sha256 is {digest} " in result.stdout


def test_its_weights_can_be_made_again(source: pathlib.Path) -> None:
    folder = folder_of(source, "example/sign-momentum")
    before = (folder / "weights.safetensors").read_bytes()
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    digest = run(environment, str(source / "make_weights.py")).strip()
    assert Card.load(folder / "card.json").weights.sha256 == digest
    assert (folder / "weights.safetensors").read_bytes() == before
