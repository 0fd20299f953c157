"""The cost of the runs that a comparison lacks: counted steps, measured time."""

import pathlib
from collections.abc import Mapping
from typing import NamedTuple

from learned_opt_rl.evaluation.runs.cell import Programs
from learned_opt_rl.evaluation.runs.plan import Plan, Standing, Work
from learned_opt_rl.evaluation.runs.program import Program, memory_limit
from learned_opt_rl.evaluation.runs.row import ROWS, read_rows
from learned_opt_rl.rundir.progress import duration


class Cost(NamedTuple):
    """The cost of runs; ``str`` gives one line."""

    runs: int
    steps: int  # environment steps of all runs
    seconds: float  # without compilation
    memory: int | None  # bytes of the compiled program of a group; None if not known
    limit: int | None  # bytes of the device; a CPU does not report it
    source: str  # what was measured

    def __str__(self) -> str:
        sizes = [
            f"{max(x / 2**20, 1):,.0f} MiB" for x in (self.memory, self.limit) if x
        ]
        memory = f", {' of '.join(sizes)} of memory" if self.memory else ""
        return (
            f"{self.runs} run{'s' * (self.runs != 1)}, {self.steps:,} steps, about "
            f"{duration(self.seconds)} without compilation{memory} (from {self.source})"
        )


def estimate(plan: Plan, folder: pathlib.Path) -> Cost | None:
    """Estimate the cost of the runs that a folder lacks, None if it lacks none.

    Each rule is compiled and plays at least two rollouts in the first of its
    environments. Its rollouts in the others are assumed to take as long for each step.
    """
    work = Standing(plan, read_rows(folder / ROWS)).missing()
    compiled, programs = Programs(), dict[str, Program]()
    seconds: dict[str, float] = {}
    names: dict[str, None] = {}
    for cell, groups in work:
        if groups and cell.rule not in programs:
            program = compiled.of(cell, len(groups[0]), plan.devices)
            programs[cell.rule] = program
            per_step = program.seconds_per_rollout(groups[0]) / cell.config.batch_size
            seconds[cell.rule] = per_step
            names[cell.env.name] = None
    if not programs:
        return None
    memory = [m for p in programs.values() if (m := p.memory) is not None]
    source = f"a rollout of each rule on {', '.join(names)}"
    return of_work(plan, work, seconds, max(memory, default=None), source)


def of_work(
    plan: Plan,
    work: Work,
    seconds: Mapping[str, float],
    memory: int | None,
    source: str,
) -> Cost:
    """Return the cost of cells and groups, given each rule's seconds per step.

    A rule without seconds is assumed to take as long as the others do on average.
    """
    usual = sum(seconds.values()) / len(seconds)
    runs = steps = 0
    total = 0.0
    for cell, groups in work:
        each = cell.config.num_rollouts * cell.config.batch_size
        count = sum(min(group.stop, plan.end) - group.start for group in groups)
        runs, steps = runs + count, steps + count * each
        total += len(groups) * each * seconds.get(cell.rule, usual)
    return Cost(runs, steps, total, memory, memory_limit(), source)
