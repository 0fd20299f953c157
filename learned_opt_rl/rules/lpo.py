"""LPO: a small network, added to PPO's drift, learned by evolution.

    D(r, A) = relu(D_ppo(r, A) + o(r, A) - margin)

The network o has no biases, and its inputs vanish at ratio 1. So D is 0 and, within
the margin, flat there for any weights. With weights near 0 it is PPO's drift.

References:
    Lu et al. 2022, "Discovered Policy Optimisation".
    Goldie et al. 2025, "How Should We Meta-Learn Reinforcement Learning Algorithms?",
    section 5.

Example:
    >>> import jax
    >>> import jax.numpy as jnp
    >>> from learned_opt_rl.rules import losses, lpo
    >>> weights = lpo.init(jax.random.key(0), lpo.Architecture())
    >>> ratio, advantage = jnp.array([1.0, 1.5]), jnp.array([1.0, -1.0])
    >>> loss = losses.policy_loss(ratio, advantage, lpo.drift(weights))
"""

from typing import Any

import jax
import jax.numpy as jnp

from learned_opt_rl import artifacts
from learned_opt_rl.artifacts.weights import unflatten_names
from learned_opt_rl.errors import WeightsError
from learned_opt_rl.families.lpo import Architecture, lpo_shapes
from learned_opt_rl.rules._core.artifact import prints_its_name, require_algorithm
from learned_opt_rl.rules._core.weights import require_shapes
from learned_opt_rl.rules.drifts import (
    Drift,
    from_function,
    ppo,
    require_positive,
)

__all__ = [
    "Architecture",
    "Weights",
    "drift",
    "from_artifact",
    "init",
    "pretrained",
]
__dir__ = __all__.copy


# {"dense_0": {"kernel": [8, width]}, "dense_1": {"kernel": [width, 1]}}
Weights = dict[str, Any]

# So small that the drift starts within 0.02 of PPO's for |log r| <= 1, |A| <= 4.
_INITIAL_SCALE = 0.005

# Squares of larger ratios would overflow float32, and differences of infinities are
# NaN; the network saturates far below this.
_LARGEST_RATIO = 1e15


def init(key: jax.Array, architecture: Architecture) -> Weights:
    """Return small random weights, so that training starts near PPO.

    They are a nested dict of float32 arrays, normal with standard deviation 0.005.

    Example:
        >>> init(jax.random.key(0), Architecture())["dense_1"]["kernel"].shape
        (128, 1)
    """
    shapes = lpo_shapes(architecture)
    keys = jax.random.split(key, len(shapes))
    return unflatten_names(
        {
            name: _INITIAL_SCALE * jax.random.normal(subkey, shape, jnp.float32)
            for (name, shape), subkey in zip(shapes.items(), keys, strict=True)
        }
    )


def drift(weights: Weights, *, clip_eps: float = 0.2, margin: float = 1e-4) -> Drift:
    """Return LPO with given weights as a drift.

    Arithmetic is float32 (float64 if the ratio is); the drift has the ratio's dtype.

    Args:
        weights: Nested dict of float32 arrays (`init`, or an artifact's ``weights``),
            which may be traced.
        clip_eps: Clip range of the PPO drift inside, positive.
        margin: Subtracted before the relu, positive: 1e-4 for training and running
            agents, 1e-6 as a teacher in distillation.

    Raises:
        WeightsError: ``weights`` do not fit an LPO network.
        ValueError: ``clip_eps`` or ``margin`` is not positive; when called: ratio and
            advantage differ in shape.

    References:
        Goldie et al. 2025, equation 2, lists seven inputs; the authors' released code
        has these eight: r - 1, its square, log r, its square, and all four
        times A.

    Example:
        >>> near_ppo = drift(init(jax.random.key(0), Architecture()))
        >>> near_ppo(jnp.array(1.0), jnp.array(2.0)).item()
        0.0
    """
    _check_shapes(weights)
    require_positive("margin", margin)
    inside = ppo(clip_eps)

    def value(ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        return inside(ratio, advantage) + _network(weights, ratio, advantage)

    rectified = from_function(value, offset=margin)

    def drift(ratio: jax.Array, advantage: jax.Array) -> jax.Array:
        dtype = jnp.promote_types(jnp.result_type(ratio), jnp.float32)
        wide = jnp.asarray(ratio, dtype), jnp.asarray(advantage, dtype)
        return rectified(*wide).astype(jnp.result_type(ratio))

    return drift


def _network(weights: Weights, ratio: jax.Array, advantage: jax.Array) -> jax.Array:
    ratio = jnp.clip(ratio, 1 / _LARGEST_RATIO, _LARGEST_RATIO)
    u, x = ratio - 1, jnp.log(ratio)
    alone = jnp.stack([u, u**2, x, x**2], axis=-1)
    inputs = jnp.concatenate([alone, alone * advantage[..., None]], axis=-1)
    hidden = jnp.tanh(_dot(inputs, weights["dense_0"]["kernel"]))
    return _dot(hidden, weights["dense_1"]["kernel"])[..., 0]


def _dot(x: jax.Array, kernel: jax.Array) -> jax.Array:
    # A GPU would round to TF32, which near ratio 1 is more than the margin.
    return jnp.dot(x, jnp.asarray(kernel, x.dtype), precision=jax.lax.Precision.HIGHEST)


def _check_shapes(weights: Weights) -> None:
    try:
        width = jnp.shape(weights["dense_0"]["kernel"])[-1]
    except (KeyError, IndexError, TypeError) as error:
        raise WeightsError(
            "weights do not fit an LPO network: they need dense_0.kernel and "
            "dense_1.kernel. Use lpo.init(key, architecture) or lpo.pretrained(name)"
        ) from error
    architecture = Architecture(width)
    require_shapes(weights, lpo_shapes(architecture), architecture, "lpo.drift")


@prints_its_name
def from_artifact(artifact: artifacts.Artifact) -> Drift:
    """Return `drift` with the weights, clip range and margin of an artifact.

    Raises:
        ArtifactError: The artifact is of an algorithm other than ``"lpo"``.
        WeightsError: The weights do not fit an LPO network.

    Example:
        >>> from_artifact(artifacts.load("minatar"))
        Traceback (most recent call last):
            ...
        learned_opt_rl.errors.ArtifactError: artifact 'minatar' is of algorithm 'open',
        not 'lpo'; use learned_opt_rl.pretrained('minatar')
    """
    require_algorithm(artifact, "lpo")
    card = artifact.card
    sizes: Any = card.architecture
    return drift(artifact.weights, clip_eps=sizes["clip_eps"], margin=sizes["margin"])


def pretrained(name: str, *, fetch: bool = False) -> Drift:
    """Return a pretrained LPO drift by name, as ``rules.pretrained`` does."""
    return from_artifact(artifacts.load(name, fetch=fetch))
