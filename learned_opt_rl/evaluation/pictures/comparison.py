"""The pictures of a report: curves, aggregates, comparisons, profiles.

Each function gives a matplotlib figure; `save` writes it. Bands and bars are 95%
bootstrap intervals; with fewer than five seeds there are none.
"""

import math
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.evaluation.report import statistics
from learned_opt_rl.evaluation.report.gather import in_order
from learned_opt_rl.evaluation.report.measures import curve_matrix, worst_points
from learned_opt_rl.evaluation.report.statistics import Estimate
from learned_opt_rl.rundir.jsonl import Row, grouped

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_MAX_POINTS = 200
_Curve = Literal["curve", "dormant"]


def save(figure: "Figure", path: str | pathlib.Path) -> list[pathlib.Path]:
    """Writes a figure twice, as a PNG and as an SVG.

    Args:
        figure: From a function of this module.
        path: The files' name without its ending.

    Returns:
        Both paths.

    Example:
        >>> import tempfile
        >>> figure = aggregate_figure({"adam": {"IQM": Estimate(1.0, 0.9, 1.1, 3)}})
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     [path.name for path in save(figure, f"{folder}/aggregates")]
        ['aggregates.png', 'aggregates.svg']
    """
    base = pathlib.Path(path)
    paths = [base.with_name(f"{base.name}.{ending}") for ending in ("png", "svg")]
    for target in paths:
        figures.save(figure, target)
    return paths


def curves_figure(rows: Iterable[Row], field: _Curve = "curve") -> "Figure":
    """Learning or dormancy curves, a panel per environment, a line per rule.

    Args:
        rows: Of one setting (`comparable.settings`).
        field: ``"curve"`` for returns, ``"dormant"`` for the share of dormant neurons.

    Returns:
        The figure; a missing point counts as the lowest of its environment.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        ValueError: If no row has such a curve.

    Example:
        >>> row = {"rule": "adam", "environment": "ant", "curve": [0.0, 1.0]}
        >>> figure = curves_figure([row | {"total_timesteps": 1000}])
        >>> figure.axes[0].get_title()
        'ant'
    """
    groups = grouped(row | {"curve": row[field]} for row in rows if row.get(field))
    if not groups:
        raise ValueError(f"no row has a {field!r}, so there is nothing to draw")
    names = sorted({name for _, name in groups})
    floors = worst_points(row for group in groups.values() for row in group)
    styles = figures.styles(sorted({rule for rule, _ in groups}))
    figure, panels = _panels(names)
    for axes, name in zip(panels, names, strict=True):
        for rule in styles:
            group = groups.get((rule, name))
            if group and name in floors:
                _draw_curves(axes, group, floors[name], _line(styles, rule))
        axes.set(title=figures.text(name), xlabel="environment steps")
    label = "return" if field == "curve" else "share of dormant neurons"
    panels[0].set_ylabel(label)
    _legend(figure, styles)
    return figure


def aggregate_figure(found: Mapping[str, Mapping[str, Estimate]]) -> "Figure":
    """Mean, IQM, optimality gap and the like, a panel each, a line per rule.

    Args:
        found: By rule, from `statistics.aggregate`.

    Returns:
        The figure.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        ValueError: If there is nothing to draw.

    Example:
        >>> estimates = {"IQM": Estimate(1.0, 0.9, 1.1, 3)}
        >>> aggregate_figure({"adam": estimates}).axes[0].get_title()
        'IQM'
    """
    metrics = list(dict.fromkeys(name for group in found.values() for name in group))
    if not metrics:
        raise ValueError("found is empty, so there is nothing to draw")
    figure = figures.new_figure(2 + 2.5 * len(metrics), 0.9 + 0.35 * len(found))
    panels = figure.subplots(1, len(metrics), sharey=True, squeeze=False)[0]
    for axes, metric in zip(panels, metrics, strict=True):
        estimates = {rule: group.get(metric) for rule, group in found.items()}
        _draw_intervals(axes, estimates, figures.styles(sorted(found)))
        lower = " (lower is better)" if metric == "optimality gap" else ""
        axes.set_title(figures.text(metric) + lower, fontsize="medium")
    return figure


