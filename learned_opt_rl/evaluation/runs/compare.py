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
import pathlib
import re
import traceback
from collections.abc import Sequence
from typing import Any, NamedTuple, TextIO

from learned_opt_rl.evaluation.runs import cost, run
from learned_opt_rl.evaluation.runs.cell import Cell, Programs, described, perform, task
from learned_opt_rl.evaluation.runs.plan import Plan, Standing, Work
from learned_opt_rl.evaluation.runs.program import Program
from learned_opt_rl.evaluation.runs.row import (
    FAILURES,
    ROWS,
    Row,
    agent_of,
    append_rows,
    read_rows,
)
from learned_opt_rl.evaluation.runs.run import Overall, RunProgress
from learned_opt_rl.evaluation.runs.sinks import Sink, open_sinks
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import remove_unfinished, write_json
from learned_opt_rl.rundir.checkpoint import Checkpoint
from learned_opt_rl.rundir.cluster import Cluster, TaskError
from learned_opt_rl.rundir.lock import locked
from learned_opt_rl.rundir.progress import output
from learned_opt_rl.rundir.provenance import provenance

_CONFIG = "config.json"
_PARTIAL = "partial"


class Failure(NamedTuple):
    """A rule on an environment whose run raised, and the error."""

    rule: str
    environment: str
    message: str


def execute(
    plan: Plan,
    folder: pathlib.Path,
    *,
    stream: TextIO | None = None,
    programs: Programs | None = None,
    sinks: Sequence[str] = (),
    cluster: Cluster | None = None,
) -> list[Failure]:
    """Run what the folder does not hold yet.

    Args:
        plan: From `prepare`.
        folder: The folder for the results; it is made if it does not exist.
        stream: For the progress, standard error by default.
        programs: Where compiled programs are found and kept.
        sinks: Names of `sinks.SINKS` that get each run when its row is written.
        cluster: Workers that make the runs. Runs on workers write no checkpoints.

    Returns:
        The runs that raised; the rows of all others are in the folder. The next
        execution tries failed runs again.

    Raises:
        FolderInUseError: Another process writes to the folder.
        MissingExtraError: The package of a sink is not installed.
        ValueError: The folder holds files of something else, or rows of the same rules
            with another configuration of the agent or the environment.
        ClusterError: The scheduler was lost; all finished work is kept.
        KeyboardInterrupt: All finished work is kept.
    """
    if cluster is not None and plan.devices != 1:
        raise ValueError(
            f"devices={plan.devices} with a cluster; start a worker for each device"
        )
    opened = open_sinks(sinks, folder)
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        execution = _Execution(plan, folder, output(stream), programs, opened)
        return execution.run(cluster)


