"""The figures of a report: curves, aggregates, comparisons, profiles.

Each function returns a matplotlib figure; `save` writes it. Bands and bars are 95%
bootstrap intervals. Fewer than five seeds get none.

The functions raise `MissingExtraError` if matplotlib is not installed, and `ValueError`
if there is nothing to draw.
"""

import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.evaluation.report import statistics
from learned_opt_rl.evaluation.report.gather import Along, in_order
from learned_opt_rl.evaluation.report.measures import curve_matrix, worst_points
from learned_opt_rl.evaluation.report.statistics import Banded, Estimate
from learned_opt_rl.evaluation.runs.row import Row, grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Styles = Mapping[str, dict[str, Any]]
"""The line styles of rules, from `figures.styles`."""

# More points than a panel has pixels would only make the files larger.
_MAX_POINTS = 200
# Markers on a curve: enough to tell rules apart without color.
_MARKS = 6
_SMALL = 8  # points, which a paper's captions have
_paper = figures.plain_style(**{"font.size": _SMALL, "lines.markersize": 3.5})
FORMATS = ("png", "svg", "pdf")


def save(figure: "Figure", path: str | pathlib.Path) -> list[pathlib.Path]:
    """Write a figure in each of `FORMATS`; the path is without its ending."""
    base = pathlib.Path(path)
    paths = [base.with_name(f"{base.name}.{ending}") for ending in FORMATS]
    for target in paths:
        figures.save(figure, target)
    return paths


@_paper
def curves_figure(
    rows: Iterable[Row],
    field: Literal["curve", "dormant"] = "curve",
    *,
    styles: Styles | None = None,
    columns: int | None = None,
) -> "Figure":
    """Draw learning or dormancy curves, a panel per environment, a line per rule.

    The rows are of one setting (`comparable.settings`). A missing point counts as the
    lowest point of its environment; the missing returns of a failed run count as in
    `statistics.failed_values`. The styles are by default those of the rules' order.
    """
    rows = [row for row in rows if getattr(row, field)]
    if not rows:
        raise ValueError(f"no row has a {field!r}, so there is nothing to draw")
    groups = grouped(rows)
    names = sorted({name for _, name in groups})
    floors = worst_points(rows, field)
    failed = statistics.failed_values(rows) if field == "curve" else {}
    styles = _styles({rule for rule, _ in groups}, styles)
    figure, panels = _panels(names, columns)
    for axes, name in zip(panels, names, strict=True):
        for rule in styles:
            group = groups.get((rule, name))
            if group and name in floors:
                curves = [_points(row, field, failed.get(name)) for row in group]
                shares, values = curve_matrix(curves, floors[name], _MAX_POINTS)
                steps = shares * group[0].steps_run
                _draw_curves(axes, steps, values, _line(styles, rule))
        axes.set_title(figures.text(name), fontsize="medium")
        axes.xaxis.set_major_formatter(_steps_formatter())
        if name not in floors:
            axes.text(0.5, 0.5, "no episode ended", ha="center")
            axes.set(xticks=[], yticks=[])
    for axes in panels[-_columns_of(names, columns) :]:
        axes.set_xlabel("environment steps")
    label = "return" if field == "curve" else "share of dormant neurons"
    for axes in panels[:: _columns_of(names, columns)]:
        axes.set_ylabel(label)
    _legend(figure, styles)
    return figure


@_paper
def returns_figure(
    rows: Iterable[Row], *, styles: Styles | None = None, columns: int | None = None
) -> "Figure":
    """Draw the final return of every run: a dot per seed, a mark at the mean.

    There is a panel per environment and a line per rule. A failed run counts as in
    `statistics.failed_values` and is drawn as a cross.
    """
    rows = list(rows)
    found = statistics.returns(rows)
    _require_some(found)
    styles = _styles(set(found), styles)
    failed = {(r.rule, r.environment, r.seed) for r in rows if r.failed}
    names = sorted({name for games in found.values() for name in games})
    columns = _columns_of(names, columns)
    lines = math.ceil(len(names) / columns)
    height = 0.4 + (0.45 + 0.22 * len(styles)) * lines
    figure, panels = _panels(names, columns, height)
    for index, (axes, name) in enumerate(zip(panels, names, strict=True)):
        estimates = {}
        for place, rule in enumerate(styles):
            seeds = found.get(rule, {}).get(name, {})
            estimates[rule] = statistics.estimate([*seeds.values()]) if seeds else None
            color = styles[rule]["color"]
            for lost, marker in ((False, "o"), (True, "x")):
                dots = [
                    value
                    for seed, value in seeds.items()
                    if ((rule, name, seed) in failed) == lost
                ]
                places = [place] * len(dots)
                axes.plot(dots, places, marker, ms=3, alpha=0.6, color=color)
        _draw_intervals(axes, estimates, styles)
        if index % columns:
            axes.set_yticklabels([])
        axes.set_title(figures.text(name), fontsize="medium")
    for axes in panels[-columns:]:
        axes.set_xlabel("final return")
    return figure


