"""Optim4RL: a learned optimizer shaped like Adam, with two small towers.

One tower turns each parameter's gradient into a first pseudo-moment M, the other into a
second, V; the direction is ``M / sqrt(V)``. The authors' repository has two optimizers
of this name: the one of the preprint, which the OPEN paper compares with, and the one
of its rewrite for the Reinforcement Learning Conference.

References:
    Lan, Mahmood, Yan and Xu, 2024: "Learning to Optimize for Reinforcement Learning",
    and its preprint of 2023; https://github.com/sail-sg/optim4rl.

Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from learned_opt_rl import optim4rl
    >>> params = {"w": jnp.ones(3)}
    >>> architecture = optim4rl.Architecture("arxiv2023", carry=8, width=16)
    >>> weights = optim4rl.init(jax.random.key(0), architecture)
    >>> tx = optim4rl.optimizer(weights, learning_rate=1e-3)
    >>> updates, state = tx.update({"w": jnp.ones(3)}, tx.init(params), params)
    >>> params = optax.apply_updates(params, updates)
"""

from __future__ import annotations

import functools
import numbers
from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import artifacts
from learned_opt_rl.errors import ArtifactError, WeightsError
from learned_opt_rl.families.optim4rl import Architecture, Version, optim4rl_shapes
from learned_opt_rl.features import Horizon, LeafRole
from learned_opt_rl.rules._core.artifact import require_algorithm
from learned_opt_rl.rules._core.transform import (
    Inputs,
    Options,
    Outputs,
    Rule,
    RuleState,
    Slot,
    transformation,
)
from learned_opt_rl.rules._core.weights import Weights, as_float32, draw_weights
from learned_opt_rl.rules._optim4rl import network

__all__ = [
    "Architecture",
    "RuleState",
    "Version",
    "Weights",
    "from_artifact",
    "init",
    "optimizer",
    "pretrained",
    "scale_by_optim4rl",
]


def __dir__() -> list[str]:
    return __all__


def init(key: jax.Array, architecture: Architecture) -> Weights:
    """Return random weights, as a starting point for training.

    Args:
        key: jax random key.
        architecture: Version and sizes.

    Returns:
        Nested dict of float32 arrays, initialized as Flax does: LeCun-normal kernels
        (orthogonal for the GRUs' recurrent maps) and zero biases. The first
        updates are then about a learning rate along the gradient's sign.

    Example:
        >>> import jax
        >>> weights = init(jax.random.key(0), Architecture("arxiv2023", 8, 16))
        >>> weights["tower_1"]["mlp"]["dense_2"]["kernel"].shape
        (16, 2)
    """
    return draw_weights(key, optim4rl_shapes(architecture))


def scale_by_optim4rl(
    weights: Weights, *, version: Version | None = None, grad_clip: float | None = 1.0
) -> optax.GradientTransformationExtraArgs:
    """Replace gradients by Optim4RL's direction ``M / sqrt(V)``.

    As with optax's ``scale_by_*``, the result is to be multiplied by a negative
    learning rate, which ``optimizer`` does.

    Every scalar parameter is treated alike and alone. Where the gradient is 0 the
    direction is 0, and the GRUs still advance. With ``"rlc2024"`` the direction has
    the gradient's sign; with ``"arxiv2023"`` a learned sign may flip it. Gradients are
    constants to ``jax.grad``: meta-gradients reach the weights through the towers and
    the parameters, never through the towers' inputs.

    The arithmetic is float32, and the direction has the parameters' dtypes. Keywords
    of ``update`` are ignored: the rule has no time, depth, dormancy or noise, and no
    mean is removed.

    Args:
        weights: Nested dict of float32 arrays (``init``, or an artifact's
            ``weights``). May be traced: vmap over a population and grad through
            ``update`` work.
        version: ``"arxiv2023"`` or ``"rlc2024"``; by default the version that the
            weights belong to. A given version is checked.
        grad_clip: Clip each element of the gradient to ``[-c, c]`` first, as the
            published weights expect; ``None`` clips nothing.

    Returns:
        A ``GradientTransformationExtraArgs`` with ``RuleState``.

    Raises:
        WeightsError: ``weights`` do not fit an Optim4RL network, or belong to the
            other version.
        TypeError: A parameter is not floating; the state is of another kind.
        ValueError: There is no such version; ``grad_clip`` is not positive. In
            ``update``: ``params`` is missing; gradients, state, parameters and
            weights do not fit together.

    References:
        Lan et al. 2024, section 4; its preprint of 2023. Goldie et al. 2024, section
        6.1 and appendix B.4, for the sizes and learning rates of OPEN's baseline.

    Example:
        >>> import jax, optax
        >>> from learned_opt_rl import optim4rl
        >>> architecture = optim4rl.Architecture("rlc2024", carry=8, width=None)
        >>> weights = optim4rl.init(jax.random.key(0), architecture)
        >>> rule = optim4rl.scale_by_optim4rl(weights)
        >>> tx = optax.chain(rule, optax.scale_by_learning_rate(1e-3))
    """
    units = 2 * _architecture(weights, version).carry
    _require_clip(grad_clip)
    weights = as_float32(weights)

    def step(inputs: Inputs, roles: list[LeafRole]) -> Outputs:
        del roles
        if grad_clip is not None:
            clipped = [jnp.clip(g, -grad_clip, grad_clip) for g in inputs.gradients]
            inputs = inputs._replace(gradients=clipped)
        return network.step(weights, inputs)

    rule = Rule({"carry": Slot((units,))}, step, zero_mean=False)
    return transformation(rule, Options())