def improvement_figure(found: Mapping[str, Estimate], baseline: str) -> "Figure":
    """The probability that rules improve on another one.

    Args:
        found: By rule, from `statistics.probability_of_improvement`.
        baseline: The rule they are compared with.

    Returns:
        The figure; one half means neither is better.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        ValueError: If there is nothing to draw.

    Example:
        >>> figure = improvement_figure({"lion": Estimate(0.4, 0.2, 0.6, 3)}, "adam")
        >>> figure.axes[0].get_xlabel()
        'P(better than adam)'
    """
    if not found:
        raise ValueError("found is empty, so there is nothing to draw")
    figure = figures.new_figure(6, 0.9 + 0.35 * len(found))
    axes = figure.add_subplot()
    axes.axvline(0.5, color="0.6", lw=1, ls="--")
    _draw_intervals(axes, found, figures.styles(sorted({*found, baseline})))
    axes.set(xlim=(-0.03, 1.03), xlabel=f"P(better than {figures.text(baseline)})")
    return figure


def profile_figure(
    thresholds: np.ndarray,
    found: Mapping[str, tuple[np.ndarray, np.ndarray | None, np.ndarray | None]],
) -> "Figure":
    """Performance profiles: which share of the runs is above a return.

    Args:
        thresholds: Normalised returns, ``[n]``.
        found: By rule, from `statistics.performance_profile`.

    Returns:
        The figure; a higher line is better.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        ValueError: If there is nothing to draw.

    Example:
        >>> shares = np.array([1.0, 0.5])
        >>> figure = profile_figure(
        ...     np.array([0.0, 1.0]), {"adam": (shares, None, None)}
        ... )
        >>> figure.axes[0].get_xlabel()
        'normalised return'
    """
    if not found:
        raise ValueError("found is empty, so there is nothing to draw")
    figure = figures.new_figure(7, 4.5)
    axes = figure.add_subplot()
    styles = figures.styles(sorted(found))
    for rule, (shares, low, high) in found.items():
        style = _line(styles, rule)
        axes.plot(thresholds, shares, label=figures.text(rule), **style)
        if low is not None and high is not None:
            axes.fill_between(
                thresholds, low, high, color=style["color"], alpha=0.12, lw=0
            )
    axes.set(
        xlabel="normalised return",
        ylabel="share of runs above it",
        ylim=(-0.03, 1.03),
    )
    _plain_axes(axes)
    _legend(figure, styles)
    return figure


def generalisation_figure(
    found: Mapping[str, Mapping[str, Mapping[Any, Estimate]]], axis: str
) -> "Figure":
    """Final returns over what was varied: a panel per environment, a line per rule.

    Args:
        found: Estimates by environment, rule and value of the axis. Numbers are spaced
            as numbers, on a log scale if they span a factor of ten; other values
            evenly, in the order of `report_data.in_order`.
        axis: What was varied, such as ``"hidden"``.

    Returns:
        The figure.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        ValueError: If there is nothing to draw.

    References:
        Goldie et al., "Can Learned Optimization Make RL Less Difficult?", 2024,
        figures 4 and 16.

    Example:
        >>> found = {"ant": {"adam": {16: Estimate(1.0, None, None, 1)}}}
        >>> generalisation_figure(found, "hidden").axes[0].get_title()
        'ant'
    """
    if not found:
        raise ValueError("found is empty, so there is nothing to draw")
    figure, panels = _panels(list(found))
    styles = figures.styles(
        sorted({rule for group in found.values() for rule in group})
    )
    for panel, (name, group) in zip(panels, found.items(), strict=True):
        _draw_along(panel, group, styles)
        panel.set(title=figures.text(name), xlabel=figures.text(axis))
    panels[0].set_ylabel("final return")
    _legend(figure, styles)
    return figure


