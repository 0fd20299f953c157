"""Compare rules: run every rule on every environment with every seed.

A folder holds ``rows.jsonl`` (`row.Row`), ``config.json`` (the last request),
``failures.jsonl`` (runs that raised) and, while it is written, ``partial/``
(checkpoints of unfinished runs). Started again, a comparison resumes where it stopped:
no row is made twice, and a killed run continues from its last checkpoint to the same
numbers.
"""

import dataclasses
import hashlib
import json
import math
import pathlib
import re
import traceback
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, TextIO, cast

import jax

from learned_opt_rl import agents, envs
from learned_opt_rl.agents.presets import AgentName
from learned_opt_rl.evaluation.runs import run
from learned_opt_rl.evaluation.runs.cell import Cell, Programs, perform, task
from learned_opt_rl.evaluation.runs.program import check_devices
from learned_opt_rl.evaluation.runs.row import (
    FAILURES,
    ROWS,
    Row,
    agent_of,
    append_rows,
    config_type,
    identity,
    read_rows,
)
from learned_opt_rl.evaluation.runs.rules import Settings, resolve, weights_digest
from learned_opt_rl.evaluation.runs.run import Overall, RunProgress
from learned_opt_rl.rundir import jsonl, settings
from learned_opt_rl.rundir.atomic import remove_unfinished, write_atomically
from learned_opt_rl.rundir.checkpoint import Checkpoint
from learned_opt_rl.rundir.cluster import Cluster, TaskError
from learned_opt_rl.rundir.lock import locked
from learned_opt_rl.rundir.progress import output
from learned_opt_rl.rundir.provenance import provenance

_CONFIG = "config.json"
_PARTIAL = "partial"

Work = list[tuple[Cell, list[range]]]
"""Cells with their groups of seeds."""


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


class Failure(NamedTuple):
    """A rule on an environment whose run raised, and the error."""

    rule: str
    environment: str
    message: str


class Plan(NamedTuple):
    """The runs of a comparison, checked."""

    request: dict[str, Any]  # the comparison, as JSON
    cells: list[Cell]  # one compilation each
    groups: list[range]  # seeds trained together, all groups of the same size
    end: int  # seeds from here on only fill up the last group
    devices: int  # number of devices that share a group


def prepare(comparison: Comparison, rule_settings: Settings | None = None) -> Plan:
    """Check a comparison before the first run, which may take hours.

    ``rule_settings`` replace the tuned ones of the rules.

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
            made = resolve(rule, config, environment, rule_settings)
            made.optimizer(jax.random.key(0))
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
    plan: Plan,
    folder: pathlib.Path,
    *,
    stream: TextIO | None = None,
    programs: Programs | None = None,
    cluster: Cluster | None = None,
) -> list[Failure]:
    """Run what the folder does not hold yet.

    Args:
        plan: From `prepare`.
        folder: The folder for the results; it is made if it does not exist.
        stream: For the progress, standard error by default.
        programs: Where compiled programs are found and kept.
        cluster: Workers that make the runs. A run of theirs that does not end leaves
            no checkpoint.

    Returns:
        The runs that raised; the rows of all others are in the folder. The next
        execution tries failed runs again.

    Raises:
        FolderInUseError: Another process writes to the folder.
        ValueError: The folder holds files of something else, or rows of the same rules
            with another configuration of the agent or the environment.
        ClusterError: The scheduler was lost; all finished work is kept.
        KeyboardInterrupt: All finished work is kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        return _Execution(plan, folder, output(stream), programs).run(cluster)


def _check_environment(env: envs.Environment) -> None:
    try:
        envs.check(env)
    except Exception as error:  # Code of third parties may raise anything.
        raise ValueError(f"environment {env.name!r} is unusable: {error}") from error