@_paper
def aggregate_figure(
    found: Mapping[str, Mapping[str, Estimate]],
    *,
    styles: Styles | None = None,
    references: Mapping[str, float] | None = None,
    columns: int | None = None,
) -> "Figure":
    """Draw mean, IQM, optimality gap and so on, a panel each, a line per rule.

    The panels are side by side, or on top of each other if ``columns`` is 1.

    ``references`` are values by metric at which a dashed line stands, such as 0.5 for a
    probability of improvement.
    """
    metrics = list(dict.fromkeys(name for group in found.values() for name in group))
    _require_some(metrics)
    styles = _styles(set(found), styles)
    # 0.2 inches a rule, so that names do not touch.
    shape = (len(metrics), 1) if columns == 1 else (1, len(metrics))
    height = (0.7 + 0.2 * len(found)) * shape[0]
    figure = figures.new_figure(_page_width(columns), height)
    panels = figure.subplots(*shape, sharey=True, squeeze=False).ravel()
    for axes, metric in zip(panels, metrics, strict=True):
        if metric in (references or {}):
            axes.axvline((references or {})[metric], color="0.6", lw=1, ls="--")
        estimates = {rule: found[rule].get(metric) for rule in styles if rule in found}
        _draw_intervals(axes, estimates, styles)
        axes.set_title(figures.text(metric), fontsize="medium")
        if metric == "optimality gap":
            axes.set_xlabel("lower is better", fontsize="small")
    return figure


@_paper
def profile_figure(
    thresholds: np.ndarray,
    found: Mapping[str, Banded],
    *,
    styles: Styles | None = None,
    columns: int | None = None,
) -> "Figure":
    """Draw performance profiles: the share of runs above each normalized return."""
    _require_some(found)
    figure = figures.new_figure(_page_width(columns), 3)
    axes = figure.add_subplot()
    styles = _styles(set(found), styles)
    for rule in styles:
        shares, low, high = found[rule]
        style = _line(styles, rule)
        axes.plot(thresholds, shares, label=figures.text(rule), **style)
        if low is not None and high is not None:
            _draw_band(axes, thresholds, low, high, style["color"])
    axes.set(xlabel="normalized return", ylabel="share of runs above it")
    axes.set_ylim(-0.03, 1.03)
    _plain_axes(axes)
    _legend(figure, styles)
    return figure


@_paper
def generalization_figure(
    found: Along, axis: str, *, styles: Styles | None = None
) -> "Figure":
    """Draw final returns along an axis: a panel per environment, a line per rule.

    The estimates are by environment, rule and value of the axis. Numbers are placed to
    scale, on a log scale if they span a factor of ten. Other values are evenly spaced,
    in the order of `gather.in_order`.

    References:
        Goldie et al., "Can Learned Optimization Make RL Less Difficult?", 2024,
        figures 4 and 16.
    """
    _require_some(found)
    figure, panels = _panels(list(found))
    styles = _styles({rule for group in found.values() for rule in group}, styles)
    for panel, (name, group) in zip(panels, found.items(), strict=True):
        _draw_along(panel, group, styles)
        panel.set_title(figures.text(name), fontsize="medium")
        panel.set_xlabel(figures.text(axis))
    panels[0].set_ylabel("final return")
    _legend(figure, styles)
    return figure


def _styles(rules: set[str], styles: Styles | None) -> Styles:
    """Return the styles of the rules that are drawn, in their order."""
    chosen = figures.styles(sorted(rules)) if styles is None else styles
    return {rule: style for rule, style in chosen.items() if rule in rules}


def _steps_formatter() -> Any:
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep="")


def _points(row: Row, field: str, failed_as: float | None) -> list[float | None]:
    points = getattr(row, field)
    if not row.failed or failed_as is None:
        return points
    return [failed_as if point is None else point for point in points]


def _require_some(found: Any) -> None:
    if not found:
        raise ValueError("found is empty, so there is nothing to draw")


