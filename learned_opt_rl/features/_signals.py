"""What an optimizer computes from gradients: momenta, logarithms, normalized rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

DECAYS = (0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)
"""Decay rates of the six momenta, per optimizer step (Goldie et al. 2024, 5.3)."""

_LOG_FLOOR = 1e-13  # Goldie et al. 2024, appendix B
_RMS_EPSILON = 1e-5  # as in the authors' code


def init_momenta(parameter: Float[Array, "*shape"]) -> Float[Array, "*shape 6"]:
    """Return zero momenta of one parameter leaf, float32 ``[*shape, 6]``.

    Example:
        >>> init_momenta(jnp.ones((2, 3))).shape
        (2, 3, 6)
    """
    return jnp.zeros((*jnp.shape(parameter), len(DECAYS)), jnp.float32)


def update_momenta(
    momenta: Float[Array, "*shape 6"], gradient: Float[Array, "*shape"]
) -> Float[Array, "*shape 6"]:
    """Take one step of ``m <- b * m + (1 - b) * g`` for every decay rate.

    The momenta are float32, and the gradient is of any float dtype.

    References:
        Goldie et al. 2024, section 5.3; no bias correction.

    Example:
        >>> m = update_momenta(jnp.zeros(6), jnp.array(1.0))
        >>> [round(v, 4) for v in m.tolist()]
        [0.9, 0.5, 0.1, 0.01, 0.001, 0.0001]
    """
    # 1 - b in float32, although it is off by 2e-5 at 0.9999: the published weights
    # were trained with exactly that, and this keeps the momenta bit-equal.
    decay = jnp.array(DECAYS, jnp.float32).reshape(*(1,) * gradient.ndim, -1)
    return decay * momenta + (1 - decay) * gradient.astype(jnp.float32)[..., None]


def log_magnitude(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return ``log(|x| + 1e-13)``, which is finite at 0, in the dtype of ``x``.

    References:
        Goldie et al. 2024, section 5.3 and appendix B.

    Example:
        >>> log_magnitude(jnp.array([1.0, -1.0])).tolist()
        [0.0, 0.0]
    """
    # At least float32: the floor is 0 in float16.
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return jnp.log(jnp.abs(wide) + _LOG_FLOOR).astype(x.dtype)


def rms_normalize(x: Float[Array, "channels n"]) -> Float[Array, "channels n"]:
    """Divide each channel by its root mean square over the tensor.

    The result is ``x * rsqrt(1e-5 + mean(x**2, axis=1))``, in the dtype of ``x``.

    References:
        Goldie et al. 2024, appendix B (feature normalization, after VeLO).

    Example:
        >>> y = rms_normalize(jnp.array([[3.0, -3.0]]))
        >>> [round(v, 3) for v in y[0].tolist()]
        [1.0, -1.0]
    """
    return x * rms_scale(x, axis=1)[:, None]


def rms_scale(x: jax.Array, axis: int) -> jax.Array:
    """Return the factors ``rsqrt(1e-5 + mean(x**2, axis))`` of ``rms_normalize``.

    Example:
        >>> round(float(rms_scale(jnp.array([3.0, -3.0]), axis=0)), 3)
        0.333
    """
    return jax.lax.rsqrt(_RMS_EPSILON + jnp.mean(x * x, axis=axis))
