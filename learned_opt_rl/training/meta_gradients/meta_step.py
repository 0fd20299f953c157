"""The state of a meta-training, its first value, and one meta-step."""

import dataclasses
import functools
import itertools
import math
import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from learned_opt_rl import checks
from learned_opt_rl.evaluation.runs.program import over_devices, require_devices
from learned_opt_rl.rules import lpg
from learned_opt_rl.rules.lpg import UpdateRule
from learned_opt_rl.rundir.jsonl import Record, number
from learned_opt_rl.training.learned import Learned
from learned_opt_rl.training.meta_gradients import bandit as bandits
from learned_opt_rl.training.meta_gradients import pool as pools
from learned_opt_rl.training.meta_gradients.bandit import Bandit
from learned_opt_rl.training.meta_gradients.config import MetaGradientConfig
from learned_opt_rl.training.meta_gradients.pool import Hyper, Lifetime, Outcome
from learned_opt_rl.training.meta_gradients.tasks import Task, task

_LIVES = "lifetimes"

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
    finished: np.ndarray  # int32, whole lifetimes that made all their updates
    best: np.ndarray  # float32, the best share of the optimal return; -inf before one


class Ended(NamedTuple):
    """A lifetime that ended in a meta-step.

    The reason is ``"finished"``, ``"shortened"`` for a first life that began aged,
    ``"entropy"`` or ``"non_finite"``.
    """

    environment: str
    reason: str
    returned: float | None
    optimal: float | None  # None where it is only estimated


