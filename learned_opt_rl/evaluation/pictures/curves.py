"""Learning curves as pictures."""

import pathlib
from collections.abc import Iterable

import numpy as np

from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.evaluation.report.tables import bootstrap_interval
from learned_opt_rl.rundir.jsonl import Row, grouped


def curves(rows: Iterable[Row], path: str | pathlib.Path) -> None:
    """Draws the learning curves of rules on one environment as a PNG (or SVG).

    Each rule is a line, the mean over its seeds, in a band that is the 95% bootstrap
    interval of that mean; there is none where a seed has no return, as before its
    first episode ends.

    Args:
        rows: From `runs.run` or `results.read`, of one environment.
        path: The file to write.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        ValueError: If there are no rows, or they are of several environments.

    Example:
        >>> import pathlib, tempfile
        >>> row = {
        ...     "rule": "adam",
        ...     "environment": "Catch-bsuite",
        ...     "curve": [0.0, 1.0],
        ...     "total_timesteps": 20_000,
        ... }
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     curves([row], pathlib.Path(folder) / "curves.png")
    """
    figure = figures.new_figure(7, 4.5)
    groups = grouped(rows)
    environments = {environment for _, environment in groups}
    if len(environments) != 1:
        raise ValueError(
            f"rows must be of one environment, got {sorted(environments) or 'none'}; "
            "draw one picture for each"
        )
    axes = figure.add_subplot()
    for (rule, _), group in groups.items():
        curve = np.array([row["curve"] for row in group], float)
        share = np.arange(1, curve.shape[1] + 1) / curve.shape[1]
        steps = share * group[0]["total_timesteps"]
        (line,) = axes.plot(steps, curve.mean(axis=0), label=rule)
        if len(group) > 1:
            band = np.array([bootstrap_interval(x, resamples=1000) for x in curve.T])
            axes.fill_between(
                steps, band[:, 0], band[:, 1], color=line.get_color(), alpha=0.2, lw=0
            )
    axes.set(
        title=environments.pop(),
        xlabel="environment steps",
        ylabel="return (last finished episodes)",
    )
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    figures.save(figure, path)
