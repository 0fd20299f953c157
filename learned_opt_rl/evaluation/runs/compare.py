"""Compare rules: run every rule on every environment with every seed.

A folder holds ``rows.jsonl`` (`row.Row`), ``config.json`` (the last request),
``failures.jsonl`` (runs that raised) and, while it is written, ``partial/``
(checkpoints of unfinished runs). Started again, a comparison resumes where it stopped:
no row is made twice, and a killed run continues from its last checkpoint to the same
numbers.
"""

import dataclasses
import math
import pathlib
import sys
from collections.abc import Iterator, Sequence
from typing import TextIO, cast

import jax

from learned_opt_rl import agents, envs
from learned_opt_rl.agents.presets import AgentName
from learned_opt_rl.evaluation.runs.execution import Cell, Execution, Failure, Plan
from learned_opt_rl.evaluation.runs.program import check_devices
from learned_opt_rl.evaluation.runs.row import FAILURES as FAILURES
from learned_opt_rl.evaluation.runs.row import ROWS as ROWS
from learned_opt_rl.evaluation.runs.row import config_type
from learned_opt_rl.evaluation.runs.rules import resolve
from learned_opt_rl.rundir import settings
from learned_opt_rl.rundir.lock import locked


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A request to compare rules.

    Attributes:
        rules: Names for `rules.resolve`.
        environments: Names for `envs.make`.
        seeds: Number of seeds; every rule gets the same ones.
        total_timesteps: Environment steps of each run.
        first_seed: The first of the seeds.
        agent: ``"ppo"``, ``"a2c"`` or ``"lpg"``.
        at_once: Seeds trained together. Groups of consecutive seeds do not depend on
            the rows that exist already; the last group is filled up with seeds whose
            rows are not kept. By default all seeds, but one per device on CPU, which
            gains nothing from more.
        devices: Number of devices that share the seeds of a group.
        settings: ``NAME=VALUE``, fields of the configuration that differ from the
            published ones.

    Raises:
        ValueError: A number is out of range, or there is no rule or environment.

    Example:
        >>> comparison = Comparison(("adam", "lion"), ("Breakout-MinAtar",), 4, 1e6)
        >>> list(comparison.groups(at_once=3))
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
        """Check the values and remove repeated names."""
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
                f"first_seed={self.first_seed}: seeds must be between 0 and 2**31 - 1"
            )
        if not math.isfinite(self.total_timesteps):
            raise ValueError(f"total_timesteps={self.total_timesteps} must be finite")

    def groups(self, at_once: int) -> Iterator[range]:
        """Yield groups of seeds; the last group may go beyond the last seed."""
        for first in range(self.first_seed, self.end, at_once):
            yield range(first, first + at_once)

    @property
    def end(self) -> int:
        """The last seed plus one."""
        return self.first_seed + self.seeds


def prepare(comparison: Comparison) -> Plan:
    """Check a comparison before the first run, which may take hours.

    Raises:
        ValueError: A name is unknown, a rule is not for the agent or not tuned for an
            environment, a run is shorter than one rollout, a setting is wrong, or the
            devices do not exist or do not divide the seeds evenly.
        TypeError: An environment does not have the interface of `envs.Environment`.
        MissingExtraError: An environment needs a package that is not installed.

    Example:
        >>> plan = prepare(Comparison(("adam", "lion"), ("Breakout-MinAtar",), 4, 1e6))
        >>> [cell.rule for cell in plan.cells]
        ['adam', 'lion']
    """
    # A CPU gains nothing from more than one seed at a time.
    on_cpu = jax.default_backend() == "cpu"
    default = comparison.devices if on_cpu else comparison.seeds
    at_once = comparison.at_once or default
    check_devices(at_once, comparison.devices)
    agent = cast(AgentName, comparison.agent)
    overrides = settings.parse(comparison.settings, config_type(comparison.agent))
    variant = dict(sorted(setting.split("=", 1) for setting in comparison.settings))
    cells = []
    found = {env.name: env for env in map(envs.make, comparison.environments)}
    for environment, env in found.items():
        config = agents.preset(
            environment, comparison.total_timesteps, agent, **overrides
        )
        for rule in comparison.rules:
            # Making the optimizer reads its weights, which may be missing.
            resolve(rule, config, environment).optimizer(jax.random.key(0))
            cells.append(Cell(rule, env, config, variant))
        _check_environment(env)
    groups = list(comparison.groups(at_once))
    request = dataclasses.asdict(comparison) | {"at_once": at_once}
    return Plan(request, cells, groups, comparison.end, comparison.devices)


def together(plans: Sequence[Plan]) -> Plan:
    """Join plans that have the same seeds into one that has each of their runs once."""
    cells: list[Cell] = []
    for cell in (cell for plan in plans for cell in plan.cells):
        if cell not in cells:
            cells.append(cell)
    request = {"comparisons": [plan.request for plan in plans]}
    return plans[0]._replace(request=request, cells=cells)


def execute(
    plan: Plan, folder: pathlib.Path, *, stream: TextIO | None = None
) -> list[Failure]:
    """Run what the folder does not hold yet.

    Args:
        plan: From `prepare`.
        folder: The folder for the results; it is made if it does not exist.
        stream: For the progress, standard error by default.

    Returns:
        The runs that raised; the rows of all others are in the folder. The next
        execution tries failed runs again.

    Raises:
        FolderInUseError: Another process writes to the folder.
        ValueError: The folder's ``rows.jsonl`` holds something other than rows.
        KeyboardInterrupt: All finished work is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        return Execution(plan, folder, stream or sys.stderr).run()


def _check_environment(env: envs.Environment) -> None:
    try:
        envs.check(env)
    except Exception as error:  # Code of third parties may raise anything.
        raise ValueError(f"environment {env.name!r} is unusable: {error}") from error
