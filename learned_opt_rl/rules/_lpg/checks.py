"""Checks of what an agent hands to LPG, with messages that help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt_rl.rules._lpg.network import Architecture


def require_rollout(
    steps: Mapping[str, Any], predictions: Mapping[str, Any], width: int
) -> None:
    """Raise ``ValueError`` unless ``steps`` are [B, T], ``predictions`` [B, T, m]."""
    shape = jnp.shape(steps["rewards"])
    if len(shape) != 2:
        raise ValueError(
            f"rewards has shape {shape}; give [B, T], workers by steps, and vmap over "
            "further axes"
        )
    for name, array in steps.items():
        require_shape(name, array, shape)
    for name, array in predictions.items():
        require_shape(name, array, (*shape, width))


def require_shape(name: str, array: Any, shape: tuple[int, ...]) -> None:
    """Raise ``ValueError`` unless the array has the shape."""
    if jnp.shape(array) != shape:
        raise ValueError(
            f"{name} has shape {jnp.shape(array)}, but the rollout and the rule need "
            f"{shape}: [B, T] as rewards, and for predictions the rule's target_width"
        )


def require_targets(targets: Any, probs: Any, y: Any) -> None:
    """Raise ``ValueError`` unless the targets fit probabilities and predictions."""
    pi_hat, y_hat = targets
    require_shape("targets.pi_hat", pi_hat, jnp.shape(probs))
    require_shape("y", y, jnp.shape(y_hat))
    require_shape("targets.y_hat", y_hat, (*jnp.shape(probs), jnp.shape(y)[-1]))


def discount(architecture: Architecture, gamma: Any) -> list[jax.Array]:
    """The discount, if it is an input."""
    return [_scalar("gamma", gamma)] if architecture.gamma_input else []


def age(architecture: Architecture, step: Any, lifetime: Any) -> list[jax.Array]:
    """The agent's age, in the form the weights were trained with."""
    if architecture.lifetime_inputs == "none":
        return []
    step, lifetime = _scalar("step", step), _scalar("lifetime", lifetime)
    if architecture.lifetime_inputs == "raw":
        return [step, lifetime]
    return [step / lifetime, jnp.log(lifetime)]


def _scalar(name: str, value: Any) -> jax.Array:
    if value is None:
        raise ValueError(
            f"{name}= is missing: these weights take it as an input, "
            f"see their architecture; pass {name}=... (one number)"
        )
    if jnp.shape(value):
        raise ValueError(f"{name} has shape {jnp.shape(value)}; give one number")
    return jnp.asarray(value, jnp.float32)