class Program:
    """The compiled functions of a meta-training.

    ``devices`` share every pool; see `check_devices`.
    """

    def __init__(self, config: MetaGradientConfig, devices: int | None = None) -> None:
        self.config = config
        self.devices = check_devices(config, devices)
        self._mesh = Mesh(np.array(jax.local_devices()[: self.devices]), (_LIVES,))
        self._sharding = NamedSharding(self._mesh, PartitionSpec(_LIVES))
        self._tasks = [task(name) for name in config.environments]
        self._begin = [
            jax.jit(jax.vmap(functools.partial(_begin, config, one), (None, 0, 0)))
            for one in self._tasks
        ]
        self._put = jax.jit(_put, donate_argnums=0, out_shardings=self._sharding)
        self._optimizer = _optimizer(config)
        self._compiled: Any = None

    def compiled(self, standing: Standing) -> Any:
        """Return the compiled meta-step, for arguments with these shapes.

        It takes `arguments` and returns weights, Adam's state, pools, outcomes, and the
        norm of the gradient.
        """
        if self._compiled is None:
            self._compiled = jax.jit(self._step).lower(*self.arguments(standing))
            self._compiled = self._compiled.compile()
        return self._compiled

    def arguments(self, standing: Standing) -> tuple[Any, ...]:
        """Return the arguments of the compiled meta-step."""
        # A state that was read from a file is on no device or on the first.
        full = jax.device_put(standing.pools, self._sharding)
        whole = NamedSharding(self._mesh, PartitionSpec())
        rest = jax.device_put((standing.weights, standing.opt_state), whole)
        return *rest, full

    def first(self) -> Standing:
        """Return the state before the first meta-step."""
        config, each, full = self.config, self.config.each, []
        learned = Learned("lpg", dataclasses.asdict(config.rule_architecture))
        start = learned.start(config.start, jax.random.key(config.seed))
        weights = learned.unravel(start)
        arms = [bandits.init(len(config.arms(x))) for x in config.environments]
        for place, arm in enumerate(arms):
            parts = [*self._new(place, arm, range(place * each, (place + 1) * each))]
            pool = jax.tree.map(lambda *x: jnp.concatenate(x)[:each], *parts)
            full.append(pools.aged(pool) if config.stagger else pool)
        return Standing(
            weights=weights,
            opt_state=self._optimizer.init(weights),
            pools=tuple(full),
            bandits=tuple(arms),
            begun=np.asarray(config.lifetimes, np.int32),
            recent=np.full((2, WINDOW), np.nan, np.float32),
            finished=np.asarray(0, np.int32),
            best=np.asarray(-np.inf, np.float32),
        )

    def advance(self, standing: Standing) -> tuple[Standing, Record, list[Ended]]:
        """Take a meta-step and replace the lifetimes that ended in it."""
        done = self.compiled(standing)(*self.arguments(standing))
        weights, opt_state, full, outcomes, norm = done
        standing = standing._replace(weights=weights, opt_state=opt_state, pools=full)
        outcomes, norm = jax.device_get((outcomes, norm))
        ended = []
        for place, outcome in enumerate(outcomes):
            over = outcome.finished | outcome.collapsed | outcome.broken
            if over.any():
                over = np.flatnonzero(over)
                standing, some = self._replace(standing, place, over, outcome)
                ended += some
        return standing, _metrics(outcomes, norm), ended

    def beginning_seconds(self) -> float:
        """Return the time that new lifetimes take per meta-step, once compiled."""
        started = time.perf_counter()
        jax.block_until_ready(self.first().pools)
        each = (time.perf_counter() - started) / self.config.lifetimes
        return each * sum(self._ending(place) for place in range(len(self._tasks)))

    def _step(self, weights: Any, opt_state: Any, full: Sequence[Lifetime]) -> Any:
        rule = lpg.UpdateRule(weights, self.config.rule_architecture)
        total, full, outcomes = self._over_devices(rule, full)
        counted = sum(jnp.sum(~outcome.broken) for outcome in outcomes)
        scale = 1 / jnp.maximum(counted, 1)
        gradient = jax.tree.map(lambda x: x * scale, total).weights
        updates, opt_state = self._optimizer.update(gradient, opt_state)
        weights = optax.apply_updates(weights, updates)
        return weights, opt_state, full, outcomes, optax.tree.norm(gradient)

    def _over_devices(self, rule: UpdateRule, full: Sequence[Lifetime]) -> Any:
        """Let each device advance its share of every pool; sum the gradients.

        Mini-batches are added one by one, so that the order of the sum does not depend
        on the devices. The last digits of a lifetime do: the compiler simplifies a
        program for several devices in another way.
        """
        players = [pools.player(self.config, one) for one in self._tasks]

        def share(rule: UpdateRule, full: Sequence[Lifetime]) -> Any:
            found = [
                pools.advance(self.config, one, play, rule, pool)
                for one, play, pool in zip(self._tasks, players, full, strict=True)
            ]
            totals, full, outcomes = zip(*found, strict=True)
            totals = jax.lax.all_gather(totals, _LIVES, tiled=True)
            return totals, full, outcomes

        shared, whole = PartitionSpec(_LIVES), PartitionSpec()
        inputs, outputs = (whole, shared), (whole, shared, shared)
        over = over_devices(share, self._mesh, inputs, outputs)
        totals, full, outcomes = over(rule, full)
        total = jax.tree.map(lambda *x: jnp.concatenate(x), *totals)
        zero = jax.tree.map(lambda x: jnp.zeros_like(x[0]), total)
        add = functools.partial(jax.tree.map, jnp.add)
        total, _ = jax.lax.scan(lambda sum, x: (add(sum, x), None), zero, total)
        return total, full, outcomes

    def _new(
        self, place: int, bandit: Bandit, numbers: Sequence[int]
    ) -> Iterator[Lifetime]:
        """Begin the lifetimes of these numbers, in batches of a fixed size.

        The number determines all draws. The last number fills the last batch up.
        """
        batch = self._batch(place)
        for i in range(0, len(numbers), batch):
            some = [numbers[min(k, len(numbers) - 1)] for k in range(i, i + batch)]
            hypers = [self._draw(place, bandit, number) for number in some]
            hypers = jax.tree.map(lambda *x: np.stack(x), *hypers)
            root = jax.random.key(self.config.seed)
            yield self._begin[place](root, np.array(some, np.int32), hypers)

    def _draw(self, place: int, bandit: Bandit, number: int) -> Hyper:
        config = self.config
        rng = np.random.default_rng([config.seed, number])
        chances = bandits.probabilities(
            bandit, config.bandit_bonus, config.bandit_temperature
        )
        arm = int(rng.choice(len(chances), p=chances))
        rate, alpha = config.arms(config.environments[place])[arm]
        drawn = (rng.choice(config.gammas), rng.choice(config.policy_entropy))
        found: Any = map(np.float32, (rate, alpha, *drawn))
        return Hyper(jnp.int32(arm), *found)

    def _batch(self, place: int) -> int:
        """Return how many lifetimes begin together: as many as end in a meta-step."""
        expected = math.ceil(self._ending(place))
        return min(1 << (expected - 1).bit_length(), self.config.each)

    def _ending(self, place: int) -> float:
        """Return the mean number of lifetimes that end in a meta-step."""
        config = self.config
        least, most = self._tasks[place].lifetime
        updates = config.lifetime or math.sqrt(least * most)
        return config.each * config.updates / updates

    def _replace(
        self, standing: Standing, place: int, over: np.ndarray, outcome: Outcome
    ) -> tuple[Standing, list[Ended]]:
        """Begin new lifetimes in the places of those that ended."""
        pool, bandit, ended = standing.pools[place], standing.bandits[place], []
        known = jax.device_get((pool.optimal_return, pool.hyper.arm, pool.skipped))
        # Returns are relative to the environment's mean optimal return, because the
        # bandit's temperature presumes returns of about 1.
        scale = max(float(known[0].mean()), 1e-6)
        for i in over:
            optimal, arm, skipped = (x[i] for x in known)
            one = self._ended(place, i, outcome, float(optimal), int(skipped))
            ended.append(one)
            if one.reason == "finished":
                standing = _remember(standing, one.returned, one.optimal)
            if self.config.bandit and not skipped:
                value = None if one.returned is None else one.returned / scale
                bandit = bandits.update(bandit, int(arm), value)
        begun = int(standing.begun)
        numbers = range(begun, begun + len(over))
        for i, lives in enumerate(self._new(place, bandit, numbers)):
            batch = len(lives.skipped)
            where = np.full(batch, self.config.each)  # no place
            some = over[i * batch : (i + 1) * batch]
            where[: len(some)] = some
            pool = self._put(pool, where, lives)
        standing = standing._replace(
            pools=(*standing.pools[:place], pool, *standing.pools[place + 1 :]),
            bandits=(*standing.bandits[:place], bandit, *standing.bandits[place + 1 :]),
            begun=np.asarray(begun + len(over), np.int32),
        )
        return standing, ended

    def _ended(
        self, place: int, i: int, outcome: Outcome, optimal: float, skipped: int
    ) -> Ended:
        reason, value = "entropy", None
        if outcome.returned.finished[i] and not outcome.broken[i]:
            value = number(outcome.returned.mean[i])
        if outcome.broken[i]:
            reason = "non_finite"
        elif outcome.finished[i]:
            reason = "shortened" if skipped else "finished"
        estimated = self._tasks[place].estimated
        name = self.config.environments[place]
        return Ended(name, reason, value, None if estimated else optimal)


