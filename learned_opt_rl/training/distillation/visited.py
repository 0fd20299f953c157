"""Inputs of optimizers in real runs, recorded while agents train.

A recording optimizer wraps the agent's own. During stretches of consecutive updates it
keeps some entries of every leaf, with everything that a rule reads of them.
"""

from collections.abc import Callable
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


class RecordState(NamedTuple):
    """State of `record`."""

    inner: Any  # of the wrapped optimizer
    count: jax.Array  # pyright: ignore[reportIncompatibleMethodOverride]
    momenta: Any  # per leaf, float32
    # [stretches * K + 1, leaves, ...]: updates outside the stretches write to the last
    # row, which is discarded.
    kept: Tensors


def record(
    optimizer: optax.GradientTransformation,
    horizon: Horizon,
    *,
    steps: int,
    size: int,
    seed: int,
) -> optax.GradientTransformationExtraArgs:
    """Wrap an optimizer so that it records its inputs; its updates do not change.

    Each stretch has K = ``steps`` consecutive updates; the first starts with the run,
    where memory really is empty. ``size`` entries per leaf are drawn with replacement
    for each stretch. The seed determines stretches and entries.
    """
    optimizer = optax.with_extra_args_support(optimizer)
    number = min(_STRETCHES, horizon.total_updates // steps)
    part = horizon.total_updates // number
    slack = np.random.default_rng(seed).integers(0, part - steps + 1, number)
    slack[0] = 0  # the first stretch starts with the run
    starts = jnp.asarray(np.arange(number) * part + slack)
    entry_key = jax.random.key(seed)

    def init(params: optax.Params) -> RecordState:
        rows, leaves = number * steps + 1, len(jax.tree.leaves(params))
        plain, scalar = jnp.zeros((rows, leaves, size)), jnp.zeros((rows, leaves))
        momenta = jnp.zeros((rows, leaves, 6, size))
        return RecordState(
            optimizer.init(params),
            jnp.int32(0),
            jax.tree.map(init_momenta, params),
            Tensors(plain, plain, momenta, plain, plain, scalar, scalar, scalar),
        )

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
        seen = _seen(
            jax.random.fold_in(entry_key, stretch),
            size,
            (params, updates, momenta, broadcast_dormancy(extra["dormancy"], params)),
            proportions(before.count, horizon),
        )
        kept = jax.tree.map(lambda x, new: x.at[row].set(new), before.kept, seen)
        moved, inner = optimizer.update(updates, before.inner, params, **extra)
        return moved, RecordState(inner, before.count + 1, momenta, kept)

    return optax.GradientTransformationExtraArgs(init, update)


def _seen(
    key: jax.Array, size: int, trees: tuple[Any, ...], times: tuple[jax.Array, ...]
) -> Tensors:
    """Draw entries of each leaf at one update, ``[leaves, ...]``."""
    params, gradients, momenta, dormancy = trees
    leaves = map(jax.tree.leaves, (params, gradients, momenta))
    rows = []
    for i, (p, g, m, d) in enumerate(zip(*leaves, dormancy, strict=True)):
        which = jax.random.randint(jax.random.fold_in(key, i), (size,), 0, p.size)
        spread = jnp.broadcast_to(d, p.shape)
        rows.append(
            [x.reshape(-1)[which] for x in (p, g, spread)]
            + [m.reshape(-1, m.shape[-1])[which].T]
        )
    p, g, d, m = (jnp.stack(x).astype(jnp.float32) for x in zip(*rows, strict=True))
    positions = jnp.array([role.position for role in leaf_roles(params)], jnp.float32)
    t_p, b_p = (jnp.full(len(rows), time, jnp.float32) for time in times)
    return Tensors(p, g, m, d, jnp.zeros_like(p), t_p, positions, b_p)


def stretches(state: RecordState, steps: int) -> Tensors:
    """Return the recorded inputs as sequences of K = ``steps``, as given to `record`.

    Every leaf of every stretch is a tensor.
    """

    def arranged(x: jax.Array) -> jax.Array:
        x = x[:-1].reshape(-1, steps, *x.shape[1:])
        return jnp.moveaxis(x, 0, 1).reshape(steps, -1, *x.shape[3:])

    return jax.tree.map(arranged, state.kept)


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
    pieces = []
    for i, (name, config) in enumerate(runs.items()):
        env, made = envs.make(name), rule(config, name)
        key, rule_key = jax.random.split(jax.random.fold_in(jax.random.key(seed), i))
        inner, horizon = made.optimizer(rule_key), config.horizon()
        optimizer = record(inner, horizon, steps=steps, size=size, seed=seed)
        train = ppo.make_train(config, env, optimizer, drift=made.drift)
        state = cast(RecordState, jax.jit(train)(key).opt_state)
        pieces.append(stretches(state, steps))
    seen = jax.tree.map(lambda *x: jnp.concatenate(x, axis=1), *pieces)
    count = seen.gradient.shape[1]
    whole = [jnp.isfinite(x).reshape(steps, count, -1).all((0, 2)) for x in seen]
    good = np.flatnonzero(np.all(np.stack(whole), axis=0))
    if not len(good):
        raise ValueError(
            f"inputs='visited': all agents in {', '.join(runs)} diverged; choose other "
            "inputs or environments"
        )
    return jax.tree.map(lambda x: x[:, np.resize(good, count)], seen)
