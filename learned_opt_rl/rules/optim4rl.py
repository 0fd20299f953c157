"""Optim4RL: a learned optimiser shaped like Adam, with two small towers.

One tower turns each parameter's gradient into a first pseudo-moment M, the other into a
second, V; the update is ``-learning_rate * M / sqrt(V)``. The authors' repository holds
two optimisers of this name: that of the preprint, which OPEN's paper compares with, and
that of its rewrite for the Reinforcement Learning Conference.

References:
    Lan, Mahmood, Yan and Xu, 2024: "Learning to Optimize for Reinforcement Learning",
    and its preprint of 2023; https://github.com/sail-sg/optim4rl.

Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from learned_opt_rl.rules import optim4rl
    >>> params = {"w": jnp.ones(3)}
    >>> architecture = optim4rl.Architecture("arxiv2023", carry=8, width=16)
    >>> weights = optim4rl.init(jax.random.key(0), architecture)
    >>> tx = optim4rl.scale_by_optim4rl(weights, learning_rate=1e-3)
    >>> updates, state = tx.update({"w": jnp.ones(3)}, tx.init(params), params)
    >>> params = optax.apply_updates(params, updates)
"""

from __future__ import annotations

import numbers
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import artifacts
from learned_opt_rl.errors import ArtifactError, WeightsError
from learned_opt_rl.rules import _optim4rl_network as network
from learned_opt_rl.rules import _tree_checks as checks
from learned_opt_rl.rules._artifact import require_algorithm
from learned_opt_rl.rules._leaves import as_carry, as_updates, init_carry
from learned_opt_rl.rules._optim4rl_network import Architecture as Architecture
from learned_opt_rl.rules._optim4rl_network import Version as Version
from learned_opt_rl.rules._optim4rl_network import init as init
from learned_opt_rl.rules._optim4rl_step import STEPS, Inputs
from learned_opt_rl.rules._weights import Weights as Weights
from learned_opt_rl.rules._weights import as_float32


