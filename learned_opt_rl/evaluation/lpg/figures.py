"""Figures of an analysis of predictions."""

import pathlib
from typing import TYPE_CHECKING

import numpy as np

from learned_opt_rl.envs.gridworld import Level
from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.evaluation.report.statistics import MIN_SEEDS
from learned_opt_rl.rundir.jsonl import Record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS = 5
# Row and column of each action's move; of eighteen actions, the last nine collect.
_MOVES = np.array(
    [(-1, 0), (1, 0), (0, -1), (0, 1), (0, 0), (-1, -1), (-1, 1), (1, -1), (1, 1)]
)


@figures.plain_style()
def plot_predictions(
    level: Level,
    policy: np.ndarray,
    values: np.ndarray,
    y: np.ndarray,
    path: str | pathlib.Path,
) -> None:
    """Draw a level, its policy, the true values, and each component of y.

    The arrays are policy ``[cells, num_actions]`` with all objects present, values
    ``[cells]`` and y ``[cells, m]``.
    """
    m = y.shape[-1]
    rows = 1 + -(-m // _COLUMNS)
    figure = figures.new_figure(2 * _COLUMNS, 2 * rows)
    axes = figure.subplots(rows, _COLUMNS, squeeze=False)
    _draw_level(axes[0, 0], level)
    _draw_policy(axes[0, 1], level, policy)
    _draw_cells(axes[0, 2], "true values", level, values)
    for i, place in enumerate(axes[1:].ravel()[:m]):
        _draw_cells(place, f"y[{i}]", level, y[:, i])
    for place in axes.ravel():
        if not place.has_data():
            place.set_axis_off()
    figures.save(figure, path)


@figures.plain_style()
def plot_regression(record: Record, path: str | pathlib.Path) -> None:
    """Draw the held-out error over the evaluation, a panel per discount.

    A gray line is the error of the mean value, the best guess without any input.
    """
    updates, mse = record["updates"], record["mse"]
    figure = figures.new_figure(3.2 * len(mse), 3)
    styles = figures.styles(next(iter(mse.values())))
    for axes, (gamma, lines) in zip(
        figure.subplots(1, len(mse), squeeze=False)[0], mse.items(), strict=True
    ):
        for name, line in lines.items():
            shown = {**styles[name], "marker": None}
            label = {"td": "TD(λ)"}.get(name, name)
            axes.plot(updates, np.array(line, float), label=f"from {label}", **shown)
        constant = record["mse_constant"][gamma]
        if constant is not None:
            axes.axhline(constant, color="0.6", lw=1, label="mean value")
        axes.set_title(f"discount {gamma}", fontsize="small")
        axes.set_ylim(bottom=0)
        axes.spines[["top", "right"]].set_visible(False)
    figure.axes[0].legend(frameon=False, fontsize="small")
    figure.supxlabel("updates", fontsize="small")
    figure.supylabel("squared error, held-out grids", fontsize="small")
    figures.save(figure, path)


@figures.plain_style()
def plot_convergence(
    level: Level, y: np.ndarray, record: Record, path: str | pathlib.Path
) -> None:
    """Draw two predictors before and after, and the distance between them.

    ``y`` is float ``[2, 2, cells, m]``: before and after, for both predictors; the
    figure has the three components that vary most afterwards.
    """
    free = np.asarray(level.free)
    spread = y[1][:, free].std(axis=1).mean(axis=0)
    shown = np.sort(np.argsort(-spread, kind="stable")[:3])
    figure = figures.new_figure(13, 4)
    left, right = figure.subfigures(1, 2, squeeze=False, width_ratios=(2, 1))[0]
    axes = left.subplots(2, 2 * len(shown), squeeze=False)
    for predictor in (0, 1):
        for when, name in enumerate(("before", "after")):
            for i, component in enumerate(shown):
                place = axes[predictor, when * len(shown) + i]
                cells = _grid(level, y[when, predictor, :, component])
                # One scale for a component, so that the rows can be compared.
                place.imshow(cells, vmin=0, vmax=y[:, :, free, component].max())
                _label(place, f"y{predictor}[{component}] {name}")
    panel = right.subplots()
    updates, grids = record["updates"], record["grids"]
    mean, error = (np.array(record[name], float) for name in ("kl", "kl_error"))
    panel.plot(updates, mean, lw=1)
    band = ""
    if grids >= MIN_SEEDS:
        band = " ± standard error"
        panel.fill_between(updates, mean - error, mean + error, alpha=0.3, lw=0)
    if np.isfinite(mean).all() and (mean > 0).all():
        panel.set_yscale("log")
    panel.set(xlabel="updates", ylabel=f"KL(y0 || y1), mean{band} of {grids} grids")
    panel.spines[["top", "right"]].set_visible(False)
    figures.save(figure, path)


def _grid(level: Level, cells: np.ndarray) -> np.ndarray:
    """Return cells in the shape of the level, NaN at walls."""
    height, width = int(level.height), int(level.width)
    cells = np.where(np.asarray(level.free), cells, np.nan)
    return cells[: height * width].reshape(height, width)


def _draw_cells(axes: "Axes", title: str, level: Level, cells: np.ndarray) -> None:
    image = axes.imshow(_grid(level, cells), cmap="viridis", interpolation="nearest")
    bar = axes.figure.colorbar(image, ax=axes, shrink=0.8)
    bar.ax.tick_params(labelsize="xx-small")
    _label(axes, title)


def _draw_walls(axes: "Axes", title: str, level: Level) -> None:
    walls = np.isnan(_grid(level, np.zeros(len(level.walls))))
    axes.imshow(walls, cmap="Greys", vmin=0, vmax=2)
    _label(axes, title)


def _draw_level(axes: "Axes", level: Level) -> None:
    _draw_walls(axes, "objects", level)
    for i in range(int(level.num_objects)):
        row, column = divmod(int(level.cells[i]), int(level.width))
        reward = float(level.rewards[i])
        color = "#e69f00" if reward > 0 else "#d55e00"
        axes.plot(column, row, "o", color=color, ms=9)
        axes.text(column, row, f"{reward:.1f}", fontsize=5, ha="center", va="center")


def _draw_policy(axes: "Axes", level: Level, policy: np.ndarray) -> None:
    """Draw an arrow where the likeliest action leads, a dot where it stays."""
    height, width = int(level.height), int(level.width)
    cells = np.flatnonzero(np.asarray(level.free))
    rows, columns = cells // width, cells % width
    down, right = _MOVES[policy[cells].argmax(axis=1) % 9].T
    stays = (down == 0) & (right == 0)
    _draw_walls(axes, "policy", level)
    axes.plot(columns[stays], rows[stays], "k.", ms=3)
    arrows = [x[~stays] for x in (columns, rows, right, down)]
    style = {"angles": "xy", "scale_units": "xy", "scale": 1.5, "pivot": "mid"}
    axes.quiver(*arrows, width=0.012, **style)
    axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def _label(axes: "Axes", title: str) -> None:
    axes.set_title(title, fontsize="small")
    axes.set(xticks=[], yticks=[])
