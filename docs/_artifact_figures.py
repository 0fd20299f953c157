"""Draw the pictures and thumbnails of artifacts, and redraw them only if they change.

Pictures are 4.4 inches wide, so that their text is readable on a phone.
"""

import hashlib
import json
import pathlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
from _surfaces import (
    ADVANTAGES,
    DORMANCIES,
    PROGRESS,
    RATIOS,
    REWARDED,
    SCALE,
    SIZE,
    STEPS,
    Samples,
    decode,
    sample_adam,
    sample_ppo,
)
from PIL import Image

from learned_opt_rl.evaluation.pictures import comparison, figures
from learned_opt_rl.evaluation.runs.row import Row

WIDTH, DPI = 4.4, 115
THUMBNAIL = (2.2, 1.2)
_LARGE, _SMALL = "pictures", "static/thumbnails"

_EARLY, _LATE = 0, 3  # positions in PROGRESS of the two maps
_BLUE, _RED, _GRAY = "#0072b2", "#d55e00", "0.45"  # Okabe and Ito's, as in reports


class Figures:
    """A folder of pictures, each named by a digest of its content and of the code."""

    def __init__(self, folder: pathlib.Path) -> None:
        """Keep pictures in ``pictures`` and thumbnails in ``static`` of a folder."""
        self._folder = folder
        for name in (_LARGE, _SMALL):
            (folder / name).mkdir(parents=True, exist_ok=True)
        self._used: set[pathlib.Path] = set()
        self._code = [
            pathlib.Path(file).read_text("utf-8")
            for file in (__file__, comparison.__file__, figures.__file__)
        ]
        self._references = {"optimizer": decode(sample_adam())}
        self._references["drift"] = decode(sample_ppo())

    def picture(self, samples: Samples) -> str:
        """Return the path of the picture of a rule from the folder."""
        name = self._kept(_LARGE, samples, lambda: self._figure(samples, _PICTURES))
        return f"{_LARGE}/{name}"

    def thumbnail(self, samples: Samples) -> str:
        """Return the path of a small picture of a rule on the site."""
        name = self._kept(_SMALL, samples, lambda: self._figure(samples, _THUMBNAILS))
        return f"_static/{pathlib.PurePath(_SMALL).name}/{name}"

    def curves(self, rows: Iterable[Row]) -> str:
        """Return the path of the learning curves of some rows from the folder."""
        rows = list(rows)
        shown = [[row.rule, row.environment, row.seed, row.curve] for row in rows]
        return f"{_LARGE}/{self._kept(_LARGE, shown, lambda: _curves(rows))}"

    def remove_others(self) -> None:
        """Remove the pictures that this build did not use."""
        for name in (_LARGE, _SMALL):
            for path in set((self._folder / name).glob("*.png")) - self._used:
                path.unlink()

    def _figure(self, samples: Samples, drawers: dict[str, Callable]) -> Any:
        kind = samples["kind"]
        return drawers[kind](decode(samples), self._references.get(kind))

    def _kept(self, folder: str, shown: Any, draw: Callable[[], Any]) -> str:
        content = json.dumps([self._code, shown]).encode()
        digest = hashlib.sha256(content).hexdigest()[:16]
        path = self._folder / folder / f"{digest}.png"
        if not path.exists():
            figures.save(draw(), path, DPI)
            # With a palette, the files are a third of the size.
            Image.open(path).convert("RGB").quantize(128).save(path, optimize=True)
        self._used.add(path)
        return path.name


@figures.plain_style()
def _optimizer(panels: np.ndarray, adam: np.ndarray) -> Any:
    """Draw two maps of updates, and below the updates for a steady gradient."""
    figure = figures.new_figure(WIDTH, 4.3)
    grid = figure.add_gridspec(2, 2)
    axis = np.linspace(-SCALE, SCALE, SIZE)
    for column, place in enumerate((_EARLY, _LATE)):
        update = _panel(panels, place).reshape(SIZE, SIZE)
        axes = figure.add_subplot(grid[0, column])
        limit = np.nanmax(np.abs(update)) or 1.0
        extent = (-SCALE, SCALE, -SCALE, SCALE)
        options = {"cmap": "RdBu_r", "vmin": -limit, "vmax": limit}
        axes.imshow(update, origin="lower", aspect="auto", extent=extent, **options)
        axes.set_title(f"{_passed(place)}\nlargest update {limit:.1e}", fontsize=9)
        axes.set(xlabel="gradient", xticks=[-SCALE, 0, SCALE])
        axes.set(yticks=[-SCALE, 0, SCALE] if column == 0 else [])
        if column == 0:
            axes.set_ylabel("momentum")
    axes = figure.add_subplot(grid[1, :])
    for place, color in ((_EARLY, _BLUE), (_LATE, _RED)):
        update = _steady(panels, place)
        axes.plot(axis, update, color=color, label=_passed(place))
    start, reference = _steady(panels, _EARLY), _steady(adam, _EARLY)
    rate = _fit(start, reference)
    label = f"Adam, rate {abs(rate):.1e}"
    axes.plot(axis, rate * reference, color=_GRAY, ls="--", label=label)
    axes.set(xlabel="gradient = momentum", ylabel="update")
    _finish(axes)
    return figure