class _Execution:
    """The work of `execute` while it holds the folder."""

    def __init__(
        self,
        plan: Plan,
        folder: pathlib.Path,
        stream: TextIO,
        programs: Programs | None = None,
        sinks: Sequence[Sink] = (),
    ) -> None:
        """Read the rows that exist, and write the request."""
        self._sinks = sinks
        self._programs = programs or Programs()
        # A caller that passes programs has already printed the cost.
        self._is_announced = programs is not None
        self._plan, self._folder, self._stream = plan, folder, stream
        rows = read_rows(folder / ROWS)
        _check_folder(folder)
        _check_rows(plan, rows, folder / ROWS)
        self._standing = Standing(plan, rows)
        (folder / FAILURES).unlink(missing_ok=True)
        for place in (folder, folder / _PARTIAL):
            remove_unfinished(place)
        write_json(folder / _CONFIG, {"request": plan.request, **provenance()})

    def run(self, cluster: Cluster | None = None) -> list[Failure]:
        """Run all that is missing."""
        for cell in self._plan.cells:
            for seeds in self._plan.groups:
                # A kill may have come after the rows and before this.
                if self._standing.has(cell, seeds):
                    self._checkpoint(cell, seeds).remove()
        work = self._standing.missing()
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
                left = sum(not self._standing.has(cell, group) for group in groups)
                overall.failed(left)
        return failures

    def _on_workers(
        self, cluster: Cluster, work: Work, overall: Overall
    ) -> list[Failure]:
        """Run all groups as tasks; one failure per cell is enough."""
        runs = [(cell, seeds) for cell, groups in work for seeds in groups]
        devices, failures = self._plan.devices, dict[tuple[str, str], Failure]()
        tasks = [
            (task(cell, seeds, devices, self._standing.digests[cell.rule]),)
            for cell, seeds in runs
        ]
        for index, found in cluster.outcomes(perform, tasks):
            cell, seeds = runs[index]
            if isinstance(found, TaskError):
                if (cell.rule, cell.env.name) not in failures:
                    failure = self._failed(cell, found)
                    failures[cell.rule, cell.env.name] = failure
                overall.failed(1)
            else:
                self._add([Row.from_json(row) for row in json.loads(found)])
                self._checkpoint(cell, seeds).remove()  # of an earlier run here
                overall.ended(f" on {cluster.workers} workers")
        return list(failures.values())

    def _lost(self, failures: list[Failure]) -> list[Failure]:
        """Return the requested runs whose rows the file still lacks."""
        self._standing.read(read_rows(self._folder / ROWS))
        known = {failure[:2] for failure in failures}
        return [
            self._failed(cell, RuntimeError(f"{ROWS} lacks its rows; run it again"))
            for cell in self._plan.cells
            if (cell.rule, cell.env.name) not in known
            and not all(self._standing.has(cell, g) for g in self._plan.groups)
        ]

    def _run(self, cell: Cell, groups: list[range], overall: Overall) -> None:
        if not groups:
            return
        size, devices = len(self._plan.groups[0]), self._plan.devices
        program = self._programs.of(cell, size, devices)
        self._announce(cell, program)
        for seeds in groups:
            label = overall.label(_label(cell, seeds))
            checkpoint = self._checkpoint(cell, seeds)
            with RunProgress(label, cell.config, len(seeds), self._stream) as progress:
                trained = run.train(
                    program, seeds, on_rollout=progress, checkpoint=checkpoint
                )
            digest = self._standing.digests[cell.rule]
            made = run.rows(program, trained, cell.rule, digest, seeds, cell.variant)
            if cell.given is not None:
                made = [dataclasses.replace(row, given=True) for row in made]
            self._add(made)
            checkpoint.remove()
            overall.ended()

    def _announce(self, cell: Cell, program: Program) -> None:
        """Measure a rollout of the first cell, and print the cost of all."""
        if self._is_announced:
            return
        self._is_announced = True
        seconds = program.seconds_per_rollout(self._plan.groups[0])
        found = cost.of_work(
            self._plan,
            self._standing.missing(),
            {cell.rule: seconds / cell.config.batch_size},
            program.memory,
            f"a rollout of {cell.rule} on {cell.env.name}",
        )
        self._stream.write(f"{found}\n")

    def _add(self, made: list[Row]) -> None:
        """Write the rows of the comparison that do not exist yet."""
        new = {row.identity(): row for row in made if row.seed < self._plan.end}
        done = self._standing.done
        missing = {key: row for key, row in new.items() if key not in done}
        append_rows(self._folder / ROWS, missing.values())
        done |= missing.keys()
        for sink in self._sinks:
            for row in missing.values():
                sink(row)

    def _checkpoint(self, cell: Cell, seeds: range) -> Checkpoint:
        run = described(cell, seeds, self._standing.digests[cell.rule])
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
        asked[cell.rule, cell.setting] = (
            json.loads(json.dumps(dataclasses.asdict(cell.config))),
            run.details(cell.env),
        )
    for row in rows:
        if (row.rule, row.setting) not in asked:
            continue
        config, details = asked[row.rule, row.setting]
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
