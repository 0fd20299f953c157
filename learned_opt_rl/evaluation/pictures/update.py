"""Figures of optimizers: the update of one parameter over gradient and momentum."""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.evaluation.runs.rules import OptimizerFactory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Updates before the one shown: a momentum of decay 0.9 has then reached 96 % of a
# constant gradient.
_HISTORY = 30
# Not 0, where updates relative to the parameter would vanish.
_PARAMETER = 0.1
_ADAM_EPSILON = 1e-8  # optax's default


@dataclasses.dataclass(frozen=True)
class Surfaces:
    """Updates over a grid of gradients and momenta.

    Attributes:
        gradients: ``[n]``, gradients of the last step.
        momenta: ``[n]``, momenta of decay 0.9 just before that step, after a history
            of one constant gradient.
        training_proportions: ``[T]``.
        dormancies: ``[D]``.
        updates: ``[T, D, n, n]``, momentum by gradient, as ``tx.update`` returns them.
    """

    gradients: np.ndarray
    momenta: np.ndarray
    training_proportions: np.ndarray
    dormancies: np.ndarray
    updates: np.ndarray


@dataclasses.dataclass(frozen=True)
class Fit:
    """The closest multiple of a handcrafted update.

    Attributes:
        name: ``"sign(m)"``, ``"m/sqrt(v)"`` or ``"g"``.
        coefficient: Least-squares factor; minus a learning rate where it descends.
        r_squared: Share of the squared update that it explains; NaN without update.
    """

    name: str
    coefficient: float
    r_squared: float


def probe(
    tx_factory: OptimizerFactory,
    *,
    training_proportions: Sequence[float] = (0.0, 0.5, 1.0),
    dormancies: Sequence[float] = (0.0, 1.0, 4.0),
    scale: float = 1e-2,
    size: int = 31,
    seeds: int = 16,
) -> Surfaces:
    """Measure updates as a black box: init, a history of gradients, one more step.

    The optimizer gets an actor with one kernel, whose entries are all 0.1. Each row has
    its own constant gradient for 30 steps; each column has its own gradient in the last
    step. Rules that normalize by tensor or subtract a mean do so over this grid.

    Args:
        tx_factory: ``key -> optimizer``.
        training_proportions: Passed to ``update`` as ``training_proportion``.
        dormancies: Passed as ``dormancy``.
        scale: Largest gradient and momentum; both range from minus to plus this.
        size: Points along each axis.
        seeds: Number of keys to average over, to reduce exploration noise.
    """
    axis = np.linspace(-scale, scale, size).astype(np.float32)
    # The constant gradients whose momentum after the history is on the axis.
    history = jnp.tile((axis / (1 - 0.9**_HISTORY))[:, None], (1, size))
    last = jnp.tile(axis[None], (size, 1))

    def update(key: jax.Array, t_p: jax.Array, dormancy: jax.Array) -> jax.Array:
        tx = optax.with_extra_args_support(tx_factory(key))
        params = _actor(jnp.full((size, size), _PARAMETER))
        extra: dict[str, Any] = {
            "training_proportion": t_p,
            "batch_proportion": jnp.float32(0),
            "dormancy": {"actor": {"Dense_0": dormancy}},
        }

        def step(state: optax.OptState, _: None) -> tuple[optax.OptState, None]:
            return tx.update(_actor(history), state, params, **extra)[1], None

        state, _ = jax.lax.scan(step, tx.init(params), length=_HISTORY)
        updates: Any = tx.update(_actor(last), state, params, **extra)[0]
        return updates["actor"]["Dense_0"]["kernel"]

    points = np.meshgrid(training_proportions, dormancies, indexing="ij")
    flat = [jnp.asarray(x, jnp.float32).ravel() for x in points]
    keys = jax.random.split(jax.random.key(0), seeds)

    def mean(point: tuple[jax.Array, jax.Array]) -> jax.Array:
        return jax.vmap(lambda key: update(key, *point))(keys).mean(0)

    found = jax.jit(lambda points: jax.lax.map(mean, points))((flat[0], flat[1]))
    return Surfaces(
        gradients=axis,
        momenta=axis,
        training_proportions=np.asarray(training_proportions, float),
        dormancies=np.asarray(dormancies, float),
        updates=np.asarray(found).reshape(*points[0].shape, size, size),
    )


def fits(surfaces: Surfaces, update: np.ndarray) -> list[Fit]:
    """Fit multiples of sign-momentum, Adam and SGD to an update by least squares.

    Adam has decays 0.9 and 0.999 and is bias-corrected. Each fit is separate.

    Args:
        surfaces: From `probe`.
        update: One ``[n, n]`` surface.
    """
    m, g = np.meshgrid(surfaces.momenta, surfaces.gradients, indexing="ij")
    m, g = m.astype(float), g.astype(float)
    constant = m / (1 - 0.9**_HISTORY)  # the gradient of the history
    steps = _HISTORY + 1
    momentum = 0.9 * m + 0.1 * g
    second = 0.999 * (1 - 0.999**_HISTORY) * constant**2 + 0.001 * g**2
    root = np.sqrt(second / (1 - 0.999**steps)) + _ADAM_EPSILON
    # Rounding leaves momenta that should be 0 with a sign.
    regressors = {
        "sign(m)": np.sign(np.where(np.abs(momentum) < 1e-6 * np.ptp(m), 0, momentum)),
        "m/sqrt(v)": momentum / (1 - 0.9**steps) / root,
        "g": g,
    }
    return [_fit(name, x, update) for name, x in regressors.items()]


def _fit(name: str, x: np.ndarray, update: np.ndarray) -> Fit:
    y = update.astype(float)
    coefficient = float((x * y).sum() / (x * x).sum())
    total = float((y * y).sum())
    left = float(np.square(y - coefficient * x).sum())
    return Fit(name, coefficient, 1 - left / total if total else float("nan"))


def _actor(kernel: jax.Array) -> dict[str, Any]:
    return {"actor": {"Dense_0": {"kernel": kernel}}}


def update_figure(tx_factory: OptimizerFactory, **options: Any) -> "Figure":
    """Draw the updates of an optimizer over gradient and momentum.

    There is a row per dormancy and a column per training proportion. Colors are scaled
    for each panel; the title has the largest update. Below it are the closest multiples
    of three handcrafted updates: the factor (minus a learning rate) and the share of
    the update that it explains.

    Args:
        tx_factory: ``key -> optimizer``; any optax transformation works.
        **options: As for `probe`.

    Raises:
        MissingExtraError: If matplotlib is not installed.

    Example:
        >>> import optax
        >>> len(update_figure(lambda key: optax.sgd(0.1), size=5).axes)
        9
    """
    figure = figures.new_figure(1, 1)  # reports a missing package before the work
    surfaces = probe(tx_factory, **options)
    rows, columns = len(surfaces.dormancies), len(surfaces.training_proportions)
    figure.set_size_inches(0.4 + 3.1 * columns, 0.4 + 3.3 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for (row, column), axes in np.ndenumerate(panels):
        update = surfaces.updates[column, row]
        largest = float(np.abs(update).max())
        g, m = surfaces.gradients, surfaces.momenta
        limit = largest or 1.0  # without updates, a panel is white
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
    return figure


def _line(fit: Fit) -> str:
    if np.isnan(fit.r_squared):
        return f"{fit.name}: no update"
    return f"{fit.coefficient:+.2e} · {fit.name}, R² = {fit.r_squared:.2f}"
