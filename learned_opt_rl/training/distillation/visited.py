"""Inputs of optimizers in real runs, recorded while agents train.

A recording optimizer wraps the agent's own. During stretches of consecutive updates it
keeps some entries of every leaf, with everything that a rule reads of them.
"""

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl import envs
from learned_opt_rl.agents import ppo
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.evaluation.runs.rules import Rule
from learned_opt_rl.features import (
    Horizon,
    broadcast_dormancy,
    init_momenta,
    leaf_roles,
    proportions,
    update_momenta,
)
from learned_opt_rl.training.distillation.inputs import Tensors

_STRETCHES = 16  # per run, which covers early and late training; fewer if it is short


Look = Callable[[jax.Array, jax.Array, jax.Array, Any, jax.Array], Any]
"""What is recorded of a leaf: a pytree of ``[..., n]`` arrays and scalars.

The arguments are those of `rules.parts.open_features`.
"""


class RecordState(NamedTuple):
    """State of `record`."""

    inner: Any  # of the wrapped optimizer
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    momenta: Any  # per leaf, float32
    # [stretches * K + 1, leaves, ...]: updates outside the stretches write to the last
    # row, which is discarded.
    kept: Any


def record(
    optimizer: optax.GradientTransformation,
    horizon: Horizon,
    look: Look,
    *,
    steps: int,
    size: int,
    seed: int,
) -> optax.GradientTransformationExtraArgs:
    """Wrap an optimizer so that it records its inputs; its updates do not change.

    Each stretch has K = ``steps`` consecutive updates; the first starts with the run,
    where memory really is empty, and if K is the number of updates it is the run.
    ``size`` entries per leaf are drawn with replacement for each stretch from what
    ``look`` returns. The seed determines stretches and entries.
    """
    optimizer = optax.with_extra_args_support(optimizer)
    number = min(_STRETCHES, horizon.total_updates // steps)
    part = horizon.total_updates // number
    slack = np.random.default_rng(seed).integers(0, part - steps + 1, number)
    slack[0] = 0  # the first stretch starts with the run
    starts = jnp.asarray(np.arange(number) * part + slack)
    entry_key, see = jax.random.key(seed), functools.partial(_seen, look, size)

    def init(params: optax.Params) -> RecordState:
        count, momenta = jnp.int32(0), jax.tree.map(init_momenta, params)
        trees = params, params, momenta, [jnp.ones(())] * len(jax.tree.leaves(params))
        seen = jax.eval_shape(see, entry_key, trees, proportions(count, horizon))
        rows = number * steps + 1
        kept = jax.tree.map(lambda x: jnp.zeros((rows, *x.shape), x.dtype), seen)
        return RecordState(optimizer.init(params), count, momenta, kept)

    def update(
        updates: optax.Updates,
        state: optax.OptState,
        params: optax.Params | None = None,
        **extra: Any,
    ) -> tuple[optax.Updates, RecordState]:
        before = cast(RecordState, state)
        momenta = jax.tree.map(
            lambda g, m: update_momenta(m, g), updates, before.momenta
        )
        stretch = jnp.searchsorted(starts, before.count, side="right") - 1
        step = before.count - starts[stretch]
        row = jnp.where(step < steps, stretch * steps + step, number * steps)
        seen = see(
            jax.random.fold_in(entry_key, stretch),
            (params, updates, momenta, broadcast_dormancy(extra["dormancy"], params)),
            proportions(before.count, horizon),
        )
        kept = jax.tree.map(lambda x, new: x.at[row].set(new), before.kept, seen)
        moved, inner = optimizer.update(updates, before.inner, params, **extra)
        return moved, RecordState(inner, before.count + 1, momenta, kept)

    return optax.GradientTransformationExtraArgs(init, update)


def _seen(
    look: Look,
    size: int,
    key: jax.Array,
    trees: tuple[Any, ...],
    times: tuple[jax.Array, ...],
) -> Any:
    """Draw entries of each leaf at one update, ``[leaves, ...]``."""
    params, gradients, momenta, dormancy = trees
    leaves = map(jax.tree.leaves, (params, gradients, momenta))
    positions = [role.position for role in leaf_roles(params)]
    rows = []
    for i, (p, g, m, d, l_p) in enumerate(
        zip(*leaves, dormancy, positions, strict=True)
    ):
        which = jax.random.randint(jax.random.fold_in(key, i), (size,), 0, p.size)
        seen = look(p, g, m, (times[0], l_p, times[1]), d)
        rows.append(jax.tree.map(lambda x, i=which: x[..., i] if x.ndim else x, seen))
    return jax.tree.map(lambda *x: jnp.stack(x), *rows)


def inputs_of(p: Any, g: Any, m: Any, times: Any, dormancy: Any) -> Tensors:
    """Return all that a rule reads of a leaf with n entries, float32; a `Look`.

    Momenta are ``[6, n]`` and proportions scalars.
    """
    rows = [x.reshape(-1) for x in (p, g, jnp.broadcast_to(dormancy, p.shape))]
    p, g, d, m = (jnp.float32(x) for x in (*rows, m.reshape(-1, m.shape[-1]).T))
    return Tensors(p, g, m, d, jnp.zeros_like(p), *map(jnp.float32, times))


def stretches(kept: Tensors, steps: int) -> Tensors:
    """Return the recorded inputs as sequences of K = ``steps``, as given to `record`.

    Every leaf of every stretch is a tensor.
    """

    def arranged(x: jax.Array) -> jax.Array:
        x = x[:-1].reshape(-1, steps, *x.shape[1:])
        return jnp.moveaxis(x, 0, 1).reshape(steps, -1, *x.shape[3:])

    return jax.tree.map(arranged, kept)


def recorded(
    rule: Any,
    config: PPOConfig,
    environment: str,
    key: jax.Array,
    look: Look,
    **options: int,
) -> tuple[Any, Any]:
    """Train an agent; return what `record` kept and the agent's parameters."""
    env, made = envs.make(environment), rule(config, environment)
    key, rule_key = jax.random.split(key)
    optimizer = record(made.optimizer(rule_key), config.horizon(), look, **options)
    train = ppo.make_train(config, env, optimizer, drift=made.drift)
    result = jax.jit(train)(key)
    return cast(RecordState, result.opt_state).kept, result.params


def visit(
    rule: Callable[[PPOConfig, str], Rule],
    runs: dict[str, PPOConfig],
    *,
    steps: int,
    size: int,
    seed: int,
) -> Tensors:
    """Train an agent in every environment and record its optimizer's inputs.

    Sequences of ``steps`` have ``size`` entries per tensor. Their number is the same
    for every rule: copies of others replace those of an agent that diverged. If every
    agent diverged, raise ValueError.
    """
    options = {"steps": steps, "size": size, "seed": seed}
    pieces = []
    for i, (name, config) in enumerate(runs.items()):
        key = jax.random.fold_in(jax.random.key(seed), i)
        kept, _ = recorded(rule, config, name, key, inputs_of, **options)
        pieces.append(stretches(kept, steps))
    seen = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *pieces)
    good = finite_places(seen, 1, runs, "inputs or environments")
    count = seen.gradient.shape[1]
    return jax.tree.map(lambda x: x[:, np.resize(good, count)], seen)


def finite_places(
    seen: Any, axis: int, environments: Iterable[str], others: str
) -> np.ndarray:
    """Return the places along an axis where every array is finite.

    Raise ValueError if there is none; its message advises to choose ``others``.
    """
    moved = [np.moveaxis(np.asarray(x), axis, 0) for x in jax.tree.leaves(seen)]
    finite = [np.isfinite(x).reshape(len(x), -1).all(1) for x in moved]
    good = np.flatnonzero(np.all(finite, axis=0))
    if not len(good):
        raise ValueError(
            f"inputs='visited': all agents in {', '.join(environments)} diverged; "
            f"choose other {others}, or a lower learning_rate if the student trained "
            "these agents"
        )
    return good
