"""Drifts by formula, and the checks that all drifts share."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
from jax.core import Tracer

Drift: TypeAlias = Callable[[jax.Array, jax.Array], jax.Array]
"""``(ratio, advantage) -> drift``: elementwise, non-negative, 0 at ratio 1."""

# exp(log-probability difference) underflows to 0; its logarithm must not be -inf.
SMALLEST_RATIO = 1e-30


@dataclasses.dataclass(frozen=True)
class PPODrift:
    """PPO's drift; see `ppo`.

    Attributes:
        clip_eps: Half-width of the band of ratios without drift.
    """

    clip_eps: float

    def __call__(self, ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        """Return the drift, elementwise."""
        require_same_shape(ratio, advantage)
        return jax.nn.relu((ratio - self.clip(ratio)) * advantage)

    def clip(self, ratio: jax.Array) -> jax.Array:
        """Return the ratio, clipped to the band."""
        return jnp.clip(ratio, 1 - self.clip_eps, 1 + self.clip_eps)


def ppo(clip_eps: float = 0.2) -> PPODrift:
    """Return PPO's clipping as a drift: ``relu((r - clip(r, 1 - eps, 1 + eps)) * A)``.

    Args:
        clip_eps: Half-width of the band, positive; may be traced.

    Returns:
        The drift; `losses.policy_loss` with it is PPO's clipped objective.

    Raises:
        ValueError: ``clip_eps`` is not positive.

    References:
        Schulman et al. 2017, equation 7 (the clipped objective); Goldie et al. 2025,
        "How Should We Meta-Learn Reinforcement Learning Algorithms?", section 3 (as
        a drift).

    Example:
        >>> import jax.numpy as jnp
        >>> ppo(0.25)(jnp.array([1.0, 1.5]), jnp.array([1.0, 1.0])).tolist()
        [0.0, 0.25]
    """
    require_positive("clip_eps", clip_eps)
    return PPODrift(clip_eps)


def dpo(alpha: float = 2.0, beta: float = 0.6) -> Drift:
    """Return Discovered Policy Optimisation, a formula for what LPO had learned.

    For ``A >= 0`` the drift is ``relu(z - alpha tanh(z / alpha))`` with
    ``z = (r - 1) A``; for ``A < 0`` it is ``relu(z - beta tanh(z / beta))`` with
    ``z = A log r``.

    Args:
        alpha: Scale from which positive advantages are restrained; positive.
        beta: The same for negative advantages.

    Returns:
        The drift.

    Raises:
        ValueError: ``alpha`` or ``beta`` is not positive.

    References:
        Lu et al. 2022, "Discovered Policy Optimisation"; the constants are those of
        the authors' released code.

    Example:
        >>> import jax.numpy as jnp
        >>> print(dpo()(jnp.array([1.5, 0.6]), jnp.array([1.0, -1.0])).round(3))
        [0.01  0.096]
    """
    require_positive("alpha", alpha)
    require_positive("beta", beta)

    def drift(ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        require_same_shape(ratio, advantage)
        positive = (ratio - 1) * advantage
        negative = jnp.log(jnp.maximum(ratio, SMALLEST_RATIO)) * advantage
        return jnp.where(
            advantage >= 0, _restrained(positive, alpha), _restrained(negative, beta)
        )

    return drift


def _restrained(z: jax.Array, scale: float) -> jax.Array:
    return jax.nn.relu(z - scale * jnp.tanh(z / scale))


def from_function(
    f: Callable[[jax.Array, jax.Array], jax.Array], *, offset: float = 0.0
) -> Drift:
    """Return a drift from any formula: ``relu(f(r, A) - offset)``.

    Args:
        f: ``(ratio, advantage) -> value``, elementwise, of JAX operations.
        offset: Subtracted before the rectifier, at least 0. A formula that is 0 at
            ratio 1 but not flat there becomes flat very close to 1 with 1e-6 (the
            published symbolic functions) or 1e-4 (LPO). Proposals of language models
            have 0.

    Returns:
        The drift.

    Raises:
        TypeError: ``f`` is not callable.
        ValueError: ``offset`` is negative or NaN; when called: ratio, advantage and
            ``f``'s value differ in shape.

    References:
        Goldie et al. 2025, "How Should We Meta-Learn Reinforcement Learning
        Algorithms?", supplement C.

    Example:
        >>> import jax.numpy as jnp
        >>> drift = from_function(lambda r, a: a * jnp.log(r), offset=1e-6)
        >>> drift(jnp.array([1.0, 0.5]), jnp.array([3.0, 3.0])).tolist()
        [0.0, 0.0]
    """
    require_drift("f", f)
    if not isinstance(offset, Tracer) and not offset >= 0:
        raise ValueError(
            f"offset={offset!r} must be at least 0: a negative one makes the drift "
            "positive at ratio 1, where it has to vanish"
        )

    def drift(ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        return jax.nn.relu(evaluate(f, ratio, advantage) - offset)

    return drift


def evaluate(f: Drift, ratio: jax.Array, advantage: jax.Array) -> jax.Array:
    """Return ``f(ratio, advantage)``; raise ``ValueError`` where shapes differ."""
    require_same_shape(ratio, advantage)
    value = f(ratio, advantage)
    if jnp.shape(value) != jnp.shape(ratio):
        raise ValueError(
            f"the drift has shape {jnp.shape(value)} for ratio and advantage of shape "
            f"{jnp.shape(ratio)}; it must be elementwise, one value for each"
        )
    return value


def require_same_shape(ratio: Any, advantage: Any) -> None:
    """Raise ``ValueError`` unless both have one shape: broadcasting hides bugs."""
    if jnp.shape(ratio) != jnp.shape(advantage):
        raise ValueError(
            f"ratio has shape {jnp.shape(ratio)}, advantage {jnp.shape(advantage)}; "
            "give both one value per transition, in the same shape"
        )


def require_positive(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless ``value`` is positive (or traced)."""
    if not isinstance(value, Tracer) and not value > 0:
        raise ValueError(f"{name}={value!r} must be positive")


def require_drift(name: str, value: Any) -> None:
    """Raise ``TypeError`` unless ``value`` can be called."""
    if not callable(value):
        raise TypeError(
            f"{name}={value!r} is not a function (ratio, advantage) -> drift; pass one "
            "such as drifts.ppo(0.2)"
        )