def optimizer(
    weights: Weights,
    learning_rate: optax.ScalarOrSchedule,
    horizon: Horizon | None = None,
    *,
    version: Version | None = None,
    grad_clip: float | None = 1.0,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return Optim4RL with given weights, ready for ``optax.apply_updates``.

    Args:
        weights: As for ``scale_by_optim4rl``.
        learning_rate: A fixed scale, which may be traced, or an optax schedule. It is
            chosen for each environment; the OPEN paper takes a tenth of Adam's.
        horizon: Not used; every family accepts it, so that rules can be swapped.
        version: As for ``scale_by_optim4rl``.
        grad_clip: As for ``scale_by_optim4rl``.
        **options: ``networks``, ``seed``, ``key`` and ``warn_past_horizon``, not used.

    Returns:
        ``optax.chain(scale_by_optim4rl(...), optax.scale_by_learning_rate(...))``.
        The state is a pair whose first element is the ``RuleState``.

    Raises:
        WeightsError: As for ``scale_by_optim4rl``.
        ValueError: As for ``scale_by_optim4rl``.
        TypeError: An option has another name.

    Example:
        >>> import jax, optax
        >>> from learned_opt_rl import optim4rl
        >>> architecture = optim4rl.Architecture("rlc2024", carry=8, width=None)
        >>> weights = optim4rl.init(jax.random.key(0), architecture)
        >>> annealed = optax.linear_schedule(1e-3, 0.0, transition_steps=1000)
        >>> tx = optim4rl.optimizer(weights, annealed)
    """
    Options(horizon, **options)  # refuses other names
    direction = scale_by_optim4rl(weights, version=version, grad_clip=grad_clip)
    if isinstance(learning_rate, jax.Array):
        # optax.scale by a float32 array would promote the updates of bfloat16 leaves.
        learning_rate = functools.partial(_constant, learning_rate)
    return optax.chain(direction, optax.scale_by_learning_rate(learning_rate))


def from_artifact(
    artifact: artifacts.Artifact,
    *,
    learning_rate: optax.ScalarOrSchedule | None = None,
    environment: str | None = None,
    **options: Any,
) -> optax.GradientTransformationExtraArgs:
    """Return ``optimizer`` with the weights, version and learning rate of an artifact.

    Args:
        artifact: A loaded artifact of algorithm ``"optim4rl"``.
        learning_rate: By default the ``learning_rate`` of the card's architecture,
            which the artifact was trained with.
        environment: Not used; every family accepts it.
        **options: As for ``optimizer``.

    Returns:
        The optax transformation.

    Raises:
        ArtifactError: The artifact is of another algorithm, or neither its card nor
            the caller gives a learning rate.
        WeightsError: The weights do not fit an Optim4RL network.

    Example:
        >>> from learned_opt_rl import artifacts, optim4rl
        >>> tx = optim4rl.from_artifact(artifacts.load("optim4rl/breakout"))
    """
    del environment
    require_algorithm(artifact, "optim4rl")
    architecture = dict[str, Any](artifact.card.architecture)
    if learning_rate is None:
        learning_rate = architecture.get("learning_rate")
    if learning_rate is None:
        raise ArtifactError(
            f"the card of '{artifact.card.name}' names no learning_rate; pass "
            "learning_rate=, for example a tenth of the one tuned for Adam"
        )
    version = architecture["version"]
    return optimizer(artifact.weights, learning_rate, version=version, **options)


def pretrained(
    name: str, *, fetch: bool = False, **options: Any
) -> optax.GradientTransformationExtraArgs:
    """Return a pretrained Optim4RL by name.

    Args:
        name: As for ``rules.pretrained``, like ``fetch`` and the errors.
        fetch: Download a remote artifact that is not in the cache yet.
        **options: As for ``from_artifact``.

    Example:
        >>> from learned_opt_rl import optim4rl
        >>> tx = optim4rl.pretrained("optim4rl/breakout", learning_rate=3e-4)
    """
    return from_artifact(artifacts.load(name, fetch=fetch), **options)


def _constant(rate: jax.Array, count: Any) -> jax.Array:
    del count
    return rate


def _architecture(weights: Weights, version: Version | None) -> Architecture:
    """Return the architecture of weights, which a given version must fit."""
    if version is not None:
        network.require_version(version)
    architecture = network.architecture_of(weights)
    if version not in (None, architecture.version):
        raise WeightsError(
            f"version={version!r}, but the weights are of {architecture}; leave "
            "version out, or give weights of that version"
        )
    return architecture


def _require_clip(grad_clip: Any) -> None:
    if grad_clip is None:
        return
    is_number = isinstance(grad_clip, numbers.Real) and not isinstance(grad_clip, bool)
    if not is_number or not float(grad_clip) > 0:
        raise ValueError(
            f"grad_clip={grad_clip!r} must be a positive number; give None to clip "
            "nothing"
        )
