"""Update rules as pictures: the step over gradient and momentum."""

import pathlib
from typing import TYPE_CHECKING, Any

import numpy as np

from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.evaluation.pictures.probe import Fit as Fit
from learned_opt_rl.evaluation.pictures.probe import Surfaces as Surfaces
from learned_opt_rl.evaluation.pictures.probe import fits as fits
from learned_opt_rl.evaluation.pictures.probe import probe as probe
from learned_opt_rl.evaluation.runs.rules import OptimizerFactory

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def plot_update(
    tx_factory: OptimizerFactory,
    path: str | pathlib.Path,
    *,
    dpi: int = 150,
    **options: Any,
) -> None:
    """Draws an optimiser's update surfaces as a PNG.

    Args:
        tx_factory: ``key -> optimiser``, such as ``optimizers.resolve`` returns; any
            optax transformation will do.
        path: The file to write.
        dpi: Pixels per inch.
        **options: As for `probe`: ``training_proportions``, ``dormancies``, ``scale``,
            ``size``, ``seeds``.

    Raises:
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> import optax, pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     plot_update(
        ...         lambda key: optax.adam(1e-3), pathlib.Path(folder) / "adam.png"
        ...     )
    """
    figure = figures.new_figure(1, 1)  # says what is missing before the work
    draw_surfaces(figure, probe(tx_factory, **options))
    figures.save(figure, path, dpi)


def draw_surfaces(figure: "Figure", surfaces: Surfaces) -> None:
    """Draws surfaces into an empty figure: a row per dormancy, a column per t_p.

    Colours are scaled panel by panel; the title has the largest update. Below it
    stand the handcrafted updates nearest to the surface, each alone: the factor (minus
    a learning rate) and how much of the surface it explains.

    Args:
        figure: A matplotlib figure.
        surfaces: From `probe`.

    Example:
        >>> import optax
        >>> from matplotlib.figure import Figure
        >>> figure = Figure()
        >>> draw_surfaces(figure, probe(lambda key: optax.sgd(0.1), size=5))
        >>> len(figure.axes)
        9
    """
    rows, columns = len(surfaces.dormancies), len(surfaces.training_proportions)
    figure.set_size_inches(0.4 + 3.1 * columns, 0.4 + 3.3 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for (row, column), axes in np.ndenumerate(panels):
        update = surfaces.updates[column, row]
        largest = float(np.abs(update).max())
        g, m = surfaces.gradients, surfaces.momenta
        limit = largest or 1.0  # no update is white, not the end of the scale
        axes.imshow(
            update,
            origin="lower",
            extent=(g[0], g[-1], m[0], m[-1]),
            aspect="auto",
            cmap="RdBu_r",
            vmin=-limit,
            vmax=limit,
        )
        t_p = surfaces.training_proportions[column]
        dormancy = surfaces.dormancies[row]
        heading = f"t_p = {t_p:g}, dormancy = {dormancy:g}, max |Δ| = {largest:.1e}"
        lines = [heading, *(_line(fit) for fit in fits(surfaces, update))]
        axes.set_title("\n".join(lines), fontsize="x-small")
        axes.ticklabel_format(scilimits=(-2, 2))
    for axes in panels[-1]:
        axes.set_xlabel("gradient g")
    for axes in panels[:, 0]:
        axes.set_ylabel("momentum m (0.9) before")


def _line(fit: Fit) -> str:
    if np.isnan(fit.r_squared):
        return f"{fit.name}: no update"
    return f"{fit.coefficient:+.2e} · {fit.name}, R² = {fit.r_squared:.2f}"
