"""What importing costs, counted in modules rather than in milliseconds."""

import importlib.metadata
import json
import pathlib
import re
import shutil
import subprocess
import sys
import tomllib
from typing import Any, get_args

import pytest

import learned_opt_rl
from learned_opt_rl.artifacts.registry import scan
from learned_opt_rl.rules._core import names
from tests.conftest import REPOSITORY

HEAVY = {"chex", "flax", "gymnax", "matplotlib", "pandas", "pooch", "scipy.stats"}
CORE = {"jax", "jaxlib", "learned_opt_rl", "numpy", "optax", "safetensors"}
BASELINE = "import jax, numpy, optax, safetensors.numpy"


def modules_after(code: str, before: str = "pass") -> set[str]:
    """Return what a fresh interpreter that ran ``before`` imports for ``code``."""
    script = (
        f"{before}\nimport json, sys\nknown = set(sys.modules)\n"
        f"{code}\nprint(json.dumps([*(sys.modules.keys() - known)]))"
    )
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
        "from learned_opt_rl.rundir import "
        "atomic, jsonl, lock, progress, provenance, settings",
        "from learned_opt_rl import evaluation; assert 'run' in dir(evaluation)",
    ],
    ids=["cards", "cli", "rundir", "evaluation"],
)
def test_listing_artifacts_needs_no_jax(code: str) -> None:
    assert not modules_after(code) & (HEAVY | {"jax", "optax"})


def test_open_rl_imports_only_the_core_dependencies() -> None:
    added = modules_after("from learned_opt_rl import open_rl", before=BASELINE)
    packages = {name.partition(".")[0] for name in added}
    assert "learned_opt_rl.rules.open_rl" in added
    assert packages - CORE - set(sys.stdlib_module_names) == set()


def test_every_public_name_resolves() -> None:
    assert learned_opt_rl.__all__
    for name in dir(learned_opt_rl):
        assert getattr(learned_opt_rl, name) is not None
    assert {"agents", "envs", "evaluation", "training"} <= {*dir(learned_opt_rl)}


def test_type_checkers_know_the_bundled_artifacts() -> None:
    found: dict[str, set[str]] = {}
    for name, entry in scan().entries.items():
        if entry.origin == "bundled":
            found.setdefault(entry.card.kind, set()).add(name)
    assert found == {
        "optimizer": {*get_args(names.OptimizerName)},
        "drift": {*get_args(names.DriftName)},
        "update_rule": {*get_args(names.UpdateRuleName)},
    }


def test_campaigns_are_in_the_repository_only(
    repository: pathlib.Path, tmp_path: pathlib.Path
) -> None:
    """Cards and weights are in the wheel; what training goes on from is not."""
    sdist = pytest.importorskip("hatchling.builders.sdist")
    wheel = pytest.importorskip("hatchling.builders.wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE", "NOTICE"):
        shutil.copy(repository / name, tmp_path)
    shutil.copytree(
        repository / "learned_opt_rl",
        tmp_path / "learned_opt_rl",
        ignore=shutil.ignore_patterns("__pycache__"),
    )
    artifact = tmp_path / "pretrained/ours/tiny"
    (artifact / "campaign").mkdir(parents=True)
    shipped = {f"ours/tiny/{name}" for name in ("card.json", "weights.safetensors")}
    kept = {f"ours/tiny/campaign/{n}" for n in ("config.json", "best.safetensors")}
    kept.add("ours/tiny/learning-curve.png")
    for name in shipped | kept:
        (tmp_path / "pretrained" / name).write_text("content")

    def files(builder: Any, inside: str) -> set[str]:
        found = builder(str(tmp_path)).recurse_included_files()
        names = {pathlib.PurePath(file.distribution_path).as_posix() for file in found}
        return {n.removeprefix(inside) for n in names if n.startswith(inside)}

    assert files(wheel.WheelBuilder, "learned_opt_rl/pretrained/") == shipped
    assert "__init__.py" in files(wheel.WheelBuilder, "learned_opt_rl/")
    assert files(sdist.SdistBuilder, "pretrained/") == shipped | kept


@pytest.mark.parametrize(
    ("folder", "names"),
    [
        (".", (".gitattributes", "pretrained/discovered", "pyproject.toml")),
        ("examples/plugin", (".gitattributes", "example_rl_optimizer")),
    ],
)
def test_a_clone_with_crlf_keeps_files_with_digests(
    tmp_path: pathlib.Path,
    repository: pathlib.Path,
    folder: str,
    names: tuple[str, ...],
) -> None:
    """Git's default on Windows would change texts, and so their sha256."""
    made, clone = tmp_path / "made", tmp_path / "clone"
    for name in names:
        source, target = repository / folder / name, made / name
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    someone = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    crlf = ("-c", "core.autocrlf=true")
    for arguments in (
        ("init", "-q"),
        ("add", "-A"),
        ("commit", "-qm", "all"),
        ("clone", "-q", *crlf, ".", str(clone)),
    ):
        subprocess.run(["git", *someone, *arguments], cwd=made, check=True)
    texts = list(made.rglob("*.txt"))
    assert texts
    for text in texts:
        assert (clone / text.relative_to(made)).read_bytes() == text.read_bytes()


def test_a_release_links_to_its_repository(tmp_path: pathlib.Path) -> None:
    workflow = (REPOSITORY / ".github/workflows/release.yml").read_text("utf-8")
    command = re.search(r"(printf.*?pyproject\.toml)\n", workflow, re.DOTALL)
    assert command and workflow.index(command[1]) < workflow.index("make dist")
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    place = {"GITHUB_SERVER_URL": "https://host", "GITHUB_REPOSITORY": "a/b"}
    subprocess.run(["bash", "-c", command[1]], cwd=tmp_path, env=place, check=True)
    data = tomllib.loads((tmp_path / "pyproject.toml").read_text("utf-8"))
    assert data["project"]["urls"] == {"Repository": "https://host/a/b"}
    assert data["project"]["name"] == "learned-opt-rl"


def test_version_is_that_of_the_installed_metadata() -> None:
    try:
        installed = importlib.metadata.version("learned-opt-rl")
    except importlib.metadata.PackageNotFoundError:
        pytest.skip("learned-opt-rl is not installed here, only importable")
    assert learned_opt_rl.__version__ == installed
