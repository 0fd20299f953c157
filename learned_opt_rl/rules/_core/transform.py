"""The optax side of every learned optimizer.

A family describes itself by a `Rule`: what it remembers of each parameter, and one
step. `transformation` does everything that the families have in common: it checks what
the agent passes, counts steps, draws noise, finds out where in the run a step is,
removes the mean and casts to the parameters' dtypes.

Extra axes of the state come last: the momenta of a leaf are ``[*shape, 6]``. A
parameter's ``PartitionSpec`` then fits its state leaves unchanged, because axes that a
spec does not name are not sharded.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.features import (
    Horizon,
    LeafRole,
    broadcast_dormancy,
    leaf_roles,
    proportions,
    roles_or_warning,
)
from learned_opt_rl.rules._core import checks
from learned_opt_rl.rules._core.centering import are_tables, settled
from learned_opt_rl.rules._core.network import by_size, split
from learned_opt_rl.rules._core.noise import advance, typed
from learned_opt_rl.rules._core.notice import notice_past
from learned_opt_rl.rules._core.options import Options
from learned_opt_rl.rules._core.sharding import (
    beside,
    follow,
    start_like,
    with_auto_axes,
)

_FLAG = "had a gradient"  # a slot's name; no expression can declare it


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

    The fields from ``positions`` on are empty, or 0, for a rule without context, but
    ``count`` is given to every rule.
    """

    params: Sequence[jax.Array]  # [*shape] of any float dtype
    gradients: Sequence[jax.Array]  # the same shapes
    memory: Mapping[str, Sequence[jax.Array]]  # by slot, float32 [*shape, *channels]
    positions: Sequence[jax.Array | float] = ()  # layer proportions in [0, 1]
    dormancy: Sequence[jax.Array] = ()  # scalar, [last axis] or [*shape], float32
    training_proportion: jax.Array | float = 0.0
    batch_proportion: jax.Array | float = 0.0
    # int32 scalar, steps taken before this one
    count: jax.Array | int = 0  # pyright: ignore[reportIncompatibleMethodOverride]
    noise: Sequence[jax.Array] = ()  # float32 [*shape], 0 for the critic's


Outputs = tuple[list[jax.Array], dict[str, list[jax.Array]]]
"""float32 directions ``[*shape]``, and for each slot the leaves after the step."""


class Slot(NamedTuple):
    """One thing that a rule remembers of every scalar parameter."""

    channels: tuple[int, ...] = ()
    start: float = 0.0  # value before the first step
    dtype: Any = jnp.float32


class Rule(NamedTuple):
    """A family at given weights."""

    slots: Mapping[str, Slot]
    # The step gets the weights, or other arrays, as an argument and does not close over
    # them: a mesh may then change around it.
    step: Callable[[Any, Inputs, list[LeafRole]], Outputs]
    weights: Any = None
    context: bool = False  # whether it reads more than parameters, gradients, memory
    noise: bool = False
    zero_mean: bool = True  # whether the mean over all parameters is removed
    # What tells whether an entry ever had a gradient: the slot "momenta", a flag beside
    # the slots, or, for a rule whose update is 0 at a zero gradient, the gradient.
    seen: Literal["momenta", "flag", "gradient"] = "momenta"
    past_horizon: str = "training_proportion stays 1"  # for messages


def transformation(
    rule: Rule, options: Options
) -> optax.GradientTransformationExtraArgs:
    """Return a rule as an optax transformation; its updates are to be subtracted.

    Raises:
        TypeError: The rule needs a ``Horizon``, a seed or a key, and gets none.
    """
    if rule.context:
        checks.require_horizon(options.horizon)
    if rule.noise:
        checks.require_seed(options.seed, options.key)
    slots = dict(rule.slots)
    if options.zero_gradients != "move" and rule.seen == "flag":
        slots[_FLAG] = Slot(start=False, dtype=bool)
    channels = {name: slot.channels for name, slot in slots.items()}

    def init_fn(params: optax.Params) -> RuleState:
        params = checks.as_arrays(params)
        checks.require_floating(params)

        def start(slot: Slot) -> Any:
            return jax.tree.map(
                lambda leaf: start_like(leaf, slot.channels, slot.start, slot.dtype),
                params,
            )

        return RuleState(
            count=beside(params, jnp.zeros((), jnp.int32)),
            memory={name: start(slot) for name, slot in slots.items()},
            key=beside(params, _init_key(params, options)) if rule.noise else (),
        )

    def update_fn(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, RuleState]:
        checks.require_params(params)
        before = cast(RuleState, state)
        if not jax.tree.leaves(params):  # all masked away, as in multi_transform
            return updates, before
        params, updates = checks.as_arrays(params), checks.as_arrays(updates)
        checks.require_state(state, RuleState)
        checks.require_trees(updates, params, before.memory, channels)
        leaves, structure = jax.tree.flatten(params)
        inputs = Inputs(
            params=leaves,
            gradients=jax.tree.leaves(updates),
            memory={n: jax.tree.leaves(before.memory[n]) for n in rule.slots},
            count=before.count,
        )
        roles, next_key = [], before.key
        read = roles_or_warning if rule.context else leaf_roles
        if rule.context or rule.zero_mean:
            roles = read(params, options.networks, options.layers)
        if rule.context:
            inputs = _in_context(inputs, params, before.count, roles, options, **extra)
            if options.warn_past_horizon:
                notice_past(before.count, options.horizon, rule.past_horizon)
        now = None
        if rule.noise:
            next_key, now = advance(before.key)
        memory = {n: jax.tree.leaves(before.memory[n]) for n in slots}
        tables = are_tables(params) if options.zero_gradients == "leaf" else None

        # Arrays of the update come in as arguments: with_auto_axes changes their mesh.
        def step(weights: Any, inputs: Inputs, memory: Any, key: Any) -> Outputs:
            if key is not None:
                noise = exploration_noise(key, inputs.params, roles)
                inputs = inputs._replace(noise=noise)
            values, after = rule.step(weights, inputs, roles)
            flags = memory.get(_FLAG)
            values = _settle(rule, options, inputs, roles, tables, flags, values, after)
            pairs = zip(values, inputs.params, strict=True)
            kept = {n: list(map(follow, after[n], old)) for n, old in memory.items()}
            return [follow(v, p).astype(p.dtype) for v, p in pairs], kept

        given = rule.weights, inputs, memory, now
        values, memory = with_auto_axes(step, (leaves, memory), *given)
        return jax.tree.unflatten(structure, values), RuleState(
            count=jnp.asarray(optax.safe_increment(before.count)),
            memory={n: jax.tree.unflatten(structure, m) for n, m in memory.items()},
            key=next_key,
        )

    return optax.GradientTransformationExtraArgs(
        init_fn, cast("Callable[..., Any]", update_fn)
    )


