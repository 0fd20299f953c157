"""What optimisers see, made up: sequences of tensors to imitate a teacher on.

``paper``: everything is drawn anew for each entry and step. ``scaled``: each tensor
has a gradient scale of its own, over seven decades, and its share of dead entries: on
MinAtar most input pixels are dark, so whole rows of the first kernel have gradient 0,
and a student that never saw this answers it with noise. ``correlated``: so it is here,
and gradients are besides a drift and noise, momenta what they become by their own
recursion, and proportions, parameters and dormancies those of one run.

References:
    Goldie et al. 2025, "How Should We Meta-Learn RL Algorithms?", appendix A.3, for
    ``paper``; the others are ours.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.features import DECAYS, update_momenta

_DECADES = (-7.0, 0.0)  # range of gradient scales, log10
_LONGEST = 4.6  # of a run in updates, log10: 1e7 environment steps of MinAtar's PPO
_EPOCHS, _MINIBATCHES = 4, 8


class Tensors(NamedTuple):
    """Optimiser inputs over ``K`` steps, ``t`` tensors of ``n`` entries, float32.

    Attributes:
        parameter: ``[K, t, n]``.
        gradient: ``[K, t, n]``; exactly 0 for dead entries.
        momenta: ``[K, t, 6, n]``, after the step's update; decays as
            ``features.DECAYS``.
        dormancy: ``[K, t, n]``, at least 0.
        noise: ``[K, t, n]``, the standard normal ``rand`` that rules explore by.
        training_proportion: ``[K, t]``, in [0, 1], like the next two.
        layer_proportion: ``[K, t]``.
        batch_proportion: ``[K, t]``.
    """

    parameter: jax.Array
    gradient: jax.Array
    momenta: jax.Array
    dormancy: jax.Array
    noise: jax.Array
    training_proportion: jax.Array
    layer_proportion: jax.Array
    batch_proportion: jax.Array


Shape = tuple[int, int, int]
"""``(steps K, tensors t, entries n)``."""


def paper(key: jax.Array, shape: Shape) -> Tensors:
    """Inputs as published, each step independent of the others.

    Args:
        key: jax random key.
        shape: Steps, tensors, entries.

    Returns:
        The inputs.

    Example:
        >>> import jax
        >>> paper(jax.random.key(0), (20, 2, 5)).momenta.shape
        (20, 2, 6, 5)
    """
    keys = jax.random.split(key, 8)
    layers = jax.random.randint(keys[6], shape[:2], 0, 3) / 2
    return Tensors(
        parameter=jax.random.normal(keys[0], shape),
        gradient=0.5 * jax.random.normal(keys[1], shape),
        momenta=0.5 * jax.random.normal(keys[2], (*shape[:2], len(DECAYS), shape[2])),
        dormancy=_dormancy(keys[3], shape),
        noise=jax.random.normal(keys[4], shape),
        training_proportion=jax.random.uniform(keys[5], shape[:2]),
        layer_proportion=layers.astype(jnp.float32),
        batch_proportion=jax.random.uniform(keys[7], shape[:2]),
    )


def scaled(key: jax.Array, shape: Shape) -> Tensors:
    """Inputs whose tensors differ in scale and in how many of their entries are dead.

    Args:
        key: jax random key.
        shape: Steps, tensors, entries.

    Returns:
        The inputs.
    """
    key, alive_key, layer_key = jax.random.split(key, 3)
    alive = 0.5 * _alive(alive_key, shape)
    x = paper(key, shape)
    layers = jax.random.uniform(layer_key, shape[1:2])
    return x._replace(
        gradient=2 * x.gradient * alive,
        momenta=2 * x.momenta * alive[:, None],
        layer_proportion=jnp.tile(layers, (shape[0], 1)),
    )


def correlated(key: jax.Array, shape: Shape) -> Tensors:
    """Inputs as of pieces of runs: half from a first update on, half from later.

    The gradient of an entry is ``sigma * (drift + N(0, 1))``; in some tensors it is
    often 0, as behind a relu. Before the first step momenta have the distribution
    that their recursion gives them after as many updates.

    Args:
        key: jax random key.
        shape: Steps, tensors, entries.

    Returns:
        The inputs.
    """
    steps, tensors, _ = shape
    keys = jax.random.split(key, 12)
    x = paper(keys[0], shape)
    sigma = _alive(keys[1], shape)
    drift = _log_uniform(keys[2], (tensors, 1), -2.0, 0.5)
    drift = drift * jax.random.normal(keys[3], shape[1:])
    shown = jax.random.uniform(keys[4], (tensors, 1), minval=0.1, maxval=2.0)
    shown = jnp.minimum(shown, 1.0)  # half of the tensors always have a gradient
    noise = jax.random.normal(keys[5], shape)
    there = jax.random.uniform(keys[6], shape) < shown
    gradient = jnp.where(there, sigma * (drift + noise), 0.0)

    before = jnp.floor(_log_uniform(keys[7], (tensors,), 0.0, _LONGEST))
    before = before * jax.random.bernoulli(keys[8], 0.5, (tensors,))
    spread = jnp.sqrt(shown + shown * (1 - shown) * drift**2)
    past = _past(keys[9], before, shape) * (sigma * spread)[:, None]
    decays = jnp.array(DECAYS)[None, :, None]
    kept = decays ** before[:, None, None]
    momenta = past + (1 - kept) * (sigma * shown * drift)[:, None]

    def step(momenta: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
        momenta = jax.vmap(update_momenta)(momenta, gradient)
        return momenta, momenta

    updates = before + jnp.arange(steps)[:, None]
    epoch = (updates // _MINIBATCHES) % _EPOCHS
    size = _log_uniform(keys[10], (tensors, 1), -2.0, 0.0)
    share = jax.random.uniform(keys[11], (tensors,))
    return x._replace(
        parameter=jnp.tile(size * x.parameter[0], (steps, 1, 1)),
        gradient=gradient,
        momenta=jax.lax.scan(step, momenta, gradient)[1],
        dormancy=jnp.tile(x.dormancy[0], (steps, 1, 1)),
        training_proportion=jnp.tile(share, (steps, 1)),
        layer_proportion=jnp.tile(x.layer_proportion[0], (steps, 1)),
        batch_proportion=epoch / (_EPOCHS - 1),
    )


SYNTHETIC: dict[str, Callable[[jax.Array, Shape], Tensors]] = {
    "paper": paper,
    "scaled": scaled,
    "correlated": correlated,
}
"""The samplers by name."""


def _dormancy(key: jax.Array, shape: Shape) -> jax.Array:
    return jnp.clip(1 + jax.random.normal(key, shape), 0.0, 10.0)


def _alive(key: jax.Array, shape: Shape) -> jax.Array:
    """``[t, n]``: the tensor's scale, or 0 for its dead entries."""
    scale_key, share_key, key = jax.random.split(key, 3)
    scale = _log_uniform(scale_key, (shape[1], 1), *_DECADES)
    # Half of the tensors are dense; the others lack anything up to all but a few.
    share = jax.random.uniform(share_key, (shape[1], 1), minval=-1.0, maxval=0.98)
    return (jax.random.uniform(key, shape[1:]) >= share) * scale


