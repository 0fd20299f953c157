"""No Features: OPEN's network without what OPEN adds for reinforcement learning.

A baseline of the OPEN paper that sees gradients and momenta alone: no time, depth or
dormancy, no noise. The recurrent form is that of the OPEN paper; the feed-forward one,
which also sees the parameter's value, is that of its successor.

References:
    Goldie, Lu, Jackson, Whiteson and Foerster, 2024: "Can Learned Optimization
    Make Reinforcement Learning Less Difficult?", section 6.1 and appendix B.4.
    Goldie et al., 2025: "How Should We Meta-Learn RL Algorithms?", section 5 and
    Table 8.

Example:
    >>> import jax, jax.numpy as jnp, optax
    >>> from learned_opt_rl.rules import no_features
    >>> params = {"w": jnp.ones(3)}
    >>> weights = no_features.init(jax.random.key(0), no_features.Architecture(8, 16))
    >>> tx = no_features.scale_by_no_features(weights)
    >>> updates, state = tx.update({"w": jnp.ones(3)}, tx.init(params), params)
    >>> params = optax.apply_updates(params, updates)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import optax

from learned_opt_rl import artifacts
from learned_opt_rl.families.open_network import no_features_shapes
from learned_opt_rl.features import init_momenta
from learned_opt_rl.rules import _open_network as network
from learned_opt_rl.rules import _tree_checks as checks
from learned_opt_rl.rules._artifact import require_algorithm
from learned_opt_rl.rules._leaves import as_carry, as_updates, init_carry
from learned_opt_rl.rules._no_features_table import TableInputs, feature_table
from learned_opt_rl.rules._open_network import Architecture as Architecture
from learned_opt_rl.rules._open_network import Weights as Weights
from learned_opt_rl.rules._open_step import (
    deterministic_update,
    step_reading,
    zero_mean,
)
from learned_opt_rl.rules._weights import as_float32, draw_weights

_FAMILY = network.Family(
    "a No Features network", "no_features", "scale_by_no_features", no_features_shapes
)
_step = step_reading(feature_table)


class ScaleByNoFeaturesState(NamedTuple):
    """State of ``scale_by_no_features``: arrays only.

    Attributes:
        momenta: Per leaf ``[6, *shape]`` float32.
        carry: Per leaf ``[units, *shape]`` float32 GRU state; ``()`` when
            feed-forward.
    """

    momenta: Any
    carry: Any


def init(key: jax.Array, architecture: Architecture) -> Weights:
    """Random weights, as a starting point for training.

    Args:
        key: jax random key.
        architecture: Sizes of the network; ``carry=None`` for the feed-forward form.

    Returns:
        Nested dict of float32 arrays, drawn as by ``open_rl.init``.

    Example:
        >>> import jax
        >>> weights = init(jax.random.key(0), Architecture(carry=None, width=32))
        >>> weights["mlp"]["dense_0"]["kernel"].shape
        (8, 32)
    """
    shapes = no_features_shapes(architecture)
    return draw_weights(key, shapes)


def scale_by_no_features(weights: Weights) -> optax.GradientTransformationExtraArgs:
    """No Features with given weights, as an optax transformation.

    The weights decide the form: with ``gru``, six momenta and the gradient enter as
    sign and logarithm; without, as they are, and beside them the parameter's value.
    Each input is divided by its rms over the leaf. Keywords of ``update`` are ignored:
    there is no time, dormancy or noise. Gradients should be clipped as in the
    published agent: global norm 0.5.

    Arithmetic is float32; updates have the parameters' dtypes and are added to
    them as any optax update. Their mean over all parameters is removed, before
    the cast. There is no learning rate: the step size is part of the weights.

    Args:
        weights: Nested dict of float32 arrays (``init``, or an artifact's
            ``weights``). May be traced: vmap over a population and grad through
            ``update`` work.

    Returns:
        A ``GradientTransformationExtraArgs`` with ``ScaleByNoFeaturesState``.

    Raises:
        WeightsError: ``weights`` are not those of a No Features network.
        TypeError: A parameter is not floating; the state is not of this kind.
        ValueError: In ``update``: ``params`` is missing; gradients, state, parameters
            and weights do not fit together.

    References:
        Goldie et al. 2024, section 6.1 and appendix B.4; Goldie et al. 2025, Table 8.

    Example:
        >>> import jax
        >>> from learned_opt_rl.rules import no_features
        >>> feed_forward = no_features.Architecture(carry=None, width=16)
        >>> weights = no_features.init(jax.random.key(0), feed_forward)
        >>> tx = no_features.scale_by_no_features(weights)
    """
    units = network.architecture_of(weights, _FAMILY).carry
    weights = as_float32(weights)

    def init_fn(params: optax.Params) -> ScaleByNoFeaturesState:
        checks.require_floating(params)
        return ScaleByNoFeaturesState(
            momenta=jax.tree.map(init_momenta, params),
            carry=init_carry(params, units),
        )

    def update_fn(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **unused: Any,
    ) -> tuple[optax.Updates, ScaleByNoFeaturesState]:
        del unused
        checks.require_params(params)
        checks.require_state(state, ScaleByNoFeaturesState)
        memory = cast(ScaleByNoFeaturesState, state)
        if not jax.tree.leaves(params):  # all masked away, as in multi_transform
            return updates, memory
        checks.require_same_structure(updates, params, memory.momenta)
        checks.require_carry(memory.carry, units)
        trees = (params, updates, memory.momenta, memory.carry)
        stepped = _step(weights, TableInputs(*map(jax.tree.leaves, trees)))
        update = zero_mean(deterministic_update(stepped.outputs))
        return as_updates(update, params), ScaleByNoFeaturesState(
            momenta=jax.tree.unflatten(jax.tree.structure(params), stepped.momenta),
            carry=as_carry(stepped.carries, params),
        )

    return optax.GradientTransformationExtraArgs(
        init_fn, cast("Callable[..., Any]", update_fn)
    )


def from_artifact(
    artifact: artifacts.Artifact, **unused: Any
) -> optax.GradientTransformationExtraArgs:
    """``scale_by_no_features`` with the weights of an artifact.

    Args:
        artifact: A loaded artifact whose algorithm is ``"no_features"``.
        **unused: Accepted and ignored, such as ``horizon`` and ``key``.

    Returns:
        The optax transformation.

    Raises:
        ArtifactError: The artifact is of another algorithm.
        WeightsError: Its weights are not those of a No Features network.

    Example:
        >>> from learned_opt_rl import artifacts
        >>> from_artifact(artifacts.load("minatar"))
        Traceback (most recent call last):
            ...
        learned_opt_rl.errors.ArtifactError: artifact 'minatar' is of algorithm
        'open', not 'no_features'; use learned_opt_rl.pretrained('minatar')
    """
    del unused
    require_algorithm(artifact, "no_features")
    return scale_by_no_features(artifact.weights)


def pretrained(
    name: str, *, fetch: bool = False
) -> optax.GradientTransformationExtraArgs:
    """A pretrained No Features artifact by name.

    Args:
        name: Name of the artifact; ``learned-opt-rl list`` shows them all.
        fetch: Download a remote artifact that is not in the cache yet.

    Returns:
        The optax transformation; chain ``optax.clip_by_global_norm(0.5)`` before it.

    Raises:
        ArtifactError: The name is unknown, or card or weights are unusable.
        FetchError: The artifact is remote, and not cached or not to be had.

    Example:
        >>> pretrained("nobody/nothing")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        learned_opt_rl.errors.UnknownArtifactError: ...
    """
    return from_artifact(artifacts.load(name, fetch=fetch))
