"""The policy loss of mirror learning: PPO's loss, with any drift for its clipping."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax.numpy as jnp

from learned_opt_rl.rules.drifts import (
    Drift,
    PPODrift,
    evaluate,
    ppo,
    require_drift,
    require_same_shape,
)

if TYPE_CHECKING:
    from jaxtyping import Array, Float

__all__ = [
    "policy_loss",
    "policy_loss_terms",
]
__dir__ = __all__.copy


_PPO = ppo()


def policy_loss(
    ratio: Float[Array, "*batch"],
    advantage: Float[Array, "*batch"],
    drift: Drift = _PPO,
) -> Float[Array, ""]:
    """Return the policy loss ``mean(-(r A - D(r, A)))``.

    Use it where the agent computes its clipped objective; the value loss and the
    entropy bonus stay. With ``drifts.ppo(eps)`` it equals that clipped objective.

    Args:
        ratio: New over old probability of each action taken.
        advantage: Same shape; normalized per minibatch for published drifts.
        drift: ``(ratio, advantage) -> drift``, elementwise.

    Returns:
        Scalar, to be minimized.

    Raises:
        TypeError: ``drift`` is not callable.
        ValueError: Ratio, advantage and drift differ in shape.

    References:
        Kuba et al. 2022, "Mirror Learning"; Lu et al. 2022, "Discovered Policy
        Optimisation".

    Example:
        >>> loss = policy_loss(jnp.array([2.0]), jnp.array([1.0]), ppo(0.25))
        >>> loss.item()
        -1.25
    """
    return policy_loss_terms(ratio, advantage, drift).mean()


def policy_loss_terms(
    ratio: Float[Array, "*batch"],
    advantage: Float[Array, "*batch"],
    drift: Drift = _PPO,
) -> Float[Array, "*batch"]:
    """Return ``-(r A - D(r, A))``, for your own weights or masks.

    Arguments and errors are those of `policy_loss`, which is the mean.

    Example:
        >>> policy_loss_terms(jnp.array([1.0, 2.0]), jnp.array([1.0, -1.0])).tolist()
        [-1.0, 2.0]
    """
    require_drift("drift", drift)
    require_same_shape(ratio, advantage)
    if isinstance(drift, PPODrift):
        # Written as in PPO: r A - (r - clip(r)) A would cancel for large r.
        clipped = drift.clip(ratio)
        return -jnp.minimum(ratio * advantage, clipped * advantage)
    return evaluate(drift, ratio, advantage) - ratio * advantage