def _draw_along(
    axes: "Axes", group: Mapping[str, Mapping[Any, Estimate]], styles: Styles
) -> None:
    values = in_order({value for along in group.values() for value in along})
    numeric = all(isinstance(v, int | float) for v in values)
    places = dict(zip(values, values if numeric else range(len(values)), strict=True))
    for rule, along in group.items():
        shown = [value for value in values if value in along]
        x = [places[value] for value in shown]
        axes.plot(x, [along[value].value for value in shown], **styles[rule])
        # As floats, None is NaN, which is not drawn.
        low = np.array([along[value].low for value in shown], float)
        high = np.array([along[value].high for value in shown], float)
        _draw_band(axes, x, low, high, styles[rule]["color"])
    if numeric and values[0] > 0 and values[-1] >= 10 * values[0]:
        axes.set_xscale("log")
    labels = [figures.text(f"{v}", 20) for v in places]
    # Longer labels would run into each other.
    slant = {"rotation": 30, "ha": "right"} if max(map(len, labels)) > 8 else {}
    axes.set_xticks([*places.values()], labels, **slant)
    axes.minorticks_off()


def _draw_curves(
    axes: "Axes", steps: np.ndarray, values: np.ndarray, style: dict[str, Any]
) -> None:
    axes.plot(steps, values.mean(axis=0), **style)
    if len(values) >= statistics.MIN_SEEDS:
        low, high = statistics.bootstrap_band(values)
        _draw_band(axes, steps, low, high, style["color"])


def _draw_band(axes: "Axes", x: Any, low: Any, high: Any, color: str) -> None:
    # Faint: bands of many rules overlap.
    axes.fill_between(x, low, high, color=color, alpha=0.13, lw=0)


def _draw_intervals(
    axes: "Axes", estimates: Mapping[str, Estimate | None], styles: Styles
) -> None:
    """Draw a mark per rule, on a bar if it has an interval; the first is on top."""
    for height, (rule, found) in enumerate(estimates.items()):
        if found is None:
            continue
        color = styles[rule]["color"]
        if found.low is not None and found.high is not None:
            width = found.high - found.low
            axes.barh(height, width, 0.6, found.low, color=color, alpha=0.35)
        axes.plot(found.value, height, "|", color=color, ms=9, mew=2)
    axes.set_yticks(range(len(estimates)), [figures.text(rule) for rule in estimates])
    axes.set_ylim(len(estimates) - 0.4, -0.6)  # from the top down
    _plain_axes(axes)


def _page_width(columns: int | None) -> float:
    """Return the width of a figure in inches; one column is for phones."""
    return figures.PAPER_WIDTH * (0.6 if columns == 1 else 1)


def _columns_of(names: Sequence[str], columns: int | None = None) -> int:
    """Return the panels in a line: three, or two where that fills the grid."""
    return columns or (2 if len(names) == 4 else min(3, len(names)))


def _panels(
    names: Sequence[str], columns: int | None = None, height: float | None = None
) -> tuple["Figure", list["Axes"]]:
    """Return a grid of panels as a figure and in order."""
    width = _page_width(columns)
    columns = _columns_of(names, columns)
    lines = math.ceil(len(names) / columns)
    each = 3.0 if len(names) == 1 else 1.9
    figure = figures.new_figure(width, height or 0.5 + each * lines)
    panels = [figure.add_subplot(lines, columns, i + 1) for i in range(len(names))]
    for axes in panels:
        _plain_axes(axes)
    return figure, panels


def _line(styles: Styles, rule: str) -> dict[str, Any]:
    """Return the style of a line of many points, few of which have a marker."""
    every = {"markevery": 1 / _MARKS, "lw": 1.2}
    return dict(styles[rule]) | every


def _legend(figure: "Figure", styles: Styles) -> None:
    from matplotlib.lines import Line2D

    labels = {rule: figures.text(rule) for rule in styles}
    handles = [Line2D([], [], label=labels[r], **_line(styles, r)) for r in styles]
    columns = _columns(figure, max(map(len, styles)))
    # The legend adds to the height, so that the panels keep theirs.
    height = figure.get_figheight() + 0.18 * (math.ceil(len(handles) / columns) - 1)
    figure.set_figheight(height)
    options = {"ncols": columns, "fontsize": "medium", "frameon": False}
    figure.legend(handles=handles, loc="outside lower center", **options)


def _columns(figure: "Figure", longest: int) -> int:
    """Return how many columns fit, at about 0.06 inches per letter."""
    entry = 0.6 + 0.06 * min(longest, 40)
    return max(1, min(4, int(figure.get_figwidth() / entry)))


def _plain_axes(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92", lw=0.8)
    axes.set_axisbelow(True)
    # Given here: ticks are made when the figure is drawn, in another style.
    axes.tick_params(labelsize=_SMALL - 1)