@figures.plain_style()
def _drift(panels: np.ndarray, ppo: np.ndarray) -> Any:
    """Draw the slope of the loss for two advantages beside PPO's, and the drift."""
    figure = figures.new_figure(WIDTH, 4.8)
    above, below = figure.subplots(2, 1)
    for advantage, color in ((1.0, _BLUE), (-1.0, _RED)):
        label = f"A = {advantage:+.0f}"
        above.plot(RATIOS, _along(panels[1], advantage), color=color, label=label)
        style = {"color": color, "ls": "--", "lw": 1}
        above.plot(RATIOS, _along(ppo[1], advantage), **style)
    above.plot([], [], color=_GRAY, ls="--", lw=1, label="PPO's clip")
    above.set(xlabel="ratio r", ylabel="slope of the loss, dL/dr", ylim=(-2.5, 2.5))
    _finish(above)
    extent = (RATIOS[0], RATIOS[-1], ADVANTAGES[0], ADVANTAGES[-1])
    drift = panels[0].reshape(len(ADVANTAGES), -1)
    options = {"cmap": "magma", "vmin": 0, "vmax": 2, "interpolation": "bilinear"}
    image = below.imshow(drift, origin="lower", aspect="auto", extent=extent, **options)
    below.set(xlabel="ratio r", ylabel="advantage A")
    figure.colorbar(image, ax=below, label="drift", extend="both")
    return figure


@figures.plain_style()
def _update_rule(panels: np.ndarray, _: Any) -> Any:
    """Draw the policy targets around a reward, less those without a reward."""
    figure = figures.new_figure(WIDTH, 2.9)
    axes = figure.add_subplot()
    steps = np.arange(STEPS) - REWARDED
    colors = [_BLUE if step <= 0 else "0.7" for step in steps]
    axes.bar(steps, panels[0] - panels[1], color=colors)
    axes.axhline(0, color="0.3", lw=0.8)
    axes.set(xlabel="steps after the reward, which ends the episode")
    axes.set_ylabel("change of the policy target")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _small(draw: Callable[..., None]) -> Callable[..., Any]:
    """Return a function that draws a thumbnail: lines only, without axes."""

    @figures.plain_style()
    def drawn(panels: np.ndarray, reference: np.ndarray | None) -> Any:
        figure = figures.new_figure(*THUMBNAIL)
        axes = figure.add_subplot()
        draw(axes, panels, reference)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        axes.axhline(0, color="0.85", lw=0.8, zorder=0)
        return figure

    return drawn


@_small
def _small_optimizer(axes: Any, panels: np.ndarray, adam: np.ndarray) -> None:
    start, reference = _steady(panels, _EARLY), _steady(adam, _EARLY)
    axes.plot(_fit(start, reference) * reference, color="0.7", ls="--")
    axes.plot(start, color=_BLUE)
    axes.plot(_steady(panels, _LATE), color=_RED)


@_small
def _small_drift(axes: Any, panels: np.ndarray, ppo: np.ndarray) -> None:
    for advantage, color in ((1.0, _BLUE), (-1.0, _RED)):
        axes.plot(RATIOS, _along(ppo[1], advantage), color="0.7", ls="--", lw=1)
        axes.plot(RATIOS, _along(panels[1], advantage), color=color)
    axes.set_ylim(-2, 2)


@_small
def _small_update_rule(axes: Any, panels: np.ndarray, _: Any) -> None:
    axes.bar(np.arange(STEPS), panels[0] - panels[1], color=_BLUE)


_PICTURES = {"optimizer": _optimizer, "drift": _drift, "update_rule": _update_rule}
_THUMBNAILS = {
    "optimizer": _small_optimizer,
    "drift": _small_drift,
    "update_rule": _small_update_rule,
}


def _curves(rows: Sequence[Row]) -> Any:
    """Draw learning curves, narrow enough for a phone."""
    figure = comparison.curves_figure(rows)
    games = len({row.environment for row in rows})
    rules = len({row.rule for row in rows})
    figure.set_size_inches(WIDTH, 0.25 * rules + (2.6 if games < 3 else 4.4))
    for axes in figure.axes:
        ticks = np.linspace(0, rows[0].total_timesteps, 3)
        axes.set_xticks(ticks, [f"{x:.2g}".replace("e+0", "e") for x in ticks])
        axes.set_title(axes.get_title(), fontsize=9)
        axes.set_xlabel("steps")
    (legend,) = figure.legends
    handles, names = legend.legend_handles, [t.get_text() for t in legend.get_texts()]
    legend.remove()
    place = {"loc": "outside lower center", "frameon": False, "fontsize": 8}
    figure.legend(handles, names, **place)  # in one column
    return figure


def _panel(panels: np.ndarray, place: int, dormancy: float = 1.0) -> np.ndarray:
    return panels[place * len(DORMANCIES) + DORMANCIES.index(dormancy)]


def _steady(panels: np.ndarray, place: int) -> np.ndarray:
    """Return the updates over a gradient that equals the momentum."""
    return _panel(panels, place).reshape(SIZE, SIZE).diagonal()


def _along(panel: np.ndarray, advantage: float) -> np.ndarray:
    """Return the values over the ratio for one advantage."""
    row = int(np.flatnonzero(advantage == ADVANTAGES)[0])
    return panel.reshape(len(ADVANTAGES), -1)[row]


def _fit(update: np.ndarray, reference: np.ndarray) -> float:
    """Return the factor of the reference that is closest to the update."""
    known = np.isfinite(update)
    return float((update[known] @ reference[known]) / (reference @ reference))


def _passed(place: int) -> str:
    share = PROGRESS[place]
    return f"after {100 * share:.0f}% of the run" if share else "at the start"


def _finish(axes: Any) -> None:
    axes.axhline(0, color="0.85", lw=0.8, zorder=0)
    axes.ticklabel_format(axis="y", scilimits=(-2, 2))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize=8)
