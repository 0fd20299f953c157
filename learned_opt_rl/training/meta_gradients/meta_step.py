"""The state of a meta-training, its first value, and one meta-step."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl.rules import lpg
from learned_opt_rl.rundir.jsonl import Record, number
from learned_opt_rl.training.meta_gradients import bandit as bandits
from learned_opt_rl.training.meta_gradients import pool as pools
from learned_opt_rl.training.meta_gradients.bandit import Bandit
from learned_opt_rl.training.meta_gradients.config import MetaGradientConfig
from learned_opt_rl.training.meta_gradients.pool import Hyper, Lifetime, Outcome
from learned_opt_rl.training.meta_gradients.tasks import task

WINDOW = 200
"""Finished lifetimes whose mean return ranks the weights.

Returns of single levels differ by about half the optimal return, so the mean of 200 is
known to a few percent of it.
"""


class Standing(NamedTuple):
    """The state of a meta-training; arrays only."""

    weights: Any  # of the rule
    opt_state: Any  # of its Adam
    pools: tuple[Lifetime, ...]  # of each environment
    bandits: tuple[Bandit, ...]
    begun: np.ndarray  # int32, lifetimes so far; the next one's key
    recent: np.ndarray  # float32 [2, WINDOW], returns and optimal returns, in a ring
    finished: np.ndarray  # int32, lifetimes that made all their updates
    best: np.ndarray  # float32, the best share of the optimal return; -inf before one


class Ended(NamedTuple):
    """A lifetime that ended in a meta-step."""

    environment: str
    reason: str  # "finished", "entropy" or "non_finite"
    returned: float | None
    optimal: float | None  # None where it is only estimated


class Program:
    """The compiled functions of a meta-training."""

    def __init__(self, config: MetaGradientConfig) -> None:
        self.config = config
        self._tasks = [task(name) for name in config.environments]
        self._begin = [
            jax.jit(functools.partial(pools.begin, config, one)) for one in self._tasks
        ]
        self._put = jax.jit(_put, donate_argnums=0)
        clip = optax.identity()
        if config.clip is not None:
            clip = optax.clip_by_global_norm(config.clip)
        self._optimizer = optax.chain(clip, optax.adam(config.learning_rate))
        self._compiled: Any = None

    def compiled(self, standing: Standing) -> Any:
        """Return the compiled meta-step, for arguments with these shapes.

        It takes and returns weights, Adam's state and pools.
        """
        if self._compiled is None:
            arguments = standing.weights, standing.opt_state, standing.pools
            self._compiled = jax.jit(self._step).lower(*arguments).compile()
        return self._compiled

    def first(self) -> Standing:
        """Return the state before the first meta-step."""
        weights = self._start()
        arms = [bandits.init(len(self.config.arms(x))) for x in self._names]
        each = range(self.config.each)
        begun, full = 0, []
        for place, arm in enumerate(arms):
            lives = []
            for i in each:
                life, begun = self._new(place, arm, begun), begun + 1
                share = i / len(each) if self.config.stagger else 0.0
                lives.append(pools.aged(life, share))
            full.append(jax.tree.map(lambda *x: jnp.stack(x), *lives))
        return Standing(
            weights=weights,
            opt_state=self._optimizer.init(weights),
            pools=tuple(full),
            bandits=tuple(arms),
            begun=np.asarray(begun, np.int32),
            recent=np.full((2, WINDOW), np.nan, np.float32),
            finished=np.asarray(0, np.int32),
            best=np.asarray(-np.inf, np.float32),
        )

    def advance(self, standing: Standing) -> tuple[Standing, Record, list[Ended]]:
        """Take a meta-step and replace the lifetimes that ended in it."""
        step = self.compiled(standing)
        done = step(standing.weights, standing.opt_state, standing.pools)
        weights, opt_state, full, outcomes, norm = done
        standing = standing._replace(weights=weights, opt_state=opt_state, pools=full)
        outcomes, norm = jax.device_get((outcomes, norm))
        ended = []
        for place, outcome in enumerate(outcomes):
            for i in np.flatnonzero(
                outcome.finished | outcome.collapsed | outcome.broken
            ):
                standing, one = self._replace(standing, place, int(i), outcome)
                ended.append(one)
        return standing, _metrics(outcomes, norm), ended

    @property
    def _names(self) -> tuple[str, ...]:
        return self.config.environments

    def _start(self) -> Any:
        config, architecture = self.config, self.config.rule_architecture
        if config.start == "random":
            return lpg.init(jax.random.key(config.seed), architecture)
        sign = architecture.policy_sign
        rule = lpg.pretrained(config.start, policy_sign=sign)
        if rule.architecture != architecture:
            raise ValueError(
                f"start={config.start!r}: its architecture is {rule.architecture}, not "
                f"{architecture}; set the fields of the architecture to those values"
            )
        return jax.tree.map(jnp.asarray, rule.weights)

    def _step(self, weights: Any, opt_state: Any, full: Sequence[Lifetime]) -> Any:
        rule = lpg.UpdateRule(weights, self.config.rule_architecture)
        found = [
            pools.advance(self.config, one, pools.player(self.config, one), rule, pool)
            for one, pool in zip(self._tasks, full, strict=True)
        ]
        totals, full, outcomes = zip(*found, strict=True)
        counted = sum(jnp.sum(~outcome.broken) for outcome in outcomes)
        scale = 1 / jnp.maximum(counted, 1)
        gradient = jax.tree.map(lambda *x: sum(x) * scale, *totals).weights
        updates, opt_state = self._optimizer.update(gradient, opt_state)
        weights = optax.apply_updates(weights, updates)
        return weights, opt_state, full, outcomes, optax.tree.norm(gradient)

    def _new(self, place: int, bandit: Bandit, number: int) -> Lifetime:
        """Begin the lifetime of this number; the number determines all draws."""
        config, name = self.config, self._names[place]
        rng = np.random.default_rng([config.seed, number])
        chances = bandits.probabilities(
            bandit, config.bandit_bonus, config.bandit_temperature
        )
        arm = int(rng.choice(len(chances), p=chances))
        rate, alpha = config.arms(name)[arm]
        drawn = (rng.choice(config.gammas), rng.choice(config.policy_entropy))
        hyper = Hyper(jnp.int32(arm), *map(jnp.float32, (rate, alpha, *drawn)))
        # The key itself draws the rule's first weights.
        key = jax.random.fold_in(jax.random.key(config.seed), number)
        life = self._begin[place](key, hyper)
        optimal = self._tasks[place].optimal_return(life.life.world.env_state)
        return life._replace(optimal_return=optimal)

    def _replace(
        self, standing: Standing, place: int, i: int, outcome: Outcome
    ) -> tuple[Standing, Ended]:
        """Begin a new lifetime in the place of one that ended."""
        pool = standing.pools[place]
        episodes, mean = int(outcome.returned.finished[i]), outcome.returned.mean[i]
        value = number(mean) if episodes else None
        optimal = float(pool.optimal_return[i])
        if self._tasks[place].estimated:
            optimal = None
        reason = "non_finite" if outcome.broken[i] else "entropy"
        if outcome.finished[i] and not outcome.broken[i]:
            reason = "finished"
            standing = _remember(standing, value, optimal)
        one = standing.bandits[place]
        if self.config.bandit:
            # Returns are relative to the environment's mean optimal return, because the
            # temperature presumes returns of about 1. A life without one counts as 0.
            scale = max(float(pool.optimal_return.mean()), 1e-6)
            one = bandits.update(one, int(pool.hyper.arm[i]), (value or 0.0) / scale)
        life = self._new(place, one, int(standing.begun))
        standing = standing._replace(
            pools=_at(standing.pools, place, self._put(pool, i, life)),
            bandits=_at(standing.bandits, place, one),
            begun=np.asarray(standing.begun + 1, np.int32),
        )
        return standing, Ended(self._names[place], reason, value, optimal)


def share(standing: Standing) -> float | None:
    """Return the recent lifetimes' return over their optimal return, None before one.

    It is a quotient of sums: the optimal return of some levels is nearly 0.
    """
    returned, optimal = np.nansum(standing.recent.astype(np.float64), axis=1)
    return number(returned / optimal) if optimal > 0 else None


def _remember(
    standing: Standing, value: float | None, optimal: float | None
) -> Standing:
    recent, known = standing.recent.copy(), None not in (value, optimal)
    pair = (value, optimal) if known else np.nan
    recent[:, int(standing.finished) % WINDOW] = pair
    finished = np.asarray(standing.finished + 1, np.int32)
    return standing._replace(recent=recent, finished=finished)


def _put(pool: Lifetime, i: jax.Array, life: Lifetime) -> Lifetime:
    return jax.tree.map(lambda x, new: x.at[i].set(new), pool, life)


def _at(items: tuple[Any, ...], place: int, item: Any) -> tuple[Any, ...]:
    return (*items[:place], item, *items[place + 1 :])


def _metrics(outcomes: Sequence[Outcome], norm: np.ndarray) -> Record:
    """Return means over the lifetimes in which everything is finite."""
    intact = ~np.concatenate([outcome.broken for outcome in outcomes])
    found: Record = {"gradient_norm": float(norm)}
    for name in ("loss", "policy_loss", "value_loss"):
        parts = [getattr(outcome.metrics, name) for outcome in outcomes]
        found[name] = _mean(np.concatenate(parts)[intact])
    for name in ("policy_entropy", "target_entropy", "pi_l2", "y_l2", "kl"):
        parts = [getattr(outcome.metrics.update, name) for outcome in outcomes]
        found[name] = _mean(np.concatenate(parts)[intact])
    return found


def _mean(values: np.ndarray) -> float:
    return float(values.mean(dtype=np.float64)) if values.size else float("nan")
