"""The cost of a meta-training: counted steps, measured memory and time."""

import dataclasses
import time
from collections.abc import Sequence
from typing import Any

import jax

from learned_opt_rl.evaluation.runs.program import memory_limit, memory_of
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.rundir.progress import duration
from learned_opt_rl.training.meta_gradients.meta_step import Program, Standing


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The cost of the missing meta-steps; None for what is not known."""

    meta_steps: int
    steps: int  # of all environments
    memory: int | None  # bytes of the compiled meta-step
    limit: int | None  # bytes of the device; a CPU does not report it
    seconds: float
    source: str  # where `seconds` was measured

    def __str__(self) -> str:
        sizes = [x for x in (self.memory, self.limit) if x is not None]
        memory = " of ".join(f"{x / 2**20:,.0f} MiB" for x in sizes)
        memory = "not known" if self.memory is None else memory
        return (
            f"{self.meta_steps:,} meta-steps: {self.steps:,} environment steps\n"
            f"memory: {memory}\n"
            f"time: about {duration(self.seconds)}, from {self.source}"
        )


def estimate(program: Program, first: Standing, rows: Sequence[Record]) -> Estimate:
    """Estimate the cost of the meta-steps that the rows of a log lack.

    The meta-step is compiled. With rows, the time is that of the last ones. Otherwise
    the first meta-step is taken twice, and the second time counts. That of the
    lifetimes that begin per meta-step is added.
    """
    config = program.config
    started = time.perf_counter()
    compiled = program.compiled(first)
    compilation = time.perf_counter() - started
    memory = memory_of(compiled)
    if rows:
        # The last row of a run may have fewer meta-steps.
        steps = rows[-1]["step"] - (rows[-6]["step"] if len(rows) > 5 else 0)
        each = sum(row["seconds"] for row in rows[-5:]) / steps
        source = "the last rows of the log"
    else:
        arguments = program.arguments(first)
        each = [_seconds(compiled, arguments) for _ in range(2)][-1]
        each += program.beginning_seconds()
        source = f"1 meta-step (compiled in {compilation:.0f} s)"
    left = max(config.steps - (rows[-1]["step"] if rows else 0), 0)
    steps = left * config.steps_per_meta_step
    return Estimate(left, steps, memory, memory_limit(), left * each, source)


def _seconds(compiled: Any, arguments: Sequence[Any]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(compiled(*arguments))
    return time.perf_counter() - started