def _draw_along(
    axes: "Axes",
    group: Mapping[str, Mapping[Any, Estimate]],
    styles: Mapping[str, dict[str, Any]],
) -> None:
    values = in_order({value for along in group.values() for value in along})
    numeric = all(isinstance(v, int | float) for v in values)
    places = dict(zip(values, values if numeric else range(len(values)), strict=True))
    for rule, along in group.items():
        shown = [value for value in values if value in along]
        x = [places[value] for value in shown]
        y = [along[value].value for value in shown]
        axes.plot(x, y, **styles[rule])
        _draw_band(axes, x, [along[v] for v in shown], styles[rule]["color"])
    if numeric and values[0] > 0 and values[-1] >= 10 * values[0]:
        axes.set_xscale("log")
    labels = [figures.text(f"{v}", 20) for v in places]
    slant = {"rotation": 30, "ha": "right"} if max(map(len, labels)) > 8 else {}
    axes.set_xticks([*places.values()], labels, **slant)
    axes.minorticks_off()


def _draw_curves(
    axes: "Axes", group: Sequence[Row], floor: float, style: dict[str, Any]
) -> None:
    """The mean over seeds and, from five on, a band."""
    curves = [row["curve"] for row in group]
    shares, values = curve_matrix(curves, floor, _MAX_POINTS)
    steps = shares * group[0]["total_timesteps"]
    axes.plot(steps, values.mean(axis=0), **style)
    if len(values) >= statistics.MIN_SEEDS:
        low, high = statistics.bootstrap_band(values)
        axes.fill_between(steps, low, high, color=style["color"], alpha=0.15, lw=0)


def _draw_band(
    axes: "Axes", x: Sequence[float], estimates: Sequence[Estimate], colour: str
) -> None:
    low = [math.nan if e.low is None else e.low for e in estimates]
    high = [math.nan if e.high is None else e.high for e in estimates]
    axes.fill_between(x, low, high, color=colour, alpha=0.12, lw=0)


def _draw_intervals(
    axes: "Axes",
    estimates: Mapping[str, Estimate | None],
    styles: Mapping[str, dict[str, Any]],
) -> None:
    """A mark per rule, on a bar where there is an interval; the first one on top."""
    for height, (rule, found) in enumerate(estimates.items()):
        if found is None:
            continue
        if found.low is not None and found.high is not None:
            width = found.high - found.low
            colour = styles[rule]["color"]
            axes.barh(height, width, 0.6, found.low, color=colour, alpha=0.35)
        axes.plot(found.value, height, "|", color="black", ms=14, mew=2)
    axes.set_yticks(range(len(estimates)), [figures.text(rule) for rule in estimates])
    axes.set_ylim(len(estimates) - 0.4, -0.6)
    _plain_axes(axes)


def _panels(names: Sequence[str]) -> tuple["Figure", list["Axes"]]:
    """A grid of panels, three in a line."""
    columns = min(3, len(names))
    lines = math.ceil(len(names) / columns)
    one = len(names) == 1
    size = (7, 4.5) if one else (0.6 + 3.6 * columns, 0.7 + 2.8 * lines)
    figure = figures.new_figure(*size)
    panels = [figure.add_subplot(lines, columns, i + 1) for i in range(len(names))]
    for axes in panels:
        _plain_axes(axes)
    return figure, panels


def _line(styles: Mapping[str, dict[str, Any]], rule: str) -> dict[str, Any]:
    """A line of many points, which markers would hide."""
    style = styles[rule]
    return {"color": style["color"], "linestyle": style["linestyle"], "lw": 1.5}


def _legend(figure: "Figure", styles: Mapping[str, dict[str, Any]]) -> None:
    from matplotlib.lines import Line2D

    handles = [
        Line2D([], [], label=figures.text(rule), **_line(styles, rule))
        for rule in styles
    ]
    columns = _columns(figure, max(map(len, styles)))
    # The legend gets room of its own; the panels stay as high as they were.
    height = figure.get_figheight() + 0.22 * (math.ceil(len(handles) / columns) - 1)
    figure.set_figheight(height)
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=columns,
        fontsize="small",
        frameon=False,
    )


def _columns(figure: "Figure", longest: int) -> int:
    """How many columns of such names fit: a letter takes about 0.07 inches."""
    entry = 0.7 + 0.07 * min(longest, 40)
    return max(1, min(4, int(figure.get_figwidth() / entry)))


def _plain_axes(axes: "Axes") -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(color="0.92", lw=0.8)
    axes.set_axisbelow(True)
