"""Check a request and list the missing runs."""

import dataclasses
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, cast

import jax

from learned_opt_rl import agents, envs
from learned_opt_rl.agents.config import Config
from learned_opt_rl.agents.presets import AgentName
from learned_opt_rl.checks import as_names
from learned_opt_rl.evaluation.runs.cell import Cell
from learned_opt_rl.evaluation.runs.given_rules import GivenRule
from learned_opt_rl.evaluation.runs.program import check_devices
from learned_opt_rl.evaluation.runs.row import Row, config_type, identity
from learned_opt_rl.evaluation.runs.rules import Settings, resolve
from learned_opt_rl.rundir import settings
from learned_opt_rl.warn import warn_user


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
        ValueError: A number is out of range, or no rule or environment is named.

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
        """Check the values, and make tuples of names without repetitions."""
        object.__setattr__(self, "settings", as_names(self.settings))
        for name in ("rules", "environments"):
            names = tuple(dict.fromkeys(as_names(getattr(self, name))))
            object.__setattr__(self, name, names)
            if not names:
                raise ValueError(f"{name}=() is empty; name at least one")
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


Work = list[tuple[Cell, list[range]]]
"""Cells with their groups of seeds."""


class Plan(NamedTuple):
    """The runs of a comparison, checked."""

    request: dict[str, Any]  # the comparison, as JSON
    cells: list[Cell]  # one compilation each
    groups: list[range]  # seeds trained together, all groups of the same size
    end: int  # seeds from here on only fill up the last group
    devices: int  # number of devices that share a group

    @property
    def digests(self) -> dict[str, str | None]:
        """The SHA-256 of each rule, as of `weights_digest`."""
        return {cell.rule: cell.digest for cell in self.cells}

    def runs(self, rows: Iterable[Row], *others: str) -> list[Row]:
        """Return rows of the plan's cells and of other rules with the same settings."""
        rules: dict[tuple, set[str]] = {}
        for cell in self.cells:
            rules.setdefault(cell.setting, {*others}).add(cell.rule)
        return [row for row in rows if row.rule in rules.get(row.setting, ())]

    def has_results(self, rows: Iterable[Row]) -> bool:
        """Return whether any row is of a cell with the rule's current version."""
        digests = self.digests
        return any(
            not row.weights_recorded or row.weights_sha256 == digests[row.rule]
            for row in self.runs(rows)
        )


def prepare(
    comparison: Comparison,
    rule_settings: Settings | None = None,
    given: Mapping[str, GivenRule] | None = None,
) -> Plan:
    """Check a comparison before the first run, which may take hours.

    ``rule_settings`` replace the tuned ones of the rules. ``given`` are those of the
    rules that are Python objects, see `given_rules`.

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
            one = (given or {}).get(rule)
            made = (
                one.resolve(config, environment)
                if one
                else resolve(rule, config, environment, rule_settings)
            )
            made.optimizer(jax.random.key(0))
            cells.append(Cell(rule, env, config, variant, given=one))
        _check_environment(env)
        _warn_if_short(env.name, config)
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


class Standing:
    """The runs of a plan that exist already."""

    def __init__(self, plan: Plan, rows: list[Row]) -> None:
        self._plan = plan
        # Weights do not change during a comparison: each digest is looked up once.
        self.digests = plan.digests
        self.read(rows)

    def read(self, rows: list[Row]) -> None:
        """Take these rows for all that exist."""
        self.done = {row.identity(self.digests.get(row.rule)) for row in rows}

    def missing(self) -> Work:
        """Return the groups of each cell that lack a row."""
        return [
            (cell, [seeds for seeds in self._plan.groups if not self.has(cell, seeds)])
            for cell in self._plan.cells
        ]

    def has(self, cell: Cell, seeds: range) -> bool:
        """Return whether the rows of a group exist."""
        run = cell.rule, self.digests[cell.rule], cell.env.name, cell.config
        return all(
            identity(*run, seed, cell.variant) in self.done
            for seed in seeds
            if seed < self._plan.end
        )


def _warn_if_short(environment: str, config: Config) -> None:
    """Warn if no episode can end, as far as the length of episodes is known."""
    length = envs.episode_length(environment)
    steps = config.num_rollouts * config.num_steps
    if length is not None and steps < length:
        # Rounded up to whole rollouts.
        least = math.ceil(length / config.num_steps) * config.batch_size
        warn_user(
            f"total_timesteps={config.total_timesteps}: is too short for one episode "
            f"of {environment}, so these runs will have no return. Each of the "
            f"{config.num_envs} environments plays {steps:,} steps, and an episode has "
            f"{length:,}. Pass at least {least:,}",
        )


def _check_environment(env: envs.Environment) -> None:
    try:
        envs.check(env)
    except Exception as error:  # Code of third parties may raise anything.
        raise ValueError(f"environment {env.name!r} is unusable: {error}") from error
