"""The README: its code runs, its numbers are those of results/, its links lead on."""

import importlib
import pathlib
import re
from typing import Any

import jax
import jax.numpy as jnp
import optax
import pytest

from learned_opt_rl import envs
from learned_opt_rl.cli import main
from tests.conftest import REPOSITORY

TEXT = (REPOSITORY / "README.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_the_python_blocks_run() -> None:
    names: dict[str, Any] = {
        "ratio": jnp.array([0.7, 1.5]),
        "advantage": jnp.array([1.0, -1.0]),
    }
    for block in blocks("python"):
        exec(block, names)  # the README is ours
    assert jnp.isfinite(names["loss"])
    params = {"w": jnp.ones((3, 2))}
    tx = names["tx"]
    updates, _ = jax.jit(tx.update)(params, tx.init(params), params)
    assert optax.tree_utils.tree_norm(updates) > 0


def test_the_table_is_that_of_the_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "docs")
    page = importlib.import_module("_readme")
    shown = TEXT.partition(page.BEGIN)[2].partition(page.END)[0]
    assert shown.strip() == page.table(REPOSITORY / "results")


def test_pages_of_artifacts_state_the_percentages_of_the_readme(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "docs")
    readme, raw = importlib.import_module("_readme"), REPOSITORY / "results"
    returns = importlib.import_module("_artifact_returns").Returns(raw)
    found = {one.steps: one.percent() for one in returns.of("minatar")}
    for steps, _, *cells in readme.percent(raw, ["minatar"])[1:]:
        own = found[int(float(steps))]
        games = envs.suite("minatar")
        assert [f"{own[game]:.0f}" for game in games] == cells[:4]


def test_changed_plotting_code_redraws_the_pictures(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    monkeypatch.syspath_prepend(REPOSITORY / "docs")
    module, drawn = importlib.import_module("_artifact_figures"), []
    code = tmp_path / "code.py"
    for kind in (module.comparison, module.figures):
        monkeypatch.setattr(kind, "__file__", str(code))

    def picture(text: str) -> str:
        code.write_text(text)
        figures = module.Figures(tmp_path)

        def draw() -> Any:
            drawn.append(text)
            return module.figures.new_figure(1, 1)

        return figures._kept("pictures", [], draw)

    assert picture("a") == picture("a") != picture("b")
    assert drawn == ["a", "b"]


def test_pages_say_in_the_source_that_parts_are_generated() -> None:
    pages = {p: p.read_text("utf-8") for p in (REPOSITORY / "docs").glob("*.md")}
    generated = {p for p, text in pages.items() if "_generated/" in text}
    generated -= {REPOSITORY / "docs/cite.md"}  # the text is in CITATION.cff
    assert len(generated) > 10
    said = {p for p, text in pages.items() if "\n% `make docs` writes" in text}
    assert said == generated


def test_the_links_exist() -> None:
    targets = re.findall(r"\]\(([^)#]+)", TEXT)
    local = [target for target in targets if not target.startswith("http")]
    assert len(local) > 10
    assert [t for t in local if not (REPOSITORY / t).exists()] == []


@pytest.mark.parametrize(
    "command", re.findall(r"^learned-opt-rl (.*?)(?: *#.*)?$", TEXT, re.MULTILINE)
)
def test_the_commands_exist(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = [*command.split(), "--help"]
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == 0
    shown = capsys.readouterr().out
    assert [o for o in command.split() if o.startswith("--") and o not in shown] == []
