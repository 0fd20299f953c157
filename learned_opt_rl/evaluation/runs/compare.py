"""Rules by environments by seeds into one folder, whatever comes in between.

A folder holds ``rows.jsonl`` (`runs.run`), ``config.json`` (what was asked last),
``failures.jsonl`` (what raised) and, while it is written, ``partial/`` (runs that are
not done). Started again, a comparison goes on where it was: rows are not made twice,
and a run that was killed continues from its last checkpoint to the same numbers.
"""

import dataclasses
import math
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO

import jax

from learned_opt_rl import envs
from learned_opt_rl.evaluation.runs import agents
from learned_opt_rl.evaluation.runs.execution import FAILURES as FAILURES
from learned_opt_rl.evaluation.runs.execution import ROWS as ROWS
from learned_opt_rl.evaluation.runs.execution import Cell, Execution, Failure, Plan
from learned_opt_rl.evaluation.runs.program import check_devices
from learned_opt_rl.evaluation.runs.rules import resolve
from learned_opt_rl.rundir import settings
from learned_opt_rl.rundir.lock import locked


@dataclasses.dataclass(frozen=True)
class Comparison:
    """What is asked.

    Attributes:
        rules: Names for `optimizers.resolve`.
        environments: Names for ``envs.make``.
        seeds: How many; every rule gets the same ones.
        total_timesteps: Environment steps of each run.
        first_seed: The first of the seeds.
        agent: ``"ppo"``, ``"a2c"`` or ``"lpg"``.
        at_once: Seeds trained together. The same groups of consecutive seeds are made
            whatever is done already; the last is filled up with seeds whose rows are
            not kept. By default all seeds, but on CPU, which gains nothing by it, one
            per device.
        devices: How many devices share the seeds of a group.
        settings: ``NAME=VALUE``, fields of the configuration other than published.

    Raises:
        ValueError: If a number is out of range, or there is no rule or environment.

    Example:
        >>> asked = Comparison(("adam", "lion"), ("Breakout-MinAtar",), 4, 1e6)
        >>> list(asked.groups(at_once=3))
        [range(0, 3), range(3, 6)]
    """

    rules: tuple[str, ...]
    environments: tuple[str, ...]
    seeds: int
    total_timesteps: float
    first_seed: int = 0
    agent: str = "ppo"
    at_once: int | None = None
    devices: int = 1
    settings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Checks the values."""
        for name in ("rules", "environments"):
            object.__setattr__(self, name, tuple(dict.fromkeys(getattr(self, name))))
            if not getattr(self, name):
                raise ValueError(f"{name}=() is empty; give at least one")
        at_once = 1 if self.at_once is None else self.at_once
        numbers = {"seeds": self.seeds, "at_once": at_once, "devices": self.devices}
        for name, number in numbers.items():
            if number < 1:
                raise ValueError(f"{name}={number} must be at least 1")
        if not 0 <= self.first_seed <= 2**31 - self.seeds - at_once:
            raise ValueError(
                f"first_seed={self.first_seed} must not be negative, nor the last seed "
                "more than 32 bits"
            )
        if not math.isfinite(self.total_timesteps):
            raise ValueError(f"total_timesteps={self.total_timesteps} must be finite")

    def groups(self, at_once: int) -> Iterator[range]:
        """The seeds in groups of so many; the last may go beyond those asked for."""
        for first in range(self.first_seed, self.end, at_once):
            yield range(first, first + at_once)

    @property
    def end(self) -> int:
        """One more than the last seed."""
        return self.first_seed + self.seeds


def prepare(asked: Comparison) -> Plan:
    """Finds out before the first run, which may take hours, what would fail later.

    Args:
        asked: The comparison.

    Returns:
        What `execute` does.

    Raises:
        ValueError: If a name is unknown, a rule is not for the agent or not tuned for
            an environment, a run is shorter than one rollout, a setting is none, or
            there are not so many devices, or they do not share the seeds evenly.
        TypeError: If an environment is not of the interface's form.
        MissingExtraError: If an environment needs a package that is not installed.

    Example:
        >>> plan = prepare(Comparison(("adam", "lion"), ("Breakout-MinAtar",), 4, 1e6))
        >>> [cell.rule for cell in plan.cells]
        ['adam', 'lion']
    """
    at_once = asked.at_once or _default_at_once(asked)
    check_devices(at_once, asked.devices)
    overrides = settings.parse(asked.settings, agents.config_type(asked.agent))
    variant = dict(sorted(setting.split("=", 1) for setting in asked.settings))
    cells = []
    found = {env.name: env for env in map(envs.make, asked.environments)}
    for environment, env in found.items():
        config = agents.default_config(
            environment, asked.total_timesteps, asked.agent, **overrides
        )
        for rule in asked.rules:
            # Making the optimiser reads its weights, which may be missing.
            resolve(rule, config, environment).optimizer(jax.random.key(0))
            cells.append(Cell(rule, env, config, variant))
        _check_environment(env)
    groups = list(asked.groups(at_once))
    wanted = dataclasses.asdict(asked) | {"at_once": at_once}
    return Plan(wanted, cells, groups, asked.end, asked.devices)


def together(plans: Sequence[Plan]) -> Plan:
    """Makes one plan of several that have the same seeds.

    Args:
        plans: From `prepare`, at least one; they differ in rules, environments,
            lengths and settings alone.

    Returns:
        All their runs, each once.

    Example:
        >>> one = prepare(Comparison(("adam",), ("CartPole-v1",), 1, 1e5))
        >>> two = prepare(Comparison(("sgd:0.1",), ("CartPole-v1",), 1, 1e5))
        >>> [cell.rule for cell in together([one, two, one]).cells]
        ['adam', 'sgd:0.1']
    """
    cells: list[Cell] = []
    for cell in (cell for plan in plans for cell in plan.cells):
        if cell not in cells:
            cells.append(cell)
    asked = {"comparisons": [plan.asked for plan in plans]}
    return plans[0]._replace(asked=asked, cells=cells)


def execute(
    plan: Plan, folder: pathlib.Path, *, stream: TextIO | None = None
) -> list[Failure]:
    """Runs what the folder does not hold yet.

    Args:
        plan: From `prepare`.
        folder: Made if need be.
        stream: For the progress; standard error if not given.

    Returns:
        What raised; everything else is in the folder. What failed is tried again the
        next time.

    Raises:
        FolderInUseError: If another process is at it.
        ValueError: If the folder's ``rows.jsonl`` is no file of results.
        KeyboardInterrupt: As it comes; all that was done is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        return Execution(plan, folder, stream or sys.stderr).run()


def _default_at_once(asked: Comparison) -> int:
    return asked.devices if jax.default_backend() == "cpu" else asked.seeds


def _check_environment(env: envs.Environment) -> None:
    """A few steps of it: a third party's may raise whatever it likes."""
    try:
        envs.check(env)
    except Exception as error:
        raise ValueError(f"environment {env.name!r} is unusable: {error}") from error
