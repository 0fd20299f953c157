"""Clipping, with derivatives that are finite even where a gradient is zero."""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def safe_sqrt(x: jax.Array) -> jax.Array:
    """The square root, with derivative 0 at 0.

    Under a meta-gradient the derivative of a root of an all-zero gradient (a dead unit,
    an input that never was active) is infinite, times zero: NaN for all weights.

    Args:
        x: Floating, not negative, any shape.

    Returns:
        The root, of the same shape.

    Example:
        >>> import jax
        >>> jax.grad(safe_sqrt)(0.0).item(), jax.grad(safe_sqrt)(4.0).item()
        (0.0, 0.25)
    """
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def clip_by_norm(tree: Any, max_norm: float) -> Any:
    """Scales a tree of arrays down to a global norm of at most ``max_norm``."""
    norm = safe_sqrt(jnp.asarray(optax.tree.norm(tree, squared=True)))
    scale = max_norm / jnp.maximum(norm, max_norm)
    return jax.tree.map(lambda x: x * scale, tree)
