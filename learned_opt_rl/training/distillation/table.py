"""Students side by side, from the folders of their runs.

As in::

    python -m learned_opt_rl.training.distillation.table runs/short runs/long
"""

import json
import pathlib
import sys
from collections.abc import Sequence

from learned_opt_rl.rundir import jsonl
from learned_opt_rl.training.distillation.run import best_row
from learned_opt_rl.training.evolution.folder import CONFIG, LOG

COLUMNS = ("teacher", "student", "inputs", "sequence", "step", "error", "return")


def table(folders: Sequence[pathlib.Path]) -> str:
    """A Markdown table with a line per student: the best of its run.

    Args:
        folders: Of `distil`.

    Returns:
        Its lines, of `cells`.
    """
    lines = [_line(COLUMNS), _line(["---"] * len(COLUMNS))]
    return "\n".join(lines + [_line(cells(folder)) for folder in folders])


def cells(folder: pathlib.Path) -> list[str]:
    """A student in words, as `COLUMNS` has them.

    Args:
        folder: Of `distil`.

    Returns:
        The texts. Errors are relative to the teacher's rms, on the student's own
        inputs; returns are normalised as `DistillationConfig.normalisers` does.

    Raises:
        ValueError: The folder holds no distillation that has got anywhere.
    """
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))["config"]
        best = best_row(jsonl.read(folder / LOG), config["select"])
        sizes = ", ".join(f"{k} {v}" for k, v in config["architecture"].items() if v)
        cells = config["teacher"], f"{config['algorithm']}, {sizes}", config["inputs"]
        numbers = (best.get(name) for name in ("error", "return"))
        told = ["" if value is None else f"{value:.3g}" for value in numbers]
        return [*cells, str(config["sequence"]), str(best["step"]), *told]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{folder} holds no distillation: {error!r}") from error


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


if __name__ == "__main__":
    print(table([pathlib.Path(name) for name in sys.argv[1:]]))
