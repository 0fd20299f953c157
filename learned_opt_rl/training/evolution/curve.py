"""The learning curve of a campaign, drawn from its log."""

import pathlib
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

import numpy as np

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.rundir.jsonl import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVE = "curve.png"
_COLUMNS = 4


def draw(
    rows: Sequence[Record],
    path: str | pathlib.Path,
    references: Mapping[str, float] | None = None,
) -> None:
    """Draw fitness and the mean's returns over generations, as a PNG or SVG file.

    The upper plot shows the best and the mean fitness of each generation's members, and
    the validation of the mean. With several environments, small plots below show the
    mean's raw return in each. Vertical lines mark changes of the horizon; values left
    and right of one are not comparable.

    Args:
        rows: Rows of a campaign's log.
        path: The file, written atomically.
        references: Fitness of other rules by name, drawn as horizontal lines.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: There are no rows.

    Example:
        >>> import tempfile
        >>> rows = [
        ...     {
        ...         "generation": 0,
        ...         "validation": 1.0,
        ...         "validation_returns": {"Catch": 1},
        ...     },
        ...     {"generation": 1, "horizon": 1000, "best": 2.0, "mean": 1.5},
        ... ]
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     draw(rows, pathlib.Path(folder) / "curve.png", {"sgd": 0.5})
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
    _fitness(axes, rows, validated, references or {})
    shown = [axes]
    for i, name in enumerate(names):
        small = figure.add_subplot(grid[1 + i // _COLUMNS, i % _COLUMNS])
        _line(small, validated, lambda row, name=name: row["validation_returns"][name])
        small.set_title(figures.text(name), fontsize="small")
        small.set_ylabel("return of the mean", fontsize="small")
        shown.append(small)
    for each in shown:
        for generation in _changes(rows):
            each.axvline(generation + 0.5, color="0.6", linestyle=":", linewidth=1)
        each.spines[["top", "right"]].set_visible(False)
    figures.save(figure, path)


def _fitness(
    axes: "Axes",
    rows: Sequence[Record],
    validated: Sequence[Record],
    references: Mapping[str, float],
) -> None:
    members = [row for row in rows if "mean" in row]
    _line(axes, members, lambda row: row["best"], color="0.75", label="best member")
    _line(axes, members, lambda row: row["mean"], color="0.45", label="mean of members")
    mean = {"color": "#0072b2", "marker": "o", "markersize": 3}
    _line(
        axes,
        validated,
        lambda row: row["validation"],
        label="the mean, validated",
        **mean,
    )
    for (name, value), style in zip(
        references.items(), figures.styles(references).values(), strict=True
    ):
        axes.axhline(value, color=style["color"], linestyle="--", linewidth=1)
        axes.annotate(
            figures.text(name),
            (1, value),
            xycoords=("axes fraction", "data"),
            ha="right",
            va="bottom",
            color=style["color"],
        )
    axes.set(xlabel="generation", ylabel="fitness")
    axes.legend(frameon=False, loc="best")


def _line(axes: "Axes", rows: Sequence[Record], value: Any, **style: Any) -> None:
    """Draw values, which are None where they were not finite."""
    values = np.array([value(row) for row in rows], float)
    axes.plot([row["generation"] for row in rows], values, **style)


def _changes(rows: Sequence[Record]) -> list[int]:
    """Return the last generation before each change of horizon."""
    known = [row for row in rows if "horizon" in row]
    return [
        before["generation"]
        for before, after in zip(known, known[1:], strict=False)
        if before["horizon"] != after["horizon"]
    ]


class Curve:
    """Redraw a campaign after each validation of its mean.

    Without matplotlib, write one line to the stream and draw nothing.

    Args:
        folder: Folder of the campaign.
        rows: The log so far.
        stream: Receives the line.
    """

    def __init__(
        self, folder: pathlib.Path, rows: Sequence[Record], stream: TextIO
    ) -> None:
        self._path, self._rows, self._draws = folder / CURVE, [*rows], True
        try:
            figures.new_figure(1, 1)
        except MissingExtraError as error:
            self._draws = False
            stream.write(f"no {CURVE}: {error}\n")

    def __call__(self, row: Record) -> None:
        """Add a row, and redraw if it has a validation."""
        self._rows.append(row)
        if self._draws and "validation" in row:
            draw(self._rows, self._path)
