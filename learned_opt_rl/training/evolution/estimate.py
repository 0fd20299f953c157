"""Estimate the cost of a campaign: counted steps, measured memory and time."""

import dataclasses
import functools
import math
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt_rl.evaluation.runs.program import memory_limit
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.rundir.progress import duration
from learned_opt_rl.training.evolution.config import EvolutionConfig
from learned_opt_rl.training.evolution.fitness import AnyEvaluator

_ROLLOUTS = 2  # length of the timed runs: the shortest with a second, warm rollout
_ROOM = 0.9  # share of a device's memory; the rest is for what the compiler omits


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The cost of the missing generations; None for what is not known."""

    generations: int
    steps: int  # of all environments, validation included
    updates: int  # of all agents, validation included
    memory: int | None = None  # bytes that each device needs with `block`
    limit: int | None = None  # bytes that each device has; a CPU does not report it
    block: int = 1  # runs trained side by side
    fits: int | None = None  # the largest block within `limit`, if `block` is not
    seconds: float | None = None
    source: str = ""  # where `seconds` was measured

    @property
    def too_large(self) -> bool:
        """Whether a device has less memory than is needed."""
        return (self.memory or 0) > _ROOM * (self.limit or math.inf)

    def __str__(self) -> str:
        cost = (
            f"{self.generations:,} generations: {self.steps:,} environment steps, "
            f"{self.updates:,} updates of agents, validation included"
        )
        memory, time = "memory: not known", "time: known after the first generation"
        if self.memory is not None:
            has = "" if self.limit is None else f" of {_mebibytes(self.limit)}"
            memory = (
                f"memory: {_mebibytes(self.memory)}{has} per device, with "
                f"--block {self.block}"
            )
        if self.seconds is not None:
            time = f"time: about {duration(self.seconds)}, from {self.source}"
        return "\n".join((cost, memory, time))

    def warning(self) -> str | None:
        """Return a warning with the block that fits, if the memory is too small."""
        if not self.too_large:
            return None
        way = f"--block {self.fits} fits" if self.fits else "not even --block 1 fits"
        return f"--block {self.block} needs more memory than a device has; {way}"


def steps_left(config: EvolutionConfig, done: int) -> int:
    """Return the environment steps of the missing generations and their validations.

    ``done=0`` includes the validation of the starting point.
    """
    return _left(config, done, lambda run: run.num_rollouts * run.batch_size)


def updates_left(config: EvolutionConfig, done: int) -> int:
    """Return the optimizer steps of agents, counted as in `steps_left`."""
    return _left(config, done, lambda run: run.num_updates)


def _left(config: EvolutionConfig, done: int, cost: Callable[[Any], int]) -> int:
    @functools.cache
    def of(length: int, names: tuple[str, ...]) -> int:
        return sum(map(cost, config.only(names).runs(length).values()))

    members, seeds = config.population * config.rollouts, config.validation_seeds
    every = config.environments
    total = seeds * of(config.horizon(0), every) if done == 0 else 0
    for generation in range(done, config.generations):
        length = config.horizon(generation)
        total += members * of(length, config.drawn(generation))
        total += seeds * config.validation_due(generation + 1) * of(length, every)
    return total


def counted(config: EvolutionConfig, done: int) -> Estimate:
    """Return an estimate without memory and time, which compiles nothing."""
    left = max(config.generations - done, 0)
    return Estimate(left, steps_left(config, done), updates_left(config, done))


def from_log(config: EvolutionConfig, rows: Sequence[Record]) -> Estimate:
    """Return an estimate without memory, from the speed of the last generations."""
    estimate = counted(config, rows[-1]["generation"])
    last = [row for row in rows[-5:] if "seconds" in row]
    if not last:
        return estimate
    steps = sum(row["steps_per_second"] * row["seconds"] for row in last)
    seconds = estimate.steps * sum(row["seconds"] for row in last) / max(steps, 1)
    source = f"the last {len(last)} generations in the log"
    return dataclasses.replace(estimate, seconds=seconds, source=source)


def measured(
    config: EvolutionConfig,
    devices: int,
    compiled: Callable[[int, tuple[str, ...]], AnyEvaluator],
) -> Estimate:
    """Return an estimate for a new campaign: compile short runs and time a block.

    Longer runs need hardly more memory than short ones: one number per rollout. The
    estimate has no time if the runs do not fit the memory. ``compiled`` takes a length
    in `horizon_unit` and the environments.
    """
    names = config.programs(config.environments)[-1]
    runs_of = config.only(names).runs(config.horizon(0))
    enough = max(
        math.ceil(_ROLLOUTS * run.batch_size / config.steps_per_unit(name))
        for name, run in runs_of.items()
    )
    length = min(enough, config.horizon(0))
    started = time.perf_counter()
    evaluator = compiled(length, names)
    compilation = time.perf_counter() - started
    memory, limit, block = evaluator.memory, memory_limit(), evaluator.block
    estimate = dataclasses.replace(
        counted(config, 0), memory=memory, limit=limit, block=block
    )
    if memory and limit and estimate.too_large:
        runs = config.population * config.rollouts // devices
        room = _ROOM * limit * block / memory
        fits = [n for n in range(1, block) if runs % n == 0 and n <= room]
        return dataclasses.replace(estimate, fits=max(fits, default=None))
    runs = devices * block
    vectors = jnp.zeros((runs, config.learned.size))
    keys = jax.random.split(jax.random.key(config.seed), runs)
    evaluator.returns(vectors, keys)  # the second time is that of a generation
    started = time.perf_counter()
    evaluator.returns(vectors, keys)
    seconds = time.perf_counter() - started
    per_run = config.only(names).steps_per_member(length)
    count = "1 run" if runs == 1 else f"{runs} runs"
    source = f"{count} of {per_run:,} steps (compiled in {compilation:.0f} s)"
    seconds *= estimate.steps / (runs * per_run)
    return dataclasses.replace(estimate, seconds=seconds, source=source)


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.0f} MiB"