class ScaleByOptim4RLState(NamedTuple):
    """State of ``scale_by_optim4rl``: arrays only.

    Attributes:
        count: int32 scalar, optimiser steps taken; only a learning-rate schedule
            reads it.
        carry: Per leaf ``[2 * units, *shape]`` float32: the state of the first
            tower's GRU, then of the second's.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    carry: Any


def scale_by_optim4rl(
    weights: Weights,
    learning_rate: optax.ScalarOrSchedule,
    *,
    version: Version | None = None,
    grad_clip: float | None = 1.0,
) -> optax.GradientTransformationExtraArgs:
    """Optim4RL with given weights, as an optax transformation.

    Every scalar parameter is treated alike and alone. Where the gradient is 0 the
    update is 0, and the GRUs still advance. With ``"rlc2024"`` the update's sign is
    always that of the negative gradient; with ``"arxiv2023"`` a learned sign may flip
    it. Gradients are constants to ``jax.grad``: meta-gradients reach the weights
    through the towers and the parameters, never through what the towers see.

    Arithmetic is float32; updates have the parameters' dtypes and are added to
    them as any optax update. Keywords of ``update`` are ignored: there is no time,
    depth, dormancy or noise, and no mean is removed.

    Args:
        weights: Nested dict of float32 arrays (``init``, or an artifact's
            ``weights``). May be traced: vmap over a population and grad through
            ``update`` work.
        learning_rate: A fixed scale outside the network, chosen per environment; the
            OPEN paper takes a tenth of Adam's. Or an optax schedule of the step.
        version: ``"arxiv2023"`` or ``"rlc2024"``; by default the one whose weights
            these are. Given, it is checked.
        grad_clip: Each element of the gradient is clipped to ``[-c, c]`` first, as
            the published weights expect; ``None`` to leave it.

    Returns:
        A ``GradientTransformationExtraArgs`` with ``ScaleByOptim4RLState``.

    Raises:
        WeightsError: ``weights`` are not those of an Optim4RL network, or of the other
            version.
        TypeError: A parameter is not floating; the state is not of this kind.
        ValueError: There is no such version; ``grad_clip`` is not positive. In
            ``update``: ``params`` is missing; gradients, state, parameters and
            weights do not fit together.

    References:
        Lan et al. 2024, section 4; its preprint of 2023. Goldie et al. 2024, section
        6.1 and appendix B.4, for the sizes and learning rates of OPEN's baseline.

    Example:
        >>> import jax, optax
        >>> from learned_opt_rl.rules import optim4rl
        >>> architecture = optim4rl.Architecture("rlc2024", carry=8, width=None)
        >>> weights = optim4rl.init(jax.random.key(0), architecture)
        >>> annealed = optax.linear_schedule(1e-3, 0.0, transition_steps=1000)
        >>> tx = optim4rl.scale_by_optim4rl(weights, annealed)
    """
    architecture = _architecture(weights, version)
    _require_clip(grad_clip)
    weights, step = as_float32(weights), STEPS[architecture.version]

    def init_fn(params: optax.Params) -> ScaleByOptim4RLState:
        checks.require_floating(params)
        carry = init_carry(params, 2 * architecture.carry)
        return ScaleByOptim4RLState(count=jnp.zeros((), jnp.int32), carry=carry)

    def update_fn(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **unused: Any,
    ) -> tuple[optax.Updates, ScaleByOptim4RLState]:
        del unused
        checks.require_params(params)
        checks.require_state(state, ScaleByOptim4RLState)
        memory = cast(ScaleByOptim4RLState, state)
        if not jax.tree.leaves(params):  # all masked away, as in multi_transform
            return updates, memory
        checks.require_same_structure(updates, params, memory.carry)
        checks.require_carry(memory.carry, 2 * architecture.carry)
        gradients = [_clipped(g, grad_clip) for g in jax.tree.leaves(updates)]
        stepped = step(weights, Inputs(gradients, jax.tree.leaves(memory.carry)))
        rate = learning_rate(memory.count) if callable(learning_rate) else learning_rate
        rate = jnp.asarray(rate, jnp.float32)
        return as_updates(-rate * stepped.ratio, params), ScaleByOptim4RLState(
            count=jnp.asarray(optax.safe_increment(memory.count)),
            carry=as_carry(stepped.carries, params),
        )

    return optax.GradientTransformationExtraArgs(
        init_fn, cast("Callable[..., Any]", update_fn)
    )


def from_artifact(
    artifact: artifacts.Artifact,
    *,
    learning_rate: optax.ScalarOrSchedule | None = None,
    grad_clip: float | None = 1.0,
    **unused: Any,
) -> optax.GradientTransformationExtraArgs:
    """``scale_by_optim4rl`` with the weights, version and rate of an artifact.

    Args:
        artifact: A loaded artifact whose algorithm is ``"optim4rl"``.
        learning_rate: By default the ``learning_rate`` of the card's architecture,
            the one it was trained with.
        grad_clip: As for ``scale_by_optim4rl``.
        **unused: Accepted and ignored, such as ``horizon`` and ``key``.

    Returns:
        The optax transformation.

    Raises:
        ArtifactError: The artifact is of another algorithm, or neither its card nor
            the caller gives a learning rate.
        WeightsError: Its weights are not those of an Optim4RL network.

    Example:
        >>> from learned_opt_rl import artifacts
        >>> from_artifact(artifacts.load("minatar"))
        Traceback (most recent call last):
            ...
        learned_opt_rl.errors.ArtifactError: artifact 'minatar' is of algorithm
        'open', not 'optim4rl'; use learned_opt_rl.pretrained('minatar')
    """
    del unused
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
    return scale_by_optim4rl(
        artifact.weights, learning_rate, version=version, grad_clip=grad_clip
    )


def pretrained(
    name: str, *, fetch: bool = False, **options: Any
) -> optax.GradientTransformationExtraArgs:
    """A pretrained Optim4RL artifact by name.

    Args:
        name: Name of the artifact; ``learned-opt-rl list`` shows them all.
        fetch: Download a remote artifact that is not in the cache yet.
        **options: As for ``from_artifact``: ``learning_rate``, ``grad_clip``.

    Returns:
        The optax transformation.

    Raises:
        ArtifactError: The name is unknown, or card or weights are unusable.
        FetchError: The artifact is remote, and not cached or not to be had.

    Example:
        >>> pretrained("nobody/nothing")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        learned_opt_rl.errors.UnknownArtifactError: ...
    """
    return from_artifact(artifacts.load(name, fetch=fetch), **options)


def _architecture(weights: Weights, version: Version | None) -> Architecture:
    """The architecture of weights that must be of a version, if it is given."""
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


def _clipped(gradient: jax.Array, limit: float | None) -> jax.Array:
    return gradient if limit is None else jnp.clip(gradient, -limit, limit)