def rank(best: float, finished: int, value: float | None) -> tuple[float, bool]:
    """Return the best share so far, and whether the latest weights are the best.

    Before `WINDOW` lifetimes have finished they are.
    """
    if finished < WINDOW or value is None:
        return best, not np.isfinite(best)
    # A state holds float32.
    value = float(np.float32(value))
    return max(best, value), value > best


def kept_row(rows: list[Record]) -> Record:
    """Return the row whose weights were kept as the best."""
    kept, best = rows[-1], float("-inf")
    finished = itertools.accumulate(row["finished"] for row in rows)
    for row, count in zip(rows, finished, strict=True):
        best, improved = rank(best, count, row["recent_share"])
        kept = row if improved else kept
    return kept


def check_devices(config: MetaGradientConfig, devices: int | None) -> int:
    """Return the number of devices, by default as many local ones as divide the pools.

    Raises:
        ValueError: There are fewer, or they cannot share the lifetimes equally.
    """
    together = config.minibatch * len(config.environments)
    groups = config.lifetimes // together
    if devices is None:
        most = min(jax.local_device_count(), groups)
        return max(n for n in range(1, most + 1) if groups % n == 0)
    checks.positive_int("devices", devices)
    require_devices(devices)
    if groups % devices:
        raise ValueError(
            f"lifetimes={config.lifetimes}: must be a multiple of minibatch="
            f"{config.minibatch} times the number of environments, "
            f"{len(config.environments)}, times devices={devices}; take "
            f"{together * devices} or a multiple, or fewer devices"
        )
    return devices


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


def _begin(
    config: MetaGradientConfig,
    task: Task,
    root: jax.Array,
    number: jax.Array,
    hyper: Hyper,
) -> Lifetime:
    # The root itself draws the rule's first weights.
    key = jax.random.fold_in(root, number)
    life = pools.begin(config, task, key, hyper)
    optimal = task.optimal_return(life.life.world.env_state)
    return life._replace(optimal_return=optimal)


def _optimizer(config: MetaGradientConfig) -> optax.GradientTransformation:
    """Return what moves the rule, given the mean over lifetimes."""
    if config.lifetime_gradients == "adam":
        return optax.sgd(config.learning_rate)
    clip = optax.identity()
    if config.clip is not None and config.lifetime_gradients != "clip":
        clip = optax.clip_by_global_norm(config.clip)
    return optax.chain(clip, optax.adam(config.learning_rate))


def _put(pool: Lifetime, where: jax.Array, lives: Lifetime) -> Lifetime:
    """Replace lifetimes of a pool; a place beyond its end stands for none."""
    return jax.tree.map(lambda x, new: x.at[where].set(new, mode="drop"), pool, lives)


def _metrics(outcomes: Sequence[Outcome], norm: np.ndarray) -> Record:
    """Return means over the lifetimes in which everything is finite."""
    intact = ~np.concatenate([outcome.broken for outcome in outcomes])
    metrics = jax.tree.map(
        lambda *x: np.concatenate(x)[intact], *[x.metrics for x in outcomes]
    )
    names = ("policy_entropy", "target_entropy", "pi_l2", "y_l2", "kl")
    means = {n: getattr(metrics, n) for n in ("loss", "policy_loss", "value_loss")}
    means |= {name: getattr(metrics.update, name) for name in names}
    found = {
        name: float(x.mean(dtype=np.float64)) if x.size else math.nan
        for name, x in means.items()
    }
    return {"gradient_norm": float(norm), **found}
