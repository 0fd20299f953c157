"""The notebooks of the documentation run, and are stored with their outputs."""

import json
import pathlib
from typing import Any

import matplotlib
import numpy as np
import pytest

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
    kinds = {output["output_type"] for output in outputs}
    assert "display_data" in kinds and "error" not in kinds
    assert path.stat().st_size < 150_000


@pytest.mark.slow
def test_swap_adam_learns_with_each_rule(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    matplotlib.use("agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    for cell in code_cells(REPOSITORY / "docs/notebooks/swap_adam.ipynb"):
        exec("".join(cell["source"]), names)  # the notebook is ours
    capsys.readouterr()
    assert len(names["curves"]) == 3
    for returns in names["curves"].values():
        mean = np.asarray(returns).mean(0)
        assert mean[-1] > 100 > mean[0]
