"""The learning curve of a meta-training."""

import pathlib
from collections.abc import Sequence

import numpy as np

from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.rundir.jsonl import Record


@figures.plain_style()
def draw_curve(rows: Sequence[Record], path: str | pathlib.Path) -> None:
    """Draw returns, entropies and resets over meta-steps, as a PNG or SVG file.

    The upper plot has the return of finished lifetimes over their levels' optimal
    return: of each row, and of the last 200 lifetimes. The lower one has the entropies
    of policies and predictions. Crosses mark rows with resets.

    Raises:
        ValueError: The log has no rows.
        MissingExtraError: matplotlib is not installed.
    """
    if not rows:
        raise ValueError("the log holds no meta-step yet; there is nothing to draw")
    figure = figures.new_figure(9, 6)
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[2, 1])
    steps = [row["step"] for row in rows]

    def numbers(name: str) -> np.ndarray:
        return np.array([row[name] for row in rows], float)

    with np.errstate(all="ignore"):
        share = numbers("return") / numbers("optimal")
    upper.plot(steps, share, color="0.75", label="lifetimes finished in a row")
    recent = numbers("recent_share")
    upper.plot(steps, recent, color="#0072b2", label="last 200 lifetimes")
    reset = [row["step"] for row in rows if any(row["resets"].values())]
    upper.plot(reset, [0] * len(reset), "x", color="#d55e00", label="resets")
    upper.set(ylabel="return over optimal return")
    for name, color in (("policy_entropy", "0.2"), ("target_entropy", "#009e73")):
        words = name.replace("_", " ")
        lower.plot(steps, numbers(name), color=color, label=words)
    lower.set(xlabel="meta-step", ylabel="nats")
    for axes in (upper, lower):
        axes.legend(frameon=False, loc="best")
        axes.spines[["top", "right"]].set_visible(False)
    figures.save(figure, path)
