"""Show a campaign while it runs: progress and learning curve."""

import itertools
import pathlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.evaluation.runs import program
from learned_opt_rl.rundir import progress
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.rundir.progress import duration
from learned_opt_rl.training.evolution import estimate
from learned_opt_rl.training.evolution.config import EvolutionConfig

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVE = "curve.png"

_COLUMNS = 4


class Progress(progress.Progress):
    """A bar in a terminal, a line per generation elsewhere.

    The remaining time is that of the remaining environment steps at the speed so far,
    because later generations of a curriculum may be longer.
    """

    def __init__(self, config: EvolutionConfig, done: int, stream: TextIO) -> None:
        """Show a campaign with ``done`` generations."""
        super().__init__("generation", config.generations, stream, done=done)
        self._config = config
        self._steps = self._seconds = 0.0

    def __call__(self, row: Record, best_validation: float) -> None:
        """Show a generation, given its record in the log and the best validation."""
        done = row["generation"]
        self._steps += row["steps_per_second"] * row["seconds"]
        self._seconds += row["seconds"]
        steps_left = estimate.steps_left(self._config, done)
        left = duration(steps_left * self._seconds / max(self._steps, 1.0))
        shown = (
            f"best {row['best']:.3g}  mean {row['mean']:.3g}  "
            f"validated {best_validation:.3g}  "
            f"{row['steps_per_second']:,.0f} steps/s  {left} left"
        )
        peak = program.memory_peak()
        if peak is not None:
            shown += f"  {peak / 2**30:.1f} GiB"
        if row.get("std") == 0:
            # For example from zeros with a small sigma, over short runs.
            shown += "  (all members equal, nothing moves: raise sigma?)"
        self.show(done, shown)


@figures.plain_style()
def draw_curve(rows: Sequence[Record], path: str | pathlib.Path) -> None:
    """Draw fitness and the mean's returns over generations, as a PNG or SVG file.

    The upper plot shows the best and the mean fitness of each generation's members, and
    the validation of the mean. With several environments, small plots below show the
    mean's raw return in each. Vertical lines mark changes of the horizon; values left
    and right of one are not comparable.

    Raise MissingExtraError without matplotlib, ValueError without rows.
    """
    if not rows:
        raise ValueError("the log holds no generation yet; there is nothing to draw")
    validated = [row for row in rows if "validation" in row]
    names = list(validated[-1]["validation_returns"]) if validated else []
    names = names if len(names) > 1 else []
    lines = -(-len(names) // _COLUMNS)
    figure = figures.new_figure(9, 4 + 2.4 * lines)
    grid = figure.add_gridspec(1 + lines, _COLUMNS, height_ratios=[2] + [1] * lines)
    axes = figure.add_subplot(grid[0, :])
    _fitness(axes, rows, validated)
    shown = [axes]
    for i, name in enumerate(names):
        small = figure.add_subplot(grid[1 + i // _COLUMNS, i % _COLUMNS])
        _line(small, validated, [row["validation_returns"][name] for row in validated])
        small.set_title(figures.text(name), fontsize="small")
        small.set_ylabel("return of the mean", fontsize="small")
        shown.append(small)
    for each in shown:
        for generation in _changes(rows):
            each.axvline(generation + 0.5, color="0.6", linestyle=":", linewidth=1)
        each.spines[["top", "right"]].set_visible(False)
    figures.save(figure, path)


def _fitness(axes: "Axes", rows: Sequence[Record], validated: Sequence[Record]) -> None:
    members = [row for row in rows if "mean" in row]
    best, mean = ([row[name] for row in members] for name in ("best", "mean"))
    _line(axes, members, best, color="0.75", label="best member")
    _line(axes, members, mean, color="0.45", label="mean of members")
    values = [row["validation"] for row in validated]
    style = {"color": "#0072b2", "marker": "o", "markersize": 3}
    _line(axes, validated, values, label="the mean, validated", **style)
    axes.set(xlabel="generation", ylabel="fitness")
    axes.legend(frameon=False, loc="best")


def _line(axes: "Axes", rows: Sequence[Record], values: Any, **style: Any) -> None:
    """Draw one value per row, None where it was not finite."""
    generations = [row["generation"] for row in rows]
    axes.plot(generations, np.array(values, float), **style)


def _changes(rows: Sequence[Record]) -> list[int]:
    """Return the last generation before each change of horizon."""
    known = [row for row in rows if "horizon" in row]
    pairs = itertools.pairwise(known)
    return [a["generation"] for a, b in pairs if a["horizon"] != b["horizon"]]


class Curve:
    """Redraw a campaign after each validation of its mean."""

    def __init__(self, folder: pathlib.Path, rows: Sequence[Record]) -> None:
        self._path, self._rows = folder / CURVE, [*rows]

    def __call__(self, row: Record) -> None:
        """Add a row, and redraw if it has a validation."""
        self._rows.append(row)
        if "validation" in row:
            draw_curve(self._rows, self._path)
