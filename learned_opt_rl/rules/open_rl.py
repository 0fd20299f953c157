"""OPEN: a learned optimiser for plasticity, exploration and non-stationarity.

One small network, shared by all parameters, turns each parameter's value,
gradient, six momenta, its layer, its neuron's dormancy and the progress of the
run into an update, with learned noise for the parameters of the actor.

References:
    Goldie, Lu, Jackson, Whiteson and Foerster, 2024: "Can Learned Optimization
    Make Reinforcement Learning Less Difficult?", sections 5, B and C.

Example:
    >>> import jax.numpy as jnp, optax
    >>> from learned_opt_rl import open_rl
    >>> params = {"w": jnp.ones(3)}
    >>> tx = open_rl.pretrained("minatar")
    >>> updates, state = tx.update({"w": jnp.ones(3)}, tx.init(params), params)
    >>> params = optax.apply_updates(params, updates)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import artifacts
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.features import (
    Horizon,
    Networks,
    broadcast_dormancy,
    init_momenta,
    leaf_roles,
)
from learned_opt_rl.rules import _open_network as network
from learned_opt_rl.rules import _tree_checks as checks
from learned_opt_rl.rules._noise import exploration_noise, init_key, split_key
from learned_opt_rl.rules._open_network import Architecture as Architecture
from learned_opt_rl.rules._open_network import Weights as Weights
from learned_opt_rl.rules._open_network import init as init
from learned_opt_rl.rules._open_step import split, step
from learned_opt_rl.rules._open_table import TableInputs
from learned_opt_rl.rules._progress import horizon_of, progress

if TYPE_CHECKING:
    from collections.abc import Callable

SCALE = 1e-3  # alpha_1 = alpha_2 = alpha_3 of the paper, appendix C


class ScaleByOpenState(NamedTuple):
    """State of ``scale_by_open``: arrays only, so any checkpointer can hold it.

    Attributes:
        count: int32 scalar, optimiser steps taken.
        momenta: Per leaf ``[6, *shape]`` float32.
        carry: Per leaf ``[units, *shape]`` float32 GRU state; ``()`` when
            feed-forward.
        key: uint32 random key data of the exploration noise.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    momenta: Any
    carry: Any
    key: jax.Array


