"""Synthetic inputs of optimizers: sequences of tensors to imitate a teacher on.

``paper`` draws every entry and step independently. ``scaled`` gives each tensor its own
gradient scale, over seven decades, and its own share of dead entries: most input pixels
of MinAtar are dark, so whole rows of the first kernel have gradient 0, and a student
that never saw such rows returns noise for them. ``correlated`` does the same, makes
gradients of a drift and noise, computes momenta from these gradients by their own
recursion, and takes proportions, parameters and dormancies from one run.

References:
    Goldie et al. 2025, "How Should We Meta-Learn RL Algorithms?", appendix A.3, for
    ``paper``; the others are ours.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.features import DECAYS, update_momenta

# Below, u is uniform on [0, 1). The ranges cover what agents on MinAtar produce.
_SCALES = (-7.0, 0.0)  # log10 of a tensor's gradient scale
# Largest gradient scale of `correlated`: momenta of decay 0.9 then have a standard
# deviation up to 0.46, near the paper's 0.5.
_LARGEST = 2
_DRIFTS = (-2.0, 0.5)  # log10 of drift over noise: from pure noise to a steady slope
_PARAMETERS = (0.0, -2.0)  # log10 of a tensor's parameter scale
# A share of entries is dead in half of the tensors, up to 98 % of them: 1.98 u - 1 is
# at most 0 for half of all u, and 0.98 at the end.
_DEAD = (-1.0, 0.98)
# In half of the tensors every gradient is nonzero; in the others a relu lets it
# through with a probability from 0.1 on: 0.1 + 1.9 u, capped at 1.
_SHOWN = (0.1, 2.0)
_LONGEST = 39040  # updates of a run: 1e7 environment steps of MinAtar's PPO
_EPOCHS, _MINIBATCHES = 4, 8  # of MinAtar's PPO


class Tensors(NamedTuple):
    """Inputs of an optimizer: ``K`` steps, ``t`` tensors of ``n`` entries, float32."""

    parameter: jax.Array  # [K, t, n]
    gradient: jax.Array  # [K, t, n]; exactly 0 for dead entries
    momenta: jax.Array  # [K, t, 6, n], after the step; decays as in features.DECAYS
    dormancy: jax.Array  # [K, t, n], at least 0
    noise: jax.Array  # [K, t, n], standard normal for rules that explore; 0 here
    training_proportion: jax.Array  # [K, t], in [0, 1], like the next two
    layer_proportion: jax.Array
    batch_proportion: jax.Array


Shape = tuple[int, int, int]
"""``(steps K, tensors t, entries n)``."""


# The samplers draw few large arrays: each call of a generator is slow to compile.
def paper(key: jax.Array, shape: Shape) -> Tensors:
    """Draw the published inputs, each step independent of the others."""
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
    """Draw inputs whose tensors differ in scale and in their share of dead entries."""
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
    """Draw pieces of runs, half from the first update on, half from later.

    Single steps come from anywhere in a run, equally from each epoch.

    The gradient of an entry is ``sigma * (drift + N(0, 1))``; in some tensors it is
    often 0, as behind a relu. Before the first step, momenta have the distribution
    that their recursion gives them after that many updates.
    """
    steps, tensors, size = shape
    keys = jax.random.split(key, 4)
    uniform = jax.random.uniform(keys[0], (9, tensors, 1))
    normal = jax.random.normal(keys[1], (9, tensors, size))
    within = jax.random.uniform(keys[2], (steps + 1, tensors, size))
    noise = jax.random.normal(keys[3], shape)

    sigma = _LARGEST * _alive(uniform[0], uniform[1], within[-1])
    drift = 10 ** _within(_DRIFTS, uniform[2]) * normal[0]
    shown = jnp.minimum(_within(_SHOWN, uniform[3]), 1.0)
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
    # A rollout gives epochs * minibatches updates; later pieces begin anywhere in it.
    phase = jnp.floor(uniform[8, :, 0] * _EPOCHS * _MINIBATCHES).astype(jnp.int32)
    phase = jnp.where(before > 0, phase, 0)[None] + jnp.arange(steps)[:, None]
    epoch = phase // _MINIBATCHES % _EPOCHS

    def same(x: jax.Array) -> jax.Array:
        return jnp.broadcast_to(x, (steps, *x.shape))

    return Tensors(
        parameter=same(10 ** _within(_PARAMETERS, uniform[5]) * normal[1]),
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


def _within(bounds: tuple[float, float], u: jax.Array) -> jax.Array:
    low, high = bounds
    return low + (high - low) * u


def _alive(scale: jax.Array, share: jax.Array, within: jax.Array) -> jax.Array:
    """``[t, n]``: the tensor's scale, or 0 for its dead entries; all from uniforms."""
    return (within >= _within(_DEAD, share)) * 10 ** _within(_SCALES, scale)


def _root(before: int) -> np.ndarray:
    """``[6, 6]``: map unit normals to the momenta of unit white noise."""
    b = np.array(DECAYS)
    both, gain = np.outer(b, b), np.outer(1 - b, 1 - b)
    covariance = gain * (1 - both**before) / (1 - both)
    # Not Cholesky: after one update the covariance has rank 1.
    values, vectors = np.linalg.eigh(covariance)
    return (vectors * np.sqrt(values.clip(min=0))).astype(np.float32)


# Numbers of updates before a piece: 40 from 0 to a whole run, evenly spaced in log.
_BEFORE = np.unique(np.geomspace(1, _LONGEST, 40).astype(int)) - 1
_ROOTS = np.stack([_root(int(before)) for before in _BEFORE])
