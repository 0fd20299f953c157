"""The momenta that every OPEN-like optimizer keeps of each parameter."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

DECAYS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
"""Decay rates of the six momenta, per optimizer step (Goldie et al. 2024, 5.3)."""


def init_momenta(parameter: Float[Array, "*shape"]) -> Float[Array, "*shape 6"]:
    """Return zero momenta for one parameter leaf.

    Args:
        parameter: Leaf of any shape and float dtype; only its shape is used.

    Returns:
        float32 zeros of shape ``[*parameter.shape, 6]``.

    Example:
        >>> import jax.numpy as jnp
        >>> init_momenta(jnp.ones((2, 3))).shape
        (2, 3, 6)
    """
    return jnp.zeros((*jnp.shape(parameter), len(DECAYS)), jnp.float32)


def update_momenta(
    momenta: Float[Array, "*shape 6"], gradient: Float[Array, "*shape"]
) -> Float[Array, "*shape 6"]:
    """Take one step of ``m <- b * m + (1 - b) * g`` for every decay rate.

    Args:
        momenta: ``[*shape, 6]`` float32 momenta before the step.
        gradient: ``[*shape]`` gradient of any float dtype.

    Returns:
        ``[*shape, 6]`` float32 momenta after the step.

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
    decay = jnp.array(DECAYS, jnp.float32).reshape(*(1,) * gradient.ndim, -1)
    return decay * momenta + (1 - decay) * gradient.astype(jnp.float32)[..., None]
