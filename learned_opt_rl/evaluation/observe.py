"""What an optimiser does to its agent, counted on the way."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax


class ObserveState(NamedTuple):
    """State of `observe`.

    Attributes:
        inner: The wrapped optimiser's.
        nan_updates: int32 scalar, updates with an entry that is not finite.
        dormant: float32 scalar, share of neurons of dormancy at most 0.025 at the last
            update; NaN where no dormancy was given.
    """

    inner: Any
    nan_updates: jax.Array
    dormant: jax.Array


def observe(
    tx: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Wraps an optimiser, whose updates stay as they are.

    Args:
        tx: Any optimiser.

    Returns:
        It, with an `ObserveState`.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> tx = observe(optax.sgd(1.0))
        >>> tx.init(jnp.zeros(3)).nan_updates.item()
        0
    """
    tx = optax.with_extra_args_support(tx)

    def init(params: Any) -> ObserveState:
        return ObserveState(tx.init(params), jnp.int32(0), jnp.float32(jnp.nan))

    def update(updates: Any, state: Any, params: Any = None, **extra: Any):
        updates, inner = tx.update(updates, state.inner, params, **extra)
        finite = jnp.stack(
            [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(updates)]
        )
        count = state.nan_updates + jnp.int32(~finite.all())
        return updates, ObserveState(inner, count, _dormant(extra.get("dormancy")))

    return optax.GradientTransformationExtraArgs(init, update)


def _dormant(dormancy: Any) -> jax.Array:
    leaves = [jnp.ravel(leaf) for leaf in jax.tree.leaves(dormancy)]
    if not leaves:
        return jnp.float32(jnp.nan)
    return (jnp.concatenate(leaves) <= 0.025).mean(dtype=jnp.float32)
