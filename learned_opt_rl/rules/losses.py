"""The policy loss of mirror learning: PPO's loss, with any drift for its clipping."""

from __future__ import annotations

from typing import TYPE_CHECKING

import jax
import jax.numpy as jnp

from learned_opt_rl.rules._drift.forms import (
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


def __dir__() -> list[str]:
    return __all__


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
        ratio: New over old probability of each action taken,
            ``exp(new_log_prob - old_log_prob)``.
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
        >>> import jax.numpy as jnp
        >>> from learned_opt_rl.rules import drifts
        >>> loss = policy_loss(jnp.array([2.0]), jnp.array([1.0]), drifts.ppo(0.25))
        >>> loss.item()
        -1.25
    """
    return -_objective(ratio, advantage, drift).mean()


def policy_loss_terms(
    ratio: Float[Array, "*batch"],
    advantage: Float[Array, "*batch"],
    drift: Drift = _PPO,
) -> Float[Array, "*batch"]:
    """Return `policy_loss` before the mean, for your own weights or masks.

    Args:
        ratio: As for `policy_loss`.
        advantage: As for `policy_loss`.
        drift: As for `policy_loss`.

    Returns:
        ``-(r A - D(r, A))``, of the shape of ``ratio``.

    Raises:
        TypeError: ``drift`` is not callable.
        ValueError: Ratio, advantage and drift differ in shape.

    Example:
        >>> import jax.numpy as jnp
        >>> policy_loss_terms(jnp.array([1.0, 2.0]), jnp.array([1.0, -1.0])).tolist()
        [-1.0, 2.0]
    """
    return -_objective(ratio, advantage, drift)


def _objective(ratio: jax.Array, advantage: jax.Array, drift: Drift) -> jax.Array:
    require_drift("drift", drift)
    require_same_shape(ratio, advantage)
    if isinstance(drift, PPODrift):
        # Written as in PPO: r A - (r - clip(r)) A would cancel for large r.
        clipped = drift.clip(ratio)
        return jnp.minimum(ratio * advantage, clipped * advantage)
    return ratio * advantage - evaluate(drift, ratio, advantage)