class _Execution:
    """The work of `execute` while it holds the folder."""

    def __init__(
        self,
        plan: Plan,
        folder: pathlib.Path,
        stream: TextIO,
        programs: Programs | None = None,
    ) -> None:
        """Read the rows that exist, and write the request."""
        self._plan, self._folder, self._stream = plan, folder, stream
        self._programs = programs or Programs()
        # Weights do not change during a comparison: each digest is looked up once.
        self._digests = {cell.rule: weights_digest(cell.rule) for cell in plan.cells}
        rows = read_rows(folder / ROWS)
        _check_folder(folder)
        _check_rows(plan, rows, folder / ROWS)
        self._done = self._identities(rows)
        (folder / FAILURES).unlink(missing_ok=True)
        for place in (folder, folder / _PARTIAL):
            remove_unfinished(place)
        content = json.dumps({"request": plan.request, **provenance()}, indent=2) + "\n"
        write_atomically(folder / _CONFIG, content.encode())

    def run(self, cluster: Cluster | None = None) -> list[Failure]:
        """Run all that is missing."""
        work = [(cell, self._pending(cell)) for cell in self._plan.cells]
        overall = Overall(sum(len(groups) for _, groups in work), self._stream)
        if cluster is not None:
            failures = self._on_workers(cluster, work, overall)
        else:
            failures = self._here(work, overall)
        self._tidy()
        return failures + self._lost(failures)

    def _here(self, work: Work, overall: Overall) -> list[Failure]:
        failures = []
        for cell, groups in work:
            try:
                self._run(cell, groups, overall)
            except Exception as error:
                failures.append(self._failed(cell, error))
                overall.failed(sum(not self._is_done(cell, g) for g in groups))
        return failures

    def _on_workers(
        self, cluster: Cluster, work: Work, overall: Overall
    ) -> list[Failure]:
        """Run all groups as tasks; one failure per cell is enough."""
        runs = [(cell, seeds) for cell, groups in work for seeds in groups]
        devices, failures = self._plan.devices, dict[tuple[str, str], Failure]()
        tasks = [
            (task(cell, seeds, devices, self._digests[cell.rule]),)
            for cell, seeds in runs
        ]
        for index, found in cluster.outcomes(perform, tasks):
            cell = runs[index][0]
            if isinstance(found, TaskError):
                if (cell.rule, cell.env.name) not in failures:
                    failure = self._failed(cell, found)
                    failures[cell.rule, cell.env.name] = failure
                overall.failed(1)
            else:
                self._add([Row.from_json(row) for row in json.loads(found)])
                overall.ended(f" on {cluster.workers} workers")
        return list(failures.values())

    def _lost(self, failures: list[Failure]) -> list[Failure]:
        """Return the requested runs whose rows the file still lacks."""
        self._done = self._identities(read_rows(self._folder / ROWS))
        known = {failure[:2] for failure in failures}
        return [
            self._failed(cell, RuntimeError(f"{ROWS} lacks its rows; run it again"))
            for cell in self._plan.cells
            if (cell.rule, cell.env.name) not in known
            and not all(self._is_done(cell, seeds) for seeds in self._plan.groups)
        ]

    def _identities(self, rows: list[Row]) -> set[str]:
        return {row.identity(self._digests.get(row.rule)) for row in rows}

    def _run(self, cell: Cell, groups: list[range], overall: Overall) -> None:
        if not groups:
            return
        size, devices = len(self._plan.groups[0]), self._plan.devices
        program = self._programs.of(cell, size, devices)
        for seeds in groups:
            label = overall.label(_label(cell, seeds))
            checkpoint = self._checkpoint(cell, seeds)
            with RunProgress(label, cell.config, len(seeds), self._stream) as progress:
                trained = run.train(
                    program, seeds, on_rollout=progress, checkpoint=checkpoint
                )
            digest = self._digests[cell.rule]
            self._add(
                run.rows(program, trained, cell.rule, digest, seeds, cell.variant)
            )
            checkpoint.remove()
            overall.ended()

    def _add(self, made: list[Row]) -> None:
        """Write the rows of the comparison that do not exist yet."""
        new = {row.identity(): row for row in made if row.seed < self._plan.end}
        missing = {key: row for key, row in new.items() if key not in self._done}
        append_rows(self._folder / ROWS, missing.values())
        self._done |= missing.keys()

    def _pending(self, cell: Cell) -> list[range]:
        """Return the groups that lack a row."""
        pending = []
        for seeds in self._plan.groups:
            if self._is_done(cell, seeds):
                # A kill may have come after the rows and before this.
                self._checkpoint(cell, seeds).remove()
            else:
                pending.append(seeds)
        return pending

    def _is_done(self, cell: Cell, seeds: range) -> bool:
        digest = self._digests[cell.rule]
        return all(
            identity(cell.rule, digest, cell.env.name, cell.config, seed, cell.variant)
            in self._done
            for seed in seeds
            if seed < self._plan.end
        )

    def _checkpoint(self, cell: Cell, seeds: range) -> Checkpoint:
        run = {
            "rule": cell.rule,
            "weights_sha256": self._digests[cell.rule],
            "environment": cell.env.name,
            "agent": agent_of(cell.config),
            "config": dataclasses.asdict(cell.config),
            "seeds": list(seeds),
            "variant": cell.variant,
        }
        name = hashlib.sha256(json.dumps(run, sort_keys=True).encode()).hexdigest()[:16]
        known = provenance()
        setup = {
            "environment_details": dict(cell.env.details),
            "versions": known["versions"],
            "device": known["device"],
            "devices": self._plan.devices,
        }
        return Checkpoint(self._folder / _PARTIAL / f"{name}.npz", run | setup)

    def _failed(self, cell: Cell, error: Exception) -> Failure:
        message = " ".join(f"{type(error).__name__}: {error}".split())
        trace = "".join(traceback.format_exception(error))
        if isinstance(error, TaskError):  # raised on a worker
            message, trace = str(error), error.trace
        failure = Failure(cell.rule, cell.env.name, message)
        agent = agent_of(cell.config)
        record = {**failure._asdict(), "agent": agent, "traceback": trace}
        jsonl.append(self._folder / FAILURES, [record])
        return failure

    def _tidy(self) -> None:
        """Remove the folder of checkpoints, or report the files left in it."""
        partial = self._folder / _PARTIAL
        left = sorted(partial.glob("*.npz")) if partial.is_dir() else []
        if left:
            self._stream.write(
                f"{partial} keeps {len(left)} unfinished run(s) of other commands. "
                "Repeat those commands to resume, or delete the folder\n"
            )
        elif partial.is_dir() and not any(partial.iterdir()):
            partial.rmdir()