def _settle(
    rule: Rule,
    options: Options,
    inputs: Inputs,
    roles: list[LeafRole],
    tables: list[bool] | None,
    flags: Any,
    values: list[jax.Array],
    after: dict[str, list[jax.Array]],
) -> list[jax.Array]:
    """Keep what never had a gradient in place, and remove the mean of the rest.

    Where the rule keeps flags, those after the step are added to ``after``.
    """
    moved = None
    if options.zero_gradients != "move":
        moved = _had_gradient(rule, inputs, flags, after)
        if rule.seen == "flag":
            after[_FLAG] = moved
    zero_mean = rule.zero_mean if options.zero_mean is None else options.zero_mean
    if moved is None and not zero_mean:
        return values
    where = None if options.zero_mean else roles
    return settled(values, moved, tables, zero_mean, where)


def _had_gradient(
    rule: Rule,
    inputs: Inputs,
    flags: Any,
    after: Mapping[str, Sequence[jax.Array]],
) -> list[jax.Array]:
    """Return arrays that are not 0 where there was any gradient since the start."""
    if rule.seen == "momenta":
        # The slowest starts at 0; after a gradient it is not 0 again for 8e5 steps.
        return [m[..., -1] for m in after["momenta"]]
    if rule.seen == "gradient":
        return list(inputs.gradients)
    now = [gradient != 0 for gradient in inputs.gradients]
    return [flag | here for flag, here in zip(flags, now, strict=True)]


def in_parts(
    inputs: Inputs,
    parts: Sequence[Sequence[int]],
    run: Callable[[int, Inputs], Outputs],
) -> Outputs:
    """Run a step on some leaves at a time: ``run(i, the inputs of parts[i])``."""
    values: list[Any] = [None] * len(inputs.params)
    memory: dict[str, list[Any]] = {name: [*values] for name in inputs.memory}
    for number, chosen in enumerate(parts):
        directions, after = run(number, pick(inputs, chosen))
        for place, i in enumerate(chosen):
            values[i] = directions[place]
            for slot, leaves in after.items():
                memory[slot][i] = leaves[place]
    return values, memory


def pick(inputs: Inputs, chosen: Sequence[int]) -> Inputs:
    """Return the inputs of some leaves."""

    def of(field: Any) -> list[Any]:
        return [field[i] for i in chosen] if len(field) else []

    return inputs._replace(
        params=of(inputs.params),
        gradients=of(inputs.gradients),
        memory={name: of(leaves) for name, leaves in inputs.memory.items()},
        positions=of(inputs.positions),
        dormancy=of(inputs.dormancy),
        noise=of(inputs.noise),
    )


def _in_context(
    inputs: Inputs,
    params: Any,
    count: jax.Array,
    roles: list[LeafRole],
    options: Options,
    /,  # an agent may pass extra arguments of these names
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
    )


def _init_key(params: Any, options: Options) -> jax.Array:
    """Return uint32 key data: plain arrays, which every checkpointer can store.

    The bits of the parameters are folded in: agents that ``vmap`` trains side by
    side from one ``tx`` start differently, and so draw different noise. The same
    seed and parameters always give the same key, on any number of devices
    (integer sums do not depend on the order).
    """
    key = options.key
    base = jax.random.key(options.seed) if key is None else typed(key)
    salt = jnp.zeros((), jnp.uint32)
    for leaf in jax.tree.leaves(params):
        if isinstance(leaf, jax.ShapeDtypeStruct):
            continue
        bits = jax.lax.bitcast_convert_type(leaf.astype(jnp.float32), jnp.uint32)
        salt += jnp.sum(bits, dtype=jnp.uint32)
    return jax.random.key_data(jax.random.fold_in(base, salt))


def exploration_noise(
    key: jax.Array, leaves: Sequence[jax.Array], roles: Sequence[LeafRole]
) -> list[jax.Array]:
    """Draw float32 ``[*shape]``: standard normal for the actor, zeros for the critic.

    Leaves are drawn in the order of the tables. XLA then puts their noise into a table
    in one piece, and not leaf by leaf.
    """
    explored = [i for i in by_size(leaves) if roles[i].explored]
    count = sum(leaves[i].size for i in explored)
    drawn = jax.random.normal(key, (count,), jnp.float32)
    noise = [jnp.zeros(leaf.shape, jnp.float32) for leaf in leaves]
    pieces = split(drawn, [leaves[i] for i in explored])
    for i, piece in zip(explored, pieces, strict=True):
        noise[i] = piece
    return noise