def _log_uniform(
    key: jax.Array, shape: tuple[int, ...], low: float, high: float
) -> jax.Array:
    return 10 ** jax.random.uniform(key, shape, minval=low, maxval=high)


def _past(key: jax.Array, before: jax.Array, shape: Shape) -> jax.Array:
    """``[t, 6, n]``: what unit white noise of so many updates left in the momenta."""
    b = jnp.array(DECAYS)
    both, gain = b[:, None] * b[None], (1 - b)[:, None] * (1 - b)[None]
    # 1 - x^u by expm1: for the slow ones it is a small difference.
    fallen = -jnp.expm1(before[:, None, None] * jnp.log(both)[None])
    covariance = (gain / (1 - both))[None] * fallen
    deviation = jnp.sqrt(jnp.diagonal(covariance, axis1=1, axis2=2))
    scale = jnp.maximum(deviation, 1e-12)
    correlation = covariance / (scale[:, :, None] * scale[:, None])
    ridge = jnp.where(before == 0, 1.0, 1e-4)[:, None, None]
    root = jnp.linalg.cholesky(correlation + ridge * jnp.eye(len(DECAYS))[None])
    drawn = jax.random.normal(key, (shape[1], len(DECAYS), shape[2]))
    return deviation[:, :, None] * jnp.einsum("tij,tjn->tin", root, drawn)
