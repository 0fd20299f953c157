"""The notebooks of the documentation run, and are stored with their outputs."""

import json
import pathlib
from typing import Any

import matplotlib
import numpy as np
import pytest

from learned_opt_rl import envs
from tests.conftest import REPOSITORY

NOTEBOOKS = sorted((REPOSITORY / "docs/notebooks").glob("*.ipynb"))


def code_cells(path: pathlib.Path) -> list[dict[str, Any]]:
    cells = json.loads(path.read_text("utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stored_as_it_ran(path: pathlib.Path) -> None:
    cells = code_cells(path)
    counts = [cell["execution_count"] for cell in cells]
    assert counts == list(range(1, 1 + len(cells)))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert "error" not in {output["output_type"] for output in outputs}
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert path.stat().st_size < 300_000


def run(name: str) -> dict[str, Any]:
    """Run a notebook in this process and return its names."""
    matplotlib.use("agg")
    names: dict[str, Any] = {}
    for cell in code_cells(REPOSITORY / f"docs/notebooks/{name}.ipynb"):
        source = "".join(line for line in cell["source"] if not line.startswith("%"))
        exec(source, names)  # the notebook is ours
    return names


@pytest.mark.slow
def test_swap_adam_learns_with_each_rule() -> None:
    names = run("swap_adam")
    assert len(names["curves"]) == 3
    for returns in names["curves"].values():
        mean = np.asarray(returns).mean(0)
        assert mean[-1] > 100 > mean[0]


@pytest.mark.slow
def test_compare_has_every_run_and_the_rows_of_minatar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(REPOSITORY / "docs/notebooks")
    names = run("compare")
    assert len(names["report"].frame) == 15
    assert not names["report"].failures
    assert set(names["drifts"].frame["environment"]) == set(envs.suite("minatar"))