def scale_by_open(
    weights: Weights,
    horizon: Horizon,
    *,
    networks: Networks | None = None,
    seed: int = 0,
    key: jax.Array | None = None,
    warn_past_horizon: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """OPEN with given weights, as an optax transformation.

    ``tx.update(grads, state, params)`` needs nothing else. Optional keywords of
    ``update``: ``dormancy`` (a tree prefix of the parameters with scalars or
    ``[neurons]`` arrays; 1 if not given), ``training_proportion`` and
    ``batch_proportion`` (scalars in [0, 1]; from the state's count and
    ``horizon`` if not given). Others are ignored. Gradients should be clipped as
    in the published agent: global norm 0.5.

    Arithmetic is float32; updates have the parameters' dtypes and are added to
    them as any optax update. Their mean over all parameters is removed, before
    the cast. There is no learning rate: the step size is part of the weights.

    Args:
        weights: Nested dict of float32 arrays (``init``, or an artifact's
            ``weights``). May be traced: vmap over a population and grad through
            ``update`` work.
        horizon: Length of the run.
        networks: Which parameters are whose, where paths do not say; see
            ``features.leaf_roles``.
        seed: Seed of the exploration noise.
        key: jax random key, instead of ``seed``.
        warn_past_horizon: Print one line when the run outlasts ``horizon``.

    Returns:
        A ``GradientTransformationExtraArgs`` with ``ScaleByOpenState``.

    Raises:
        WeightsError: ``weights`` are not those of an OPEN network.
        TypeError: ``horizon`` is no ``Horizon``; a parameter is not floating; the
            state is not of this kind.
        ValueError: In ``update``: ``params`` is missing; gradients, state,
            parameters, weights and dormancy do not fit together; a proportion is
            no scalar.

    References:
        Goldie et al. 2024, section 5 and appendix B.

    Example:
        >>> import jax
        >>> from learned_opt_rl import Horizon, open_rl
        >>> weights = open_rl.init(jax.random.key(0), open_rl.Architecture(8, 16))
        >>> tx = open_rl.scale_by_open(weights, Horizon(total_updates=1000))
    """
    architecture = network.architecture_of(weights)
    recurrent = architecture.carry is not None
    weights = jax.tree.map(lambda w: jnp.asarray(w, jnp.float32), weights)
    checks.require_horizon(horizon)
    checks.require_seed(seed, key)

    def init_fn(params: optax.Params) -> ScaleByOpenState:
        checks.require_floating(params)
        carry = ()
        if recurrent:
            units = architecture.carry
            carry = jax.tree.map(
                lambda p: jnp.zeros((units, *jnp.shape(p)), jnp.float32), params
            )
        return ScaleByOpenState(
            count=jnp.zeros((), jnp.int32),
            momenta=jax.tree.map(init_momenta, params),
            carry=carry,
            key=init_key(params, seed=seed, key=key),
        )

    def update_fn(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        *,
        dormancy: Any = None,
        training_proportion: jax.Array | float | None = None,
        batch_proportion: jax.Array | float | None = None,
        **unused: Any,
    ) -> tuple[optax.Updates, ScaleByOpenState]:
        del unused
        checks.require_params(params)
        if not jax.tree.leaves(params):  # all masked away, as in multi_transform
            return updates, cast(ScaleByOpenState, state)
        open_state = _checked_state(state, updates, params, architecture.carry)
        if warn_past_horizon:
            _warn_past(open_state.count, horizon)
        given = (training_proportion, batch_proportion)
        t_p, b_p = progress(open_state.count, horizon, given)
        roles = leaf_roles(params, networks)
        leaves, structure = jax.tree.flatten(params)
        inputs = TableInputs(
            params=leaves,
            gradients=jax.tree.leaves(updates),
            momenta=jax.tree.leaves(open_state.momenta),
            carries=jax.tree.leaves(open_state.carry),
            positions=[role.position for role in roles],
            dormancy=broadcast_dormancy(dormancy, params),
            training_proportion=t_p,
            batch_proportion=b_p,
        )
        stepped = step(weights, inputs)
        next_key, noise_key = split_key(open_state.key, key)
        noise = exploration_noise(noise_key, leaves, roles)
        pieces = split(_update(stepped.outputs, noise), leaves)
        moved = [p.astype(x.dtype) for p, x in zip(pieces, leaves, strict=True)]
        return jax.tree.unflatten(structure, moved), ScaleByOpenState(
            count=jnp.asarray(optax.safe_increment(open_state.count)),
            momenta=jax.tree.unflatten(structure, stepped.momenta),
            carry=jax.tree.unflatten(structure, stepped.carries) if recurrent else (),
            key=next_key,
        )

    return optax.GradientTransformationExtraArgs(
        init_fn, cast("Callable[..., Any]", update_fn)
    )


def from_artifact(
    artifact: artifacts.Artifact, *, horizon: Horizon | None = None, **options: Any
) -> optax.GradientTransformationExtraArgs:
    """``scale_by_open`` with the weights and horizon of an artifact.

    Args:
        artifact: A loaded artifact whose algorithm is ``"open"``.
        horizon: Length of your run; by default the one the artifact was trained
            for.
        **options: As for ``scale_by_open``.

    Returns:
        The optax transformation.

    Raises:
        ArtifactError: The artifact is of another algorithm, or neither it nor the
            caller gives a horizon.
        WeightsError: Its weights are not those of an OPEN network.

    Example:
        >>> from learned_opt_rl import artifacts, open_rl
        >>> tx = open_rl.from_artifact(artifacts.load("minatar"), seed=1)
    """
    if not isinstance(artifact, artifacts.Artifact):
        raise TypeError(
            f"artifact={artifact!r} is no Artifact; pass artifacts.load(name), or use "
            "open_rl.pretrained(name)"
        )
    card = artifact.card
    if card.algorithm != "open":
        raise ArtifactError(
            f"artifact '{card.name}' is of algorithm '{card.algorithm}', not 'open'; "
            f"use learned_opt_rl.pretrained('{card.name}')"
        )
    return scale_by_open(artifact.weights, horizon_of(card, horizon), **options)


def pretrained(
    name: str,
    *,
    fetch: bool = False,
    horizon: Horizon | None = None,
    networks: Networks | None = None,
    seed: int = 0,
    key: jax.Array | None = None,
    warn_past_horizon: bool = False,
) -> optax.GradientTransformationExtraArgs:
    """A pretrained OPEN artifact by name: one line in an agent.

    Args:
        name: Name of the artifact, e.g. ``"minatar"`` or ``"goldie2024/minatar"``.
        fetch: Download a remote artifact that is not in the cache yet.
        horizon: Length of your run; by default the one the artifact was trained
            for. ``Horizon.ppo(...)`` computes it.
        networks: As for ``scale_by_open``, and so are the others.
        seed: Seed of the exploration noise.
        key: jax random key, instead of ``seed``.
        warn_past_horizon: Print one line when the run outlasts ``horizon``.

    Returns:
        The optax transformation; chain ``optax.clip_by_global_norm(0.5)`` before it.

    Raises:
        ArtifactError: The name is unknown, or card or weights are unusable.
        FetchError: The artifact is remote, and not cached or not to be had.

    Example:
        >>> import optax
        >>> from learned_opt_rl import open_rl
        >>> tx = optax.chain(
        ...     optax.clip_by_global_norm(0.5), open_rl.pretrained("minatar")
        ... )
    """
    return from_artifact(
        artifacts.load(name, fetch=fetch),
        horizon=horizon,
        networks=networks,
        seed=seed,
        key=key,
        warn_past_horizon=warn_past_horizon,
    )


def _checked_state(
    state: Any, updates: Any, params: Any, units: int | None
) -> ScaleByOpenState:
    if not isinstance(state, ScaleByOpenState):
        raise TypeError(
            f"state is a {type(state).__name__}, not a ScaleByOpenState: pass what "
            "tx.init(params), or the tx.update before, returned"
        )
    checks.require_same_structure(updates, params, state.momenta)
    checks.require_carry(state.carry, units)
    return state


def _update(outputs: jax.Array, noise: jax.Array) -> jax.Array:
    """The zero-mean update of ``[3, n]`` outputs, in optax's sign; appendix B."""
    magnitude = SCALE * outputs[0] * jnp.exp(SCALE * outputs[1])
    update = magnitude + SCALE * outputs[2] * noise
    return jnp.mean(update) - update


def _warn_past(count: jax.Array, horizon: Horizon) -> None:
    def warn(past: jax.Array) -> None:
        if past:
            print(
                f"learned_opt_rl: past the horizon of {horizon.total_updates} updates; "
                "training_proportion stays 1. Pass horizon=Horizon(...) for longer runs"
            )

    jax.debug.callback(warn, count == horizon.total_updates)
