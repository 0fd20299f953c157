"""Figures of artifacts: the updates of an optimizer, or drifts next to PPO's."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl import artifacts
from learned_opt_rl.artifacts import Artifact
from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.evaluation.runs.rules import OptimizerFactory
from learned_opt_rl.rules import drifts, trained_horizon
from learned_opt_rl.rules.drifts import Drift
from learned_opt_rl.rules.losses import policy_loss_terms

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Updates before the one shown: a momentum of decay 0.9 has then reached 96 % of a
# constant gradient.
_HISTORY = 30
# Not 0, where updates relative to the parameter would vanish.
_PARAMETER = 0.1
_ADAM_EPSILON = 1e-8  # optax's default
# Half-widths of the maps, as in the figures of Goldie et al. 2025, supplement G.
_LOG_RATIO, _ADVANTAGE = 1.0, 4.0
# Odd, so that the middle of a map is exactly log r = 0 and A = 0.
_POINTS = 201


def plot_artifacts(
    shown: Sequence[Artifact],
    path: str | pathlib.Path,
    *,
    dpi: int = 150,
    **options: Any,
) -> None:
    """Write a PNG of one optimizer, or of any number of drifts.

    An optimizer is drawn by `update_figure`, at its default learning rate if it has
    one; it takes the options. Drifts are drawn by `drift_figure`, after PPO's.
    """
    figures.save(_figure(shown, options), path, dpi)


def _figure(shown: Sequence[Artifact], options: dict[str, Any]) -> "Figure":
    kinds = [artifact.card.kind for artifact in shown]
    if kinds == ["optimizer"]:
        return update_figure(optimizer_factory(shown[0]), **options)
    if set(kinds) == {"drift"}:
        return drift_figure(beside_ppo(shown), **options)
    raise ValueError(f"shown has the kinds {kinds}; pass one optimizer, or drifts only")


def optimizer_factory(artifact: Artifact) -> OptimizerFactory:
    """Return a loaded optimizer as ``key -> optimizer``, for `update_figure`."""
    rule = artifacts.rule_module(artifact.card.algorithm)
    horizon = trained_horizon(artifact.card)
    return lambda key: rule.from_artifact(artifact, horizon=horizon, key=key)


def beside_ppo(shown: Iterable[Artifact]) -> dict[str, Drift]:
    """Return loaded drifts by name, after PPO's as the reference."""
    found: dict[str, Drift] = {"PPO": drifts.ppo()}
    for artifact in shown:
        rule = artifacts.rule_module(artifact.card.algorithm)
        found[artifact.card.name] = rule.from_artifact(artifact)
    return found


@dataclasses.dataclass(frozen=True)
class Surfaces:
    """Updates over a grid of gradients and momenta."""

    # [n]: the gradients of the last step, and the momenta of decay 0.9 just before that
    # step, after a history of one constant gradient
    axis: np.ndarray
    training_proportions: np.ndarray  # [T]
    dormancies: np.ndarray  # [D]
    updates: np.ndarray  # [T, D, n, n], momentum by gradient, as tx.update returns them


@dataclasses.dataclass(frozen=True)
class Fit:
    """The closest multiple of a handcrafted update."""

    name: str  # "sign(m)", "m/sqrt(v)" or "g"
    coefficient: float  # least-squares factor; minus a learning rate where it descends
    r_squared: float  # share of the squared update that it explains; NaN if none


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
    step. Both axes have ``size`` points from minus to plus ``scale``. Rules that
    normalize by tensor or subtract a mean do so over this grid. The mean over ``seeds``
    keys reduces exploration noise.
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
        axis=axis,
        training_proportions=np.asarray(training_proportions, float),
        dormancies=np.asarray(dormancies, float),
        updates=np.asarray(found).reshape(*points[0].shape, size, size),
    )


def fits(surfaces: Surfaces, update: np.ndarray) -> list[Fit]:
    """Fit multiples of sign-momentum, Adam and SGD to one ``[n, n]`` surface.

    Adam has decays 0.9 and 0.999 and is bias-corrected. Each is a separate
    least-squares fit.
    """
    axis = surfaces.axis.astype(float)
    m, g = np.meshgrid(axis, axis, indexing="ij")
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


@figures.plain_style()
def update_figure(tx_factory: OptimizerFactory, **options: Any) -> "Figure":
    """Draw the updates of an optimizer over gradient and momentum.

    There is a row per dormancy and a column per training proportion. Colors are scaled
    for each panel; the title has the largest update. Below it are the closest multiples
    of three handcrafted updates: the factor (minus a learning rate) and the share of
    the update that it explains. The options are those of `probe`.
    """
    figure = figures.new_figure(1, 1)  # reports a missing package before the work
    surfaces = probe(tx_factory, **options)
    rows, columns = len(surfaces.dormancies), len(surfaces.training_proportions)
    figure.set_size_inches(0.4 + 3.1 * columns, 0.4 + 3.3 * rows)
    panels = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
    for (row, column), axes in np.ndenumerate(panels):
        update = surfaces.updates[column, row]
        largest = float(np.abs(update).max())
        ends = (surfaces.axis[0], surfaces.axis[-1])
        limit = largest or 1.0  # without updates, a panel is white
        axes.imshow(
            update,
            origin="lower",
            extent=(*ends, *ends),
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


@figures.plain_style()
def drift_figure(shown: Mapping[str, Drift]) -> "Figure":
    """Draw one column per drift: the slope of its loss, and where the drift acts.

    The rows are: dL/dr over r for A = +1 and A = -1, where a dotted line is the loss
    without drift; the drift over (log r, A); and dL/dr over (log r, A). L is the
    policy loss of one sample, so descent increases r where dL/dr is negative. Colors
    end at 4 everywhere, so that figures can be compared.

    References:
        Goldie et al. 2025, "How Should We Meta-Learn Reinforcement Learning
        Algorithms?", supplement G.
    """
    if not shown:
        raise ValueError("drifts is empty; pass at least one, by name")
    figure = figures.new_figure(0.8 + 2.8 * len(shown), 8)
    rows = figure.subplots(3, len(shown), squeeze=False, sharex="row", sharey="row")
    for axes, (name, drift) in zip(rows[0], shown.items(), strict=True):
        _draw_slopes(axes, name, drift)
    rows[0, 0].set_ylabel("dL/dr")
    rows[0, 0].legend(frameon=False)
    heights, slopes = zip(*map(_maps, shown.values()), strict=True)
    _draw_maps(rows[1], heights, "magma", lowest=0)
    _draw_maps(rows[2], slopes, "RdBu_r", lowest=-_ADVANTAGE)
    _add_bar(rows[1], "drift")
    _add_bar(rows[2], "dL/dr")
    return figure


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
    row: Sequence[Any], maps: Sequence[np.ndarray], colors: str, lowest: float
) -> None:
    for axes, values in zip(row, maps, strict=True):
        axes.imshow(
            values,
            origin="lower",
            extent=(-_LOG_RATIO, _LOG_RATIO, -_ADVANTAGE, _ADVANTAGE),
            aspect="auto",
            cmap=colors,
            vmin=lowest,
            vmax=_ADVANTAGE,
        )
        axes.set(xlabel="log r")
    row[0].set_ylabel("advantage A")


def _add_bar(row: Any, label: str) -> None:
    """Explain the colors of a row of maps, which are the same in each."""
    (image,) = row[0].images
    row[0].figure.colorbar(image, ax=list(row), label=label, extend="both", aspect=30)


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
