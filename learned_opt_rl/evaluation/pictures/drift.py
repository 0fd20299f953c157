"""Figures of drifts, side by side."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.rules.drifts import Drift
from learned_opt_rl.rules.losses import policy_loss_terms

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Half-widths of the maps, as in the figures of Goldie et al. 2025, supplement G.
_LOG_RATIO, _ADVANTAGE = 1.0, 4.0
# Odd, so that the middle of a map is exactly log r = 0 and A = 0.
_POINTS = 201


def drift_figure(drifts: Mapping[str, Drift]) -> "Figure":
    """Draw one column per drift: the slope of its loss, and where the drift acts.

    The rows are: dL/dr over r for A = +1 and A = -1, where a dotted line is the loss
    without drift; the drift over (log r, A); and dL/dr over (log r, A). L is the
    policy loss of one sample, so descent increases r where dL/dr is negative. Colors
    end at 4 everywhere, so that figures can be compared.

    Args:
        drifts: Drifts by the name to show.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        ValueError: If there are no drifts.

    References:
        Goldie et al. 2025, "How Should We Meta-Learn Reinforcement Learning
        Algorithms?", supplement G.

    Example:
        >>> from learned_opt_rl.rules import drifts
        >>> len(drift_figure({"PPO": drifts.ppo()}).axes)
        5
    """
    _require_some(drifts)
    figure = figures.new_figure(0.8 + 2.8 * len(drifts), 8)
    rows = figure.subplots(3, len(drifts), squeeze=False, sharex="row", sharey="row")
    for axes, (name, drift) in zip(rows[0], drifts.items(), strict=True):
        _draw_slopes(axes, name, drift)
    rows[0, 0].set_ylabel("dL/dr")
    rows[0, 0].legend(frameon=False)
    heights, slopes = zip(*map(_maps, drifts.values()), strict=True)
    _draw_maps(rows[1], heights, "magma", (0, _ADVANTAGE))
    _draw_maps(rows[2], slopes, "RdBu_r", (-_ADVANTAGE, _ADVANTAGE))
    _add_bar(rows[1, 0], list(rows[1]), "drift")
    _add_bar(rows[2, 0], list(rows[2]), "dL/dr")
    return figure


def gallery_figure(drifts: Mapping[str, Drift], *, columns: int = 4) -> "Figure":
    """Draw many drifts on one page: dL/dr over r, below it dL/dr over (log r, A).

    Args:
        drifts: Drifts by the name to show.
        columns: Drifts per line, at least 1.

    Raises:
        MissingExtraError: If matplotlib is not installed.
        ValueError: If there are no drifts, or no columns.

    Example:
        >>> from learned_opt_rl.rules import drifts
        >>> shown = {"PPO": drifts.ppo(), "DPO": drifts.dpo()}
        >>> len(gallery_figure(shown, columns=1).axes)
        5
    """
    _require_some(drifts)
    if columns < 1:
        raise ValueError(f"columns={columns} must be at least 1")
    shown = list(drifts.items())
    lines = [shown[i : i + columns] for i in range(0, len(shown), columns)]
    figure = figures.new_figure(0.8 + 2.8 * columns, 4.8 * len(lines))
    panels = figure.subplots(2 * len(lines), columns, squeeze=False)
    for above, below, line in zip(panels[::2], panels[1::2], lines, strict=True):
        for axes, (name, drift) in zip(above, line, strict=False):
            _draw_slopes(axes, name, drift)
        above[0].set_ylabel("dL/dr")
        slopes = [_maps(drift)[1] for _, drift in line]
        _draw_maps(below[: len(line)], slopes, "RdBu_r", (-_ADVANTAGE, _ADVANTAGE))
        for axes in (*above[len(line) :], *below[len(line) :]):
            axes.remove()
    _add_bar(panels[1, 0], list(panels[1, : len(lines[0])]), "dL/dr")
    panels[0, 0].legend(frameon=False)
    return figure


def _require_some(drifts: Mapping[str, Drift]) -> None:
    if not drifts:
        raise ValueError("drifts is empty; pass at least one, by name")


def _draw_slopes(axes: Any, name: str, drift: Drift) -> None:
    # From above 0, where log r is infinite and drifts that use it are not defined.
    ratios = np.linspace(0.02, 2, 2 * _POINTS, dtype=np.float32)
    for advantage, color in ((1.0, "C0"), (-1.0, "C3")):
        _, slopes = _loss_slopes(drift, ratios, np.full_like(ratios, advantage))
        axes.plot(ratios, slopes, color=color, label=f"A = {advantage:+.0f}")
        axes.axhline(-advantage, color=color, lw=0.8, ls=":")
    axes.axvline(1, color="0.8", lw=0.8, zorder=0)
    axes.set(xlabel="ratio r", ylim=(-2.5, 2.5))
    # Names of artifacts are wider than a panel.
    axes.set_title(name.replace("/", "/\n"), fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)


def _draw_maps(
    row: Sequence[Any],
    maps: Sequence[np.ndarray],
    colors: str,
    limits: tuple[float, float],
) -> None:
    for axes, values in zip(row, maps, strict=True):
        axes.imshow(
            values,
            origin="lower",
            extent=(-_LOG_RATIO, _LOG_RATIO, -_ADVANTAGE, _ADVANTAGE),
            aspect="auto",
            cmap=colors,
            vmin=limits[0],
            vmax=limits[1],
        )
        axes.set(xlabel="log r")
    row[0].set_ylabel("advantage A")


def _add_bar(explained: Any, beside: Sequence[Any], label: str) -> None:
    (image,) = explained.images
    explained.figure.colorbar(image, ax=beside, label=label, extend="both", aspect=30)


def _maps(drift: Drift) -> tuple[np.ndarray, np.ndarray]:
    """Return the drift and dL/dr, ``[advantage, log ratio]``."""
    ratios = np.exp(np.linspace(-_LOG_RATIO, _LOG_RATIO, _POINTS, dtype=np.float32))
    advantages = np.linspace(-_ADVANTAGE, _ADVANTAGE, _POINTS, dtype=np.float32)
    return _loss_slopes(drift, *np.meshgrid(ratios, advantages))


def _loss_slopes(
    drift: Drift, ratio: np.ndarray, advantage: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the drift, and the slope of each sample's loss by its own ratio."""

    def total(ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        return policy_loss_terms(ratio, advantage, drift).sum()

    points = jnp.asarray(ratio), jnp.asarray(advantage)
    return np.asarray(drift(*points)), np.asarray(jax.grad(total)(*points))
