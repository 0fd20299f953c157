"""Element-wise encodings and the per-tensor normalization of learned optimizers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

if TYPE_CHECKING:
    from jaxtyping import Array, Float

LOG_FLOOR = 1e-13  # Goldie et al. 2024, appendix B
RMS_EPSILON = 1e-5  # as in the authors' code


def log_magnitude(x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
    """Return the logarithm of the magnitude, finite at 0: ``log(|x| + 1e-13)``.

    Args:
        x: Float array of any shape, in the units of a gradient.

    Returns:
        Array of the same shape and dtype, dimensionless; about -29.93 where
        ``x`` is 0.

    References:
        Goldie et al. 2024, "Can Learned Optimization Make RL Less Difficult?",
        section 5.3 and appendix B.

    Example:
        >>> import jax.numpy as jnp
        >>> log_magnitude(jnp.array([1.0, -1.0])).tolist()
        [0.0, 0.0]
    """
    # At least float32: the floor is 0 in float16.
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    return jnp.log(jnp.abs(wide) + LOG_FLOOR).astype(x.dtype)


def rms_normalize(x: Float[Array, "channels n"]) -> Float[Array, "channels n"]:
    """Divide each channel by its root mean square over the tensor.

    Args:
        x: ``[channels, n]`` features of the ``n`` parameters of one tensor.

    Returns:
        ``x * rsqrt(1e-5 + mean(x**2, axis=1))``, same shape and dtype.

    References:
        Goldie et al. 2024, appendix B (feature normalization, after VeLO).

    Example:
        >>> import jax.numpy as jnp
        >>> y = rms_normalize(jnp.array([[3.0, -3.0]]))
        >>> [round(v, 3) for v in y[0].tolist()]
        [1.0, -1.0]
    """
    mean_square = jnp.mean(x * x, axis=1, keepdims=True)
    return x * jax.lax.rsqrt(RMS_EPSILON + mean_square)
