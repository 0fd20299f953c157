"""LPG on rollouts of real lifetimes: what a rule reads, and the targets to imitate.

Agents live whole lives, which the teacher or, in later rounds, the student trains. Some
of their rollouts are kept with everything that a rule reads, and with the teacher's
targets for them.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.agents.lpg import rule_inputs
from learned_opt_rl.rules.lpg import EPS, Targets, UpdateRule
from learned_opt_rl.training.distillation.visited import finite_places
from learned_opt_rl.training.lifetimes import LifeConfig, advance, begin
from learned_opt_rl.training.meta_gradients.pool import Lifetime, agent_config

_HELD_OUT = 8  # every eighth life is only validated on


class Rollouts(NamedTuple):
    """Rollouts ``[lives, kept, ...]`` of B workers and T steps, and their targets."""

    read: tuple[jax.Array, ...]  # the arguments of `UpdateRule.targets`
    gamma: jax.Array  # float32 [lives, kept], as the next two
    step: jax.Array  # int32, updates before the rollout
    lifetime: jax.Array  # int32
    targets: Targets  # of the teacher


def targets(rule: UpdateRule, x: Rollouts) -> Targets:
    """Return a rule's targets for rollouts ``[n, ...]``."""

    def one(x: Rollouts) -> Targets:
        return rule.targets(*x.read, gamma=x.gamma, step=x.step, lifetime=x.lifetime)

    return jax.vmap(one)(x)


def visit(
    rule: UpdateRule,
    teacher: UpdateRule,
    runs: dict[str, LifeConfig],
    *,
    lives: int,
    size: int,
    seed: int,
) -> Rollouts:
    """Let agents live by ``rule`` in every environment; keep some of their rollouts.

    Each life has ``size`` of them, at even distances, or as many as the shortest life
    has updates. Lives in which anything is not finite are replaced by copies of others.

    Raises:
        ValueError: Nothing is finite in any life.
    """
    shortest = min(run.lifetime or run.task.lifetime[0] for run in runs.values())
    found = []
    for i, config in enumerate(runs.values()):
        key = jax.random.fold_in(jax.random.key(seed), i)
        keys = jax.random.split(key, lives)
        found.append(_lived(config, rule, teacher, keys, min(size, shortest)))
    seen = jax.tree.map(lambda *x: jnp.concatenate(x), *found)
    good = finite_places(seen, 0, runs, "environments")
    return jax.tree.map(lambda x: x[_replaced(good, len(x))], seen)


def _held_out(count: int) -> np.ndarray:
    """Return which lives of a round are only validated on; none of fewer than eight."""
    lives = np.arange(count)
    return (lives % _HELD_OUT == 0) & (lives < count // _HELD_OUT * _HELD_OUT)


def _replaced(good: np.ndarray, count: int) -> np.ndarray:
    """Return the place of a finite life for each life, which is its own if it can be.

    Lives that are held out are replaced by each other, and so are all others, so that
    none is both.
    """
    chosen, held = np.arange(count), _held_out(count)
    for part in (held, ~held):
        mine = np.flatnonzero(part)
        left = np.intersect1d(mine, good)
        broken = np.setdiff1d(mine, good)
        # Without a finite one in this part, one of the other must do.
        chosen[broken] = np.resize(left if len(left) else good, len(broken))
    return chosen


def _lived(
    config: LifeConfig,
    rule: UpdateRule,
    teacher: UpdateRule,
    keys: jax.Array,
    count: int,
) -> Rollouts:
    """Return rollouts ``[lives, count, ...]``, one life after the other."""

    def one(rule: UpdateRule, teacher: UpdateRule, key: jax.Array) -> Rollouts:
        begin_key, when_key = jax.random.split(key)
        first = begin(config, begin_key)
        length = first.life.lifetime
        shift = jax.random.uniform(when_key)
        steps = jnp.int32((jnp.arange(count) + shift) * length / count)
        steps = jnp.minimum(steps, length - 1)  # the product may be rounded up

        def keep(lifetime: Lifetime, step: jax.Array) -> tuple[Lifetime, Rollouts]:
            lifetime = jax.lax.while_loop(
                lambda x: x.life.agent.step < step,
                lambda x: advance(config, rule, x)[0],
                lifetime,
            )
            after, rollout = advance(config, rule, lifetime)
            return after, _read(config, rule, teacher, lifetime, rollout)

        return jax.lax.scan(keep, first, steps)[1]

    @jax.jit
    def every(rule: UpdateRule, teacher: UpdateRule, keys: jax.Array) -> Rollouts:
        return jax.lax.map(lambda key: one(rule, teacher, key), keys)

    return every(rule, teacher, keys)


def _read(
    config: LifeConfig,
    rule: UpdateRule,
    teacher: UpdateRule,
    lifetime: Lifetime,
    rollout: Any,
) -> Rollouts:
    """Return what a rule reads of the agent's rollout, and the teacher's targets."""
    agent, life = lifetime.life.agent, lifetime.life
    acting = agent_config(config, config.task, lifetime.hyper)
    reward, done, probs, y, y_next = rule_inputs(acting, rule, rollout, agent.params)
    read = reward, done, probs + EPS, y, y_next  # as in `UpdateRule.loss`
    times = jnp.asarray(acting.gamma), agent.step, life.lifetime
    gamma, step, length = times
    made = teacher.targets(*read, gamma=gamma, step=step, lifetime=length)
    return Rollouts(read, *times, made)


def sample(
    key: jax.Array, seen: Rollouts, count: int, *, held_out: bool, rounds: int = 1
) -> Rollouts:
    """Draw rollouts ``[count, ...]`` of lives to train on, or of those held out.

    With fewer than eight lives in a round, no life is held out. Later rounds start as
    copies of the first, so the same positions are held out in every round.
    """
    lives, kept = seen.step.shape
    held = np.tile(_held_out(lives // rounds), rounds)
    some = jnp.asarray(np.flatnonzero(held if held_out and held.any() else ~held))
    life_key, step_key = jax.random.split(key)
    life = some[jax.random.randint(life_key, (count,), 0, len(some))]
    step = jax.random.randint(step_key, (count,), 0, kept)
    return jax.tree.map(lambda x: x[life, step], seen)


def distances(found: Targets, wanted: Targets, categorical: bool) -> dict[str, Any]:
    """Return two parts of a loss, float32 scalars.

    ``policy`` is the squared error of pi_hat over the teacher's mean square.
    ``target`` is the mean of D_KL(teacher's y_hat || student's), or the same as for
    pi_hat of unbounded predictions.
    """

    def relative(a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.mean((a - b) ** 2) / jnp.maximum(jnp.mean(b**2), 1e-30)

    target = relative(found.y_hat, wanted.y_hat)
    if categorical:
        logs = [jnp.log(y + EPS) for y in (wanted.y_hat, found.y_hat)]
        target = jnp.mean(jnp.sum(wanted.y_hat * (logs[0] - logs[1]), axis=-1))
    return {"policy": relative(found.pi_hat, wanted.pi_hat), "target": target}
