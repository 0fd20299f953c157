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
import numpy as np

from learned_opt_rl.features import DECAYS, update_momenta

_DECADES = (-7.0, 0.0)  # range of gradient scales, log10
_LONGEST = 39040  # of a run, in updates: 1e7 environment steps of MinAtar's PPO
_EPOCHS, _MINIBATCHES = 4, 8


class Tensors(NamedTuple):
    """Optimiser inputs over ``K`` steps, ``t`` tensors of ``n`` entries, float32.

    Attributes:
        parameter: ``[K, t, n]``.
        gradient: ``[K, t, n]``; exactly 0 for dead entries.
        momenta: ``[K, t, 6, n]``, after the step's update; decays as
            ``features.DECAYS``.
        dormancy: ``[K, t, n]``, at least 0.
        noise: ``[K, t, n]``, the standard normal ``rand`` that rules explore by; the
            samplers here leave it 0.
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


# Few draws of many numbers: each call of a generator takes long to compile.
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
    keys = jax.random.split(key)
    normal = jax.random.normal(keys[0], (*shape[:2], 9, shape[2]))
    t_p, l_p, b_p = jax.random.uniform(keys[1], (3, *shape[:2]))
    return Tensors(
        parameter=normal[:, :, 0],
        gradient=0.5 * normal[:, :, 1],
        momenta=0.5 * normal[:, :, 3:],
        dormancy=jnp.clip(1 + normal[:, :, 2], 0.0, 10.0),
        noise=jnp.zeros(shape),
        training_proportion=t_p,
        layer_proportion=jnp.floor(3 * l_p) / 2,
        batch_proportion=b_p,
    )


def scaled(key: jax.Array, shape: Shape) -> Tensors:
    """Inputs whose tensors differ in scale and in how many of their entries are dead.

    Args:
        key: jax random key.
        shape: Steps, tensors, entries.

    Returns:
        The inputs.
    """
    keys = jax.random.split(key, 3)
    scale, share, layer = jax.random.uniform(keys[0], (3, *shape[1:2], 1))
    alive = _alive(scale, share, jax.random.uniform(keys[1], shape[1:]))
    x = paper(keys[2], shape)
    return x._replace(
        gradient=x.gradient * alive[None],
        momenta=x.momenta * alive[None, :, None],
        layer_proportion=jnp.tile(layer[:, 0], (shape[0], 1)),
    )


def correlated(key: jax.Array, shape: Shape) -> Tensors:
    """Inputs as of pieces of runs, half from a first update on, half from later.

    Single steps are from anywhere, with as many of each epoch.

    The gradient of an entry is ``sigma * (drift + N(0, 1))``; in some tensors it is
    often 0, as behind a relu. Before the first step momenta have the distribution
    that their recursion gives them after as many updates.

    Args:
        key: jax random key.
        shape: Steps, tensors, entries.

    Returns:
        The inputs.
    """
    steps, tensors, size = shape
    keys = jax.random.split(key, 4)
    uniform = jax.random.uniform(keys[0], (9, tensors, 1))
    normal = jax.random.normal(keys[1], (9, tensors, size))
    within = jax.random.uniform(keys[2], (steps + 1, tensors, size))
    noise = jax.random.normal(keys[3], shape)

    sigma = 2 * _alive(uniform[0], uniform[1], within[-1])
    drift = 10 ** (2.5 * uniform[2] - 2) * normal[0]
    shown = jnp.minimum(0.1 + 1.9 * uniform[3], 1.0)  # half always have a gradient
    gradient = jnp.where(
        within[:-1] < shown[None], sigma[None] * (drift[None] + noise), 0.0
    )

    firsts = len(_BEFORE) if steps > 1 else 0
    place = uniform[4, :, 0] * (firsts + len(_BEFORE)) - firsts
    place = jnp.maximum(place, 0.0).astype(jnp.int32)
    before = jnp.array(_BEFORE)[place]
    spread = jnp.sqrt(shown + shown * (1 - shown) * drift**2)
    roots = jnp.array(_ROOTS)[place]
    past = jnp.einsum("tij,jtn->tin", roots, normal[3:])
    kept = jnp.array(DECAYS)[None, :, None] ** before[:, None, None]
    mean = (1 - kept) * (sigma * shown * drift)[:, None]

    # [tensors, 6, n] with [tensors, n]: update_momenta has the 6 as the last axis.
    step_momenta = jax.vmap(jax.vmap(update_momenta, (1, 0), 1))

    def step(momenta: jax.Array, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
        momenta = step_momenta(momenta, gradient)
        return momenta, momenta

    start = mean + past * (sigma * spread)[:, None]
    # A rollout is learned from in so many updates; later pieces begin anywhere in it.
    phase = jnp.floor(uniform[8, :, 0] * _EPOCHS * _MINIBATCHES).astype(jnp.int32)
    phase = jnp.where(before > 0, phase, 0)[None] + jnp.arange(steps)[:, None]
    epoch = phase // _MINIBATCHES % _EPOCHS

    def same(x: jax.Array) -> jax.Array:
        return jnp.broadcast_to(x, (steps, *x.shape))

    return Tensors(
        parameter=same(10 ** (-2 * uniform[5]) * normal[1]),
        gradient=gradient,
        momenta=jax.lax.scan(step, start, gradient)[1],
        dormancy=same(jnp.clip(1 + normal[2], 0.0, 10.0)),
        noise=jnp.zeros(shape),
        training_proportion=same(uniform[6, :, 0]),
        layer_proportion=same(jnp.floor(3 * uniform[7, :, 0]) / 2),
        batch_proportion=epoch / (_EPOCHS - 1),
    )


SYNTHETIC: dict[str, Callable[[jax.Array, Shape], Tensors]] = {
    "paper": paper,
    "scaled": scaled,
    "correlated": correlated,
}
"""The samplers by name."""


def _alive(scale: jax.Array, share: jax.Array, within: jax.Array) -> jax.Array:
    """``[t, n]``: the tensor's scale, or 0 for its dead entries; all of uniforms."""
    low, high = _DECADES
    # Half of the tensors are dense; the others lack anything up to all but a few.
    return (within >= 1.98 * share - 1) * 10 ** (low + (high - low) * scale)


def _root(before: int) -> np.ndarray:
    """``[6, 6]``: makes of unit normals what unit white noise left in the momenta."""
    b = np.array(DECAYS)
    both, gain = np.outer(b, b), np.outer(1 - b, 1 - b)
    covariance = gain * (1 - both**before) / (1 - both)
    values, vectors = np.linalg.eigh(covariance)  # of one update it has rank 1
    return (vectors * np.sqrt(values.clip(min=0))).astype(np.float32)


# How many updates there were before.
_BEFORE = np.unique(np.geomspace(1, _LONGEST, 40).astype(int)) - 1
_ROOTS = np.stack([_root(int(before)) for before in _BEFORE])
