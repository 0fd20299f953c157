"""Sign momentum: an example plugin with a minimal rule with weights."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.artifacts import Artifact


class SignMomentumState(NamedTuple):
    """The moving average of the gradients, float32 in the shape of each leaf."""

    momentum: Any


def sign_momentum(weights: Any) -> optax.GradientTransformationExtraArgs:
    """Step by a fixed size along the sign of the momentum.

    Args:
        weights: ``{"momentum": {"decay": scalar}, "step_size": scalar}``, float32.

    Returns:
        The transformation. It does not need params and ignores unknown keywords.
    """
    decay, step_size = weights["momentum"]["decay"], weights["step_size"]

    def init(params: Any) -> SignMomentumState:
        return SignMomentumState(
            jax.tree.map(lambda leaf: jnp.zeros_like(leaf, jnp.float32), params)
        )

    def update(
        updates: Any, state: optax.OptState, params: Any = None, **extra_args: Any
    ) -> tuple[Any, optax.OptState]:
        del extra_args

        def average(old: jax.Array, gradient: jax.Array) -> jax.Array:
            return decay * old + (1 - decay) * jnp.asarray(gradient, jnp.float32)

        def step(mean: jax.Array, leaf: jax.Array) -> jax.Array:
            return (-step_size * jnp.sign(mean)).astype(jnp.result_type(leaf))

        momentum = jax.tree.map(average, state.momentum, updates)
        steps = jax.tree.map(step, momentum, updates if params is None else params)
        return steps, SignMomentumState(momentum)

    return optax.GradientTransformationExtraArgs(init, update)


def from_artifact(
    artifact: Artifact, **unused: Any
) -> optax.GradientTransformationExtraArgs:
    """Build the transformation from an artifact. learned-opt-rl calls this function.

    Args:
        artifact: An artifact whose card names ``example_sign_momentum``.
        **unused: Options that other rules use, such as ``horizon`` and ``key``.

    Returns:
        The transformation with the artifact's weights.
    """
    return sign_momentum(artifact.weights)