def _check_folder(folder: pathlib.Path) -> None:
    """Refuse a folder with files of something else, which would be replaced."""
    for name, field in ((_CONFIG, "request"), (FAILURES, "message")):
        path = folder / name
        if not path.exists():
            continue
        try:
            text = path.read_text(encoding="utf-8")
            first = json.loads(text.partition("\n")[0] if name == FAILURES else text)
        except (ValueError, RecursionError):
            first = None
        if not isinstance(first, dict) or field not in first:
            raise ValueError(
                f"{path} is not a file of a comparison, and would be replaced; name "
                "another folder"
            )


def _check_rows(plan: Plan, rows: list[Row], path: pathlib.Path) -> None:
    """Refuse rows of the same rules that ran with another configuration."""
    asked = {}
    for cell in plan.cells:
        agent, steps = agent_of(cell.config), cell.config.total_timesteps
        key = (cell.rule, cell.env.name, agent, steps, str(cell.variant))
        asked[key] = (
            json.loads(json.dumps(dataclasses.asdict(cell.config))),
            run.details(cell.env),
        )
    for row in rows:
        variant = str(dict(sorted(row.variant.items())))
        key = (row.rule, row.environment, row.agent, row.total_timesteps, variant)
        if key not in asked:
            continue
        config, details = asked[key]
        differences = _differences(row.full_config, config)
        if "environment_details" not in row.unrecorded:
            differences += _differences(
                _without_versions(row.environment_details), _without_versions(details)
            )
        if differences:
            raise ValueError(
                f"{path} holds runs of {row.rule} on {row.environment} with "
                f"{', '.join(differences)}; name another folder for these runs"
            )


def _differences(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    return [
        f"{name}={there.get(name)} instead of {here.get(name)}"
        for name in sorted(there.keys() | here.keys())
        # Old rows have all details of an environment as text.
        if there.get(name) != here.get(name)
        and str(there.get(name)) != str(here.get(name))
    ]


def _without_versions(details: dict[str, Any]) -> dict[str, Any]:
    """Leave out versions of packages, which reports note, and the optimal return."""
    return {
        name: value
        for name, value in details.items()
        # Three numbers, so that a detail such as gravity=9.81 is not a version.
        if name != "optimal_return" and not re.match(r"\d+\.\d+\.\d", str(value))
    }


def _label(cell: Cell, seeds: range) -> str:
    several = f"seeds {seeds[0]}-{seeds[-1]}"
    which = several if len(seeds) > 1 else f"seed {seeds[0]}"
    return f"{cell.rule} ({cell.env.name}, {which})"
