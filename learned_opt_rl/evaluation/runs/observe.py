"""Count bad updates and dormant neurons in the optimizer's state.

The agents then need no second implementation that reports: in any loop, the state of
the optimizer holds the counts.
"""

from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

DORMANT = 0.025
"""A neuron of at most this dormancy is dormant (the mean of a layer is 1).

Our choice: OPEN's figures use 0, which only relu neurons reach.
"""


class ObserveState(NamedTuple):
    """State of `observe`.

    Attributes:
        inner: State of the observed optimizer.
        nan_updates: int32 scalar, number of updates with an entry that is not finite.
        dormant: float32 scalar in [0, 1], share of dormant neurons at the last update;
            NaN if the agent gives no dormancies.
    """

    inner: Any
    nan_updates: jax.Array
    dormant: jax.Array


def observe(
    optimizer: optax.GradientTransformation,
) -> optax.GradientTransformationExtraArgs:
    """Return an optimizer that counts its bad updates and the dormant neurons.

    Args:
        optimizer: Any optax transformation; its updates do not change.

    Returns:
        The transformation with an `ObserveState` around its state.

    References:
        Sokar et al. 2023, "The Dormant Neuron Phenomenon", definition 3.1.

    Example:
        >>> import jax.numpy as jnp, optax
        >>> tx = observe(optax.sgd(0.1))
        >>> params = {"Dense_0": jnp.ones(4)}
        >>> state = tx.init(params)
        >>> dormancy = {"Dense_0": jnp.array([0.0, 0.02, 2.0, 1.98])}
        >>> _, state = tx.update(params, state, params, dormancy=dormancy)
        >>> state.dormant.item(), state.nan_updates.item()
        (0.5, 0)
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def init(params: optax.Params) -> ObserveState:
        return ObserveState(optimizer.init(params), jnp.int32(0), jnp.float32(jnp.nan))

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, ObserveState]:
        observed = cast(ObserveState, state)
        updates, inner = optimizer.update(updates, observed.inner, params, **extra)
        finite = [jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(updates)]
        bad = ~jnp.stack(finite).all() if finite else jnp.bool_(False)
        return updates, ObserveState(
            inner,
            observed.nan_updates + bad,
            dormant_share(extra.get("dormancy")),
        )

    return optax.GradientTransformationExtraArgs(init, update)


def dormant_share(dormancy: Any) -> jax.Array:
    """Return the share of an agent's neurons that are dormant.

    Args:
        dormancy: A pytree of ``[neurons]`` arrays; scalars do not stand for neurons and
            are left out.

    Returns:
        float32 scalar in [0, 1]; NaN if there are no neurons.

    Example:
        >>> import jax.numpy as jnp
        >>> dormant_share([jnp.array([0.0, 2.0])]).item()
        0.5
    """
    neurons = [jnp.ravel(x) for x in jax.tree.leaves(dormancy) if jnp.ndim(x)]
    if not neurons:
        return jnp.float32(jnp.nan)
    return (jnp.concatenate(neurons) <= DORMANT).astype(jnp.float32).mean()
