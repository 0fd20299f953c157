"""Made-up tensors for a student optimiser to learn its teacher's updates on.

Real gradients are nothing like unit normals: on MinAtar most input pixels are dark,
so whole rows of the first kernel have gradient 0, and magnitudes span many decades
over a run. A student that never saw this answers it with noise, so every tensor
here draws its own scale and its own share of dead entries.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.features import DECAYS

_DECADES = (-7.0, 0.0)  # range of gradient scales, log10


class Tensors(NamedTuple):
    """Optimiser inputs of ``t`` tensors with ``n`` parameters each, float32.

    Attributes:
        parameter: ``[t, n]``.
        gradient: ``[t, n]``; exactly 0 for dead entries.
        momenta: ``[t, 6, n]``, decays as ``features.DECAYS``; 0 for dead entries.
        dormancy: ``[t, n]``, in [0, 10].
        training_proportion: ``[t]``, in [0, 1].
        layer_proportion: ``[t]``, in [0, 1].
        batch_proportion: ``[t]``, in [0, 1].
    """

    parameter: jax.Array
    gradient: jax.Array
    momenta: jax.Array
    dormancy: jax.Array
    training_proportion: jax.Array
    layer_proportion: jax.Array
    batch_proportion: jax.Array


def sample_tensors(key: jax.Array, tensors: int, size: int) -> Tensors:
    """Draw random optimiser inputs.

    Args:
        key: jax random key.
        tensors: How many tensors, t.
        size: Parameters per tensor, n.

    Returns:
        The tensors.

    References:
        Goldie et al. 2025, "How Should We Meta-Learn RL Algorithms?", appendix A.3,
        for the distributions; scales and dead entries are ours.

    Example:
        >>> import jax
        >>> sample_tensors(jax.random.key(0), 2, 5).momenta.shape
        (2, 6, 5)
    """
    keys = jax.random.split(key, 10)
    scale = 10 ** jax.random.uniform(
        keys[0], (tensors, 1), minval=_DECADES[0], maxval=_DECADES[1]
    )
    # Half of the tensors are dense; the others lack anything up to all but a few.
    dead_share = jax.random.uniform(keys[1], (tensors, 1), minval=-1.0, maxval=0.98)
    alive = (jax.random.uniform(keys[2], (tensors, size)) >= dead_share) * 0.5 * scale
    momenta = jax.random.normal(keys[3], (tensors, len(DECAYS), size)) * alive[:, None]
    return Tensors(
        parameter=jax.random.normal(keys[4], (tensors, size)),
        gradient=jax.random.normal(keys[5], (tensors, size)) * alive,
        momenta=momenta,
        dormancy=jnp.clip(1 + jax.random.normal(keys[6], (tensors, size)), 0.0, 10.0),
        training_proportion=jax.random.uniform(keys[7], (tensors,)),
        layer_proportion=jax.random.uniform(keys[8], (tensors,)),
        batch_proportion=jax.random.uniform(keys[9], (tensors,)),
    )
