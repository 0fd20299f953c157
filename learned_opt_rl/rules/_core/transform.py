"""The optax side of every learned optimizer.

A family describes itself by a `Rule`: what it remembers of each parameter, and one
step. `transformation` does everything that the families have in common: it checks what
the agent passes, counts steps, draws noise, finds out where in the run a step is,
removes the mean and casts to the parameters' dtypes.

Extra axes of the state come last: the momenta of a leaf are ``[*shape, 6]``. A
parameter's ``PartitionSpec`` then fits its state leaves unchanged, because axes that a
spec does not name are not sharded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.features import (
    Horizon,
    LeafRole,
    Networks,
    broadcast_dormancy,
    leaf_roles,
    proportions,
)
from learned_opt_rl.rules._core import checks
from learned_opt_rl.rules._core.leaves import split
from learned_opt_rl.rules._core.noise import exploration_noise, init_key, split_key


class RuleState(NamedTuple):
    """State of a learned optimizer: arrays only, so that any checkpointer can hold it.

    Attributes:
        count: int32 scalar, optimizer steps taken.
        memory: For each slot of the rule, a tree like the parameters of float32
            leaves ``[*shape, *channels]``: ``"momenta"`` with 6 channels, ``"carry"``
            with the units of a GRU, or the slots that an expression declares.
        key: uint32 random key data of the exploration noise; ``()`` for rules without.
    """

    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    memory: dict[str, Any]
    key: Any


class Inputs(NamedTuple):
    """What a rule may read in one step; lists are leaf by leaf, in leaf order.

    The fields from ``positions`` on are empty, or 0, for a rule without context.

    Attributes:
        params: Leaves ``[*shape]`` of any float dtype.
        gradients: Leaves of the same shapes.
        memory: For each slot, float32 leaves ``[*shape, *channels]``.
        positions: Layer proportion of each leaf, in [0, 1].
        dormancy: Per leaf a scalar, ``[last axis]`` or ``[*shape]``, float32.
        training_proportion: Scalar in [0, 1].
        batch_proportion: Scalar in [0, 1].
        count: int32 scalar, steps taken before this one.
        noise: float32 leaves ``[*shape]``, 0 for the critic's; empty for a rule
            without noise.
    """

    params: Sequence[jax.Array]
    gradients: Sequence[jax.Array]
    memory: Mapping[str, Sequence[jax.Array]]
    positions: Sequence[jax.Array | float] = ()
    dormancy: Sequence[jax.Array] = ()
    training_proportion: jax.Array | float = 0.0
    batch_proportion: jax.Array | float = 0.0
    count: jax.Array | int = 0  # pyright: ignore[reportIncompatibleMethodOverride]
    noise: Sequence[jax.Array] = ()


Outputs = tuple[list[jax.Array], dict[str, list[jax.Array]]]
"""float32 directions ``[*shape]``, and for each slot the leaves after the step."""


class Slot(NamedTuple):
    """One thing that a rule remembers of every parameter.

    Attributes:
        channels: Shape of what is remembered of one scalar parameter.
        start: Its value before the first step.
    """

    channels: tuple[int, ...] = ()
    start: float = 0.0


class Rule(NamedTuple):
    """A family at given weights.

    Attributes:
        slots: What it remembers, by name.
        step: From the inputs and the roles of the leaves to directions and memory.
        context: Whether it reads more than parameters, gradients and memory.
        noise: Whether it reads the noise.
        zero_mean: Whether the mean over all parameters is removed.
        past_horizon: What happens when a run outlasts its horizon, for messages.
    """

    slots: Mapping[str, Slot]
    step: Callable[[Inputs, list[LeafRole]], Outputs]
    context: bool = False
    noise: bool = False
    zero_mean: bool = True
    past_horizon: str = "training_proportion stays 1"


class Options(NamedTuple):
    """What the agent says of its run; see ``open_rl.scale_by_open``."""

    horizon: Horizon | None = None
    networks: Networks | None = None
    seed: int = 0
    key: jax.Array | None = None
    warn_past_horizon: bool = False


def transformation(
    rule: Rule, options: Options
) -> optax.GradientTransformationExtraArgs:
    """Return a rule as an optax transformation.

    Args:
        rule: The rule.
        options: What is known of the run; ``horizon`` is required with context.

    Returns:
        The transformation, whose updates are directions to be subtracted.

    Raises:
        TypeError: ``horizon`` is not a ``Horizon``, or ``seed`` or ``key`` no seed.
    """
    if rule.context:
        checks.require_horizon(options.horizon)
    if rule.noise:
        checks.require_seed(options.seed, options.key)

    def init_fn(params: optax.Params) -> RuleState:
        checks.require_floating(params)
        memory = {
            name: jax.tree.map(lambda leaf, slot=slot: _start(slot, leaf), params)
            for name, slot in rule.slots.items()
        }
        key = init_key(params, options.seed, options.key) if rule.noise else ()
        return RuleState(jnp.zeros((), jnp.int32), memory, key)

    def update_fn(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, RuleState]:
        checks.require_params(params)
        if not jax.tree.leaves(params):  # all masked away, as in multi_transform
            return updates, cast(RuleState, state)
        checks.require_state(state, RuleState)
        before = cast(RuleState, state)
        checks.require_trees(updates, params, before.memory, _channels(rule))
        leaves, structure = jax.tree.flatten(params)
        inputs = Inputs(
            params=leaves,
            gradients=jax.tree.leaves(updates),
            memory={
                name: jax.tree.leaves(tree) for name, tree in before.memory.items()
            },
        )
        roles, next_key = [], before.key
        if rule.context:
            roles = leaf_roles(params, options.networks)
            inputs = _in_context(inputs, params, before.count, roles, options, **extra)
            if options.warn_past_horizon:
                _warn_past(before.count, options.horizon, rule.past_horizon)
        if rule.noise:
            next_key, now = split_key(before.key, options.key)
            noise = split(exploration_noise(now, leaves, roles), leaves)
            inputs = inputs._replace(noise=noise)
        values, memory = rule.step(inputs, roles)
        if rule.zero_mean:
            values = without_mean(values)
        cast_values = [v.astype(p.dtype) for v, p in zip(values, leaves, strict=True)]
        return jax.tree.unflatten(structure, cast_values), RuleState(
            count=jnp.asarray(optax.safe_increment(before.count)),
            memory={n: jax.tree.unflatten(structure, m) for n, m in memory.items()},
            key=next_key,
        )

    return optax.GradientTransformationExtraArgs(
        init_fn, cast("Callable[..., Any]", update_fn)
    )


def without_mean(values: Sequence[jax.Array]) -> list[jax.Array]:
    """Return the values minus their mean over all entries of all leaves."""
    # A sum of sums: leaves that are sharded differently need not be concatenated.
    count = sum(value.size for value in values)
    mean = sum((value.sum() for value in values), jnp.zeros(())) / max(count, 1)
    return [value - mean for value in values]


def _start(slot: Slot, leaf: Any) -> jax.Array:
    return jnp.full((*jnp.shape(leaf), *slot.channels), slot.start, jnp.float32)


def _channels(rule: Rule) -> dict[str, tuple[int, ...]]:
    return {name: slot.channels for name, slot in rule.slots.items()}


def _in_context(
    inputs: Inputs,
    params: Any,
    count: jax.Array,
    roles: list[LeafRole],
    options: Options,
    *,
    dormancy: Any = None,
    training_proportion: jax.Array | float | None = None,
    batch_proportion: jax.Array | float | None = None,
    **unused: Any,
) -> Inputs:
    """Return the inputs with what the agent passes, and fallbacks for the rest."""
    del unused
    checks.require_scalar("training_proportion", training_proportion)
    checks.require_scalar("batch_proportion", batch_proportion)
    t_p, b_p = proportions(count, cast(Horizon, options.horizon))
    return inputs._replace(
        positions=[role.position for role in roles],
        dormancy=broadcast_dormancy(dormancy, params),
        training_proportion=t_p if training_proportion is None else training_proportion,
        batch_proportion=b_p if batch_proportion is None else batch_proportion,
        count=count,
    )


def _warn_past(count: jax.Array, horizon: Any, consequence: str) -> None:
    def warn(past: jax.Array) -> None:
        if past:
            print(
                f"learned_opt_rl: past the horizon of {horizon.total_updates} updates; "
                f"{consequence}. Pass horizon=Horizon(...) for longer runs"
            )

    jax.debug.callback(warn, count == horizon.total_updates)
