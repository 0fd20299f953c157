"""Gradient clipping whose derivative is finite where the gradient is zero."""

from typing import Any

import jax
import jax.numpy as jnp
import optax


def safe_sqrt(x: jax.Array) -> jax.Array:
    """Return the square root, with derivative 0 at 0.

    A meta-gradient needs this. At an all-zero gradient (a dead unit, an input that was
    never active) the root's own derivative is infinite. Times zero that is NaN, and the
    NaN reaches every weight.

    Args:
        x: Floating, not negative, any shape.

    Example:
        >>> import jax
        >>> jax.grad(safe_sqrt)(0.0).item(), jax.grad(safe_sqrt)(4.0).item()
        (0.0, 0.25)
    """
    positive = x > 0
    return jnp.where(positive, jnp.sqrt(jnp.where(positive, x, 1.0)), 0.0)


def clip_by_norm(tree: Any, max_norm: float) -> Any:
    """Scale a tree of arrays down to a global norm of at most ``max_norm``."""
    norm = safe_sqrt(jnp.asarray(optax.tree.norm(tree, squared=True)))
    scale = max_norm / jnp.maximum(norm, max_norm)
    return jax.tree.map(lambda x: x * scale, tree)
