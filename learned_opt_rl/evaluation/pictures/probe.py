"""What an optimiser does to one parameter, found by asking it."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl.evaluation.runs.rules import OptimizerFactory

_HISTORY = 30  # steps before the one looked at
_PARAMETER = 0.1
_ADAM_EPSILON = 1e-8


@dataclasses.dataclass(frozen=True)
class Surfaces:
    """Updates over a grid of gradients and momenta.

    Attributes:
        gradients: ``[n]``, of the step looked at.
        momenta: ``[n]``, the momentum with decay 0.9 just before that step, left by
            a history of one constant gradient.
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
    """A handcrafted update to which the one looked at comes nearest.

    Attributes:
        name: ``"sign(m)"``, ``"m/sqrt(v)"`` or ``"g"``.
        coefficient: Least-squares factor; minus a learning rate where it descends.
        r_squared: Share of the update's square that it explains; NaN without update.
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

    The optimiser sees an actor of one kernel, all of whose entries are 0.1; each row
    has had its own constant gradient for 30 steps, each column gets its own gradient
    in the last. Rules that normalise by tensor or remove a mean do so over this grid.

    Args:
        tx_factory: ``key -> optimiser``.
        training_proportions: Passed to ``update`` as ``training_proportion``.
        dormancies: Passed as ``dormancy``.
        scale: Largest gradient and momentum; both go from minus to plus it.
        size: Points along each axis.
        seeds: Keys to average over, so that exploration noise fades.

    Returns:
        The updates.
    """
    axis = np.linspace(-scale, scale, size).astype(np.float32)
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
    """Least-squares fits, one by one and through the origin, of handcrafted updates.

    Args:
        surfaces: From `probe`.
        update: One ``[n, n]`` surface of it.

    Returns:
        Of sign-momentum, Adam (decays 0.9 and 0.999, bias-corrected) and SGD.
    """
    m, g = np.meshgrid(surfaces.momenta, surfaces.gradients, indexing="ij")
    m, g = m.astype(float), g.astype(float)
    constant = m / (1 - 0.9**_HISTORY)  # the gradient of the history
    steps = _HISTORY + 1
    momentum = 0.9 * m + 0.1 * g
    second = 0.999 * (1 - 0.999**_HISTORY) * constant**2 + 0.001 * g**2
    root = np.sqrt(second / (1 - 0.999**steps)) + _ADAM_EPSILON
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
