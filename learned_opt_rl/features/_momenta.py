"""The bank of momenta every OPEN-like optimiser keeps per parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

DECAYS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
"""Decay rates of the six momenta, per optimiser step (Goldie et al. 2024, 5.3)."""


def init_momenta(parameter: Float[Array, "*shape"]) -> Float[Array, "6 *shape"]:
    """Zero momenta for one parameter leaf.

    Args:
        parameter: Leaf of any shape and float dtype; only its shape is used.

    Returns:
        float32 zeros of shape ``[6, *parameter.shape]``.

    Example:
        >>> import jax.numpy as jnp
        >>> init_momenta(jnp.ones((2, 3))).shape
        (6, 2, 3)
    """
    return jnp.zeros((len(DECAYS), *jnp.shape(parameter)), jnp.float32)


def update_momenta(
    momenta: Float[Array, "6 *shape"], gradient: Float[Array, "*shape"]
) -> Float[Array, "6 *shape"]:
    """One step of ``m <- b * m + (1 - b) * g`` for every decay rate, uncorrected.

    Args:
        momenta: ``[6, *shape]`` float32 momenta before the step.
        gradient: ``[*shape]`` gradient of any float dtype.

    Returns:
        ``[6, *shape]`` float32 momenta after the step.

    References:
        Goldie et al. 2024, section 5.3; no bias correction.

    Example:
        >>> import jax.numpy as jnp
        >>> m = update_momenta(jnp.zeros(6), jnp.array(1.0))
        >>> [round(v, 4) for v in m.tolist()]
        [0.9, 0.5, 0.1, 0.01, 0.001, 0.0001]
    """
    # 1 - b in float32, although it is off by 2e-5 at 0.9999: the published weights
    # were trained with exactly that, and this keeps the momenta bit-equal.
    decay = jnp.array(DECAYS, jnp.float32).reshape(-1, *(1,) * gradient.ndim)
    return decay * momenta + (1 - decay) * gradient.astype(jnp.float32)[None]
