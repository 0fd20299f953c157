"""The optax side of OPEN: state, checks, time, noise; the network is an argument."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.features import (
    Horizon,
    LeafRole,
    Networks,
    broadcast_dormancy,
    init_momenta,
    leaf_roles,
)
from learned_opt_rl.rules import _tree_checks as checks
from learned_opt_rl.rules._leaves import as_carry, as_updates, init_carry
from learned_opt_rl.rules._noise import exploration_noise, init_key, split_key
from learned_opt_rl.rules._open_step import (
    SCALE,
    StepOutputs,
    deterministic_update,
    zero_mean,
)
from learned_opt_rl.rules._open_table import TableInputs
from learned_opt_rl.rules._progress import progress

Run = Callable[[TableInputs, list[LeafRole]], StepOutputs]
"""One step of the network for one agent."""


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


class Options(NamedTuple):
    """The options of ``scale_by_open``, as it documents them."""

    networks: Networks | None
    seed: int
    key: jax.Array | None
    warn_past_horizon: bool


def transformation(
    run: Run, units: int | None, horizon: Horizon, options: Options
) -> optax.GradientTransformationExtraArgs:
    """OPEN around a step of its network.

    Args:
        run: The step.
        units: Of its GRU; ``None`` when feed-forward.
        horizon: Length of the run.
        options: As for ``scale_by_open``.

    Returns:
        The transformation.

    Raises:
        TypeError: ``horizon`` is no ``Horizon``.
    """
    checks.require_horizon(horizon)
    checks.require_seed(options.seed, options.key)

    def init_fn(params: optax.Params) -> ScaleByOpenState:
        checks.require_floating(params)
        return ScaleByOpenState(
            count=jnp.zeros((), jnp.int32),
            momenta=jax.tree.map(init_momenta, params),
            carry=init_carry(params, units),
            key=init_key(params, seed=options.seed, key=options.key),
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
        open_state = _checked_state(state, updates, params, units)
        if options.warn_past_horizon:
            _warn_past(open_state.count, horizon)
        given = (training_proportion, batch_proportion)
        t_p, b_p = progress(open_state.count, horizon, given)
        roles = leaf_roles(params, options.networks)
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
        stepped = run(inputs, roles)
        next_key, noise_key = split_key(open_state.key, options.key)
        noise = exploration_noise(noise_key, leaves, roles)
        moved = as_updates(_update(stepped.outputs, noise), params)
        return moved, ScaleByOpenState(
            count=jnp.asarray(optax.safe_increment(open_state.count)),
            momenta=jax.tree.unflatten(structure, stepped.momenta),
            carry=as_carry(stepped.carries, params),
            key=next_key,
        )

    return optax.GradientTransformationExtraArgs(
        init_fn, cast("Callable[..., Any]", update_fn)
    )


def _checked_state(
    state: Any, updates: Any, params: Any, units: int | None
) -> ScaleByOpenState:
    checks.require_state(state, ScaleByOpenState)
    checks.require_same_structure(updates, params, state.momenta)
    checks.require_carry(state.carry, units)
    return state


def _update(outputs: jax.Array, noise: jax.Array) -> jax.Array:
    """The zero-mean update of ``[3, n]`` outputs, in optax's sign; appendix B."""
    return zero_mean(deterministic_update(outputs) + SCALE * outputs[2] * noise)


def _warn_past(count: jax.Array, horizon: Horizon) -> None:
    def warn(past: jax.Array) -> None:
        if past:
            print(
                f"learned_opt_rl: past the horizon of {horizon.total_updates} updates; "
                "training_proportion stays 1. Pass horizon=Horizon(...) for longer runs"
            )

    jax.debug.callback(warn, count == horizon.total_updates)
