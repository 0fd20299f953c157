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


def save(figure: "Figure", path: str | pathlib.Path) -> list[pathlib.Path]:
    """Write a figure as a PNG and as an SVG; the path is without its ending."""
    base = pathlib.Path(path)
    paths = [base.with_name(f"{base.name}.{ending}") for ending in ("png", "svg")]
    for target in paths:
        figures.save(figure, target)
    return paths


@figures.plain_style()
def curves_figure(
    rows: Iterable[Row], field: Literal["curve", "dormant"] = "curve"
) -> "Figure":
    """Draw learning or dormancy curves, a panel per environment, a line per rule.

    The rows are of one setting (`comparable.settings`). A missing point counts as the
    lowest point of its environment; the missing returns of a failed run count as in
    `statistics.failed_values`.
    """
    rows = [row for row in rows if getattr(row, field)]
    if not rows:
        raise ValueError(f"no row has a {field!r}, so there is nothing to draw")
    groups = grouped(rows)
    names = sorted({name for _, name in groups})
    floors = worst_points(rows, field)
    failed = statistics.failed_values(rows) if field == "curve" else {}
    styles = figures.styles(sorted({rule for rule, _ in groups}))
    figure, panels = _panels(names)
    for axes, name in zip(panels, names, strict=True):
        for rule in styles:
            group = groups.get((rule, name))
            if group and name in floors:
                curves = [_points(row, field, failed.get(name)) for row in group]
                shares, values = curve_matrix(curves, floors[name], _MAX_POINTS)
                steps = shares * group[0].total_timesteps
                _draw_curves(axes, steps, values, _line(styles, rule))
        axes.set(title=figures.text(name), xlabel="environment steps")
    label = "return" if field == "curve" else "share of dormant neurons"
    panels[0].set_ylabel(label)
    _legend(figure, styles)
    return figure


@figures.plain_style()
def aggregate_figure(found: Mapping[str, Mapping[str, Estimate]]) -> "Figure":
    """Draw mean, IQM, optimality gap and so on, a panel each, a line per rule."""
    metrics = list(dict.fromkeys(name for group in found.values() for name in group))
    _require_some(metrics)
    # Inches: 2 for the names, 2.5 a panel; 0.35 a rule, so that names do not touch.
    figure = figures.new_figure(2 + 2.5 * len(metrics), 0.9 + 0.35 * len(found))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        estimates = {rule: group.get(metric) for rule, group in found.items()}
        _draw_intervals(axes, estimates, figures.styles(sorted(found)))
        lower = " (lower is better)" if metric == "optimality gap" else ""
        axes.set_title(figures.text(metric) + lower, fontsize="medium")
    return figure


@figures.plain_style()
def improvement_figure(found: Mapping[str, Estimate], baseline: str) -> "Figure":
    """Draw the probability that rules improve on a baseline; one half is neither."""
    _require_some(found)
    figure = figures.new_figure(6, 0.9 + 0.35 * len(found))
    axes = figure.add_subplot()
    axes.axvline(0.5, color="0.6", lw=1, ls="--")
    _draw_intervals(axes, found, figures.styles(sorted({*found, baseline})))
    # A little more than 0 to 1, so that marks at the ends are whole.
    axes.set(xlim=(-0.03, 1.03), xlabel=f"P(better than {figures.text(baseline)})")
    return figure


@figures.plain_style()
def profile_figure(thresholds: np.ndarray, found: Mapping[str, Banded]) -> "Figure":
    """Draw performance profiles: the share of runs above each normalized return."""
    _require_some(found)
    figure = figures.new_figure(7, 4.5)
    axes = figure.add_subplot()
    styles = figures.styles(sorted(found))
    for rule, (shares, low, high) in found.items():
        style = _line(styles, rule)
        axes.plot(thresholds, shares, label=figures.text(rule), **style)
        if low is not None and high is not None:
            _draw_band(axes, thresholds, low, high, style["color"])
    axes.set(xlabel="normalized return", ylabel="share of runs above it")
    axes.set_ylim(-0.03, 1.03)
    _plain_axes(axes)
    _legend(figure, styles)
    return figure


@figures.plain_style()
def generalization_figure(found: Along, axis: str) -> "Figure":
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
    rules = {rule for group in found.values() for rule in group}
    styles = figures.styles(sorted(rules))
    for panel, (name, group) in zip(panels, found.items(), strict=True):
        _draw_along(panel, group, styles)
        panel.set(title=figures.text(name), xlabel=figures.text(axis))
    panels[0].set_ylabel("final return")
    _legend(figure, styles)
    return figure


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
        if found.low is not None and found.high is not None:
            width = found.high - found.low
            color = styles[rule]["color"]
            axes.barh(height, width, 0.6, found.low, color=color, alpha=0.35)
        axes.plot(found.value, height, "|", color="black", ms=14, mew=2)
    axes.set_yticks(range(len(estimates)), [figures.text(rule) for rule in estimates])
    axes.set_ylim(len(estimates) - 0.4, -0.6)  # from the top down
    _plain_axes(axes)


def _panels(names: Sequence[str]) -> tuple["Figure", list["Axes"]]:
    """Return a grid of panels, three in a line, or two where that fills the grid."""
    columns = 2 if len(names) == 4 else min(3, len(names))
    lines = math.ceil(len(names) / columns)
    one = len(names) == 1
    size = (7, 4.5) if one else (0.6 + 3.6 * columns, 0.7 + 2.8 * lines)
    figure = figures.new_figure(*size)
    panels = [figure.add_subplot(lines, columns, i + 1) for i in range(len(names))]
    for axes in panels:
        _plain_axes(axes)
    return figure, panels


def _line(styles: Styles, rule: str) -> dict[str, Any]:
    """Return the style of a line of many points, which markers would hide."""
    style = styles[rule]
    return {"color": style["color"], "linestyle": style["linestyle"], "lw": 1.5}


def _legend(figure: "Figure", styles: Styles) -> None:
    from matplotlib.lines import Line2D

    labels = {rule: figures.text(rule) for rule in styles}
    handles = [Line2D([], [], label=labels[r], **_line(styles, r)) for r in styles]
    columns = _columns(figure, max(map(len, styles)))
    # The legend adds to the height, so that the panels keep theirs.
    height = figure.get_figheight() + 0.22 * (math.ceil(len(handles) / columns) - 1)
    figure.set_figheight(height)
    options = {"ncols": columns, "fontsize": "small", "frameon": False}
    figure.legend(handles=handles, loc="outside lower center", **options)


def _columns(figure: "Figure", longest: int) -> int:
    """Return how many columns fit, at about 0.07 inches per letter."""
    entry = 0.7 + 0.07 * min(longest, 40)
    return max(1, min(4, int(figure.get_figwidth() / entry)))


def _plain_axes(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92", lw=0.8)
    axes.set_axisbelow(True)
