"""A comparison's runs, one after the other, with everything kept on the way."""

import hashlib
import json
import pathlib
import traceback
from dataclasses import asdict
from typing import Any, NamedTuple, TextIO

from learned_opt_rl import envs
from learned_opt_rl.agents.config import Config
from learned_opt_rl.evaluation.runs import train
from learned_opt_rl.evaluation.runs.agents import agent_of
from learned_opt_rl.evaluation.runs.identity import identity, wanted, weights_digest
from learned_opt_rl.evaluation.runs.program import Program
from learned_opt_rl.evaluation.runs.progress import Overall, RunProgress
from learned_opt_rl.evaluation.runs.rules import resolve
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.rundir.checkpoint import Checkpoint
from learned_opt_rl.rundir.provenance import provenance

ROWS = "rows.jsonl"
FAILURES = "failures.jsonl"
_CONFIG = "config.json"
_PARTIAL = "partial"


class Cell(NamedTuple):
    """A rule on an environment.

    Attributes:
        rule: Its name.
        env: The environment.
        config: The run.
        variant: What rows are filed under besides rule and environment.
    """

    rule: str
    env: envs.Environment
    config: Config
    variant: dict[str, str]


class Failure(NamedTuple):
    """A rule on an environment whose run raised, and what."""

    rule: str
    environment: str
    message: str


class Plan(NamedTuple):
    """What is to be run, checked.

    Attributes:
        asked: What was asked, JSON-able.
        cells: One compilation each.
        groups: Seeds trained together, all of the same number.
        end: Seeds from here on only fill up the last group.
        devices: How many share a group.
    """

    asked: dict[str, Any]
    cells: list[Cell]
    groups: list[range]
    end: int
    devices: int


class Execution:
    """What `compare.execute` does while it holds the folder."""

    def __init__(self, plan: Plan, folder: pathlib.Path, stream: TextIO) -> None:
        """Reads what is there and writes what is asked."""
        self._plan, self._folder, self._stream = plan, folder, stream
        self._done = _identities(folder / ROWS)
        (folder / FAILURES).unlink(missing_ok=True)
        _remove_unfinished(folder)
        content = json.dumps({"asked": plan.asked, **provenance()}, indent=2) + "\n"
        write_atomically(folder / _CONFIG, content.encode())

    def run(self) -> list[Failure]:
        """Runs what is missing."""
        work = [(cell, self._pending(cell)) for cell in self._plan.cells]
        overall = Overall(sum(len(groups) for _, groups in work), self._stream)
        failures = []
        for cell, groups in work:
            try:
                self._run(cell, groups, overall)
            except Exception as error:
                failures.append(self._failed(cell, error))
                overall.failed(len(groups) - self._count_done(cell, groups))
        self._tidy()
        return failures

    def _run(self, cell: Cell, groups: list[range], overall: Overall) -> None:
        if not groups:
            return
        rule = resolve(cell.rule, cell.config, cell.env.name)
        program = Program(
            cell.config, cell.env, rule, len(groups[0]), self._plan.devices
        )
        for seeds in groups:
            label = overall.label(_label(cell, seeds))
            checkpoint = self._checkpoint(cell, seeds)
            with RunProgress(label, cell.config, len(seeds), self._stream) as progress:
                trained = train.train(
                    program, seeds, on_rollout=progress, checkpoint=checkpoint
                )
            made = train.rows(program, trained, cell.rule, seeds, cell.variant)
            self._add(made)
            checkpoint.remove()
            overall.ended()

    def _add(self, made: list[jsonl.Row]) -> None:
        """Files the rows that are asked for and not there yet."""
        new = {identity(row): row for row in made if row["seed"] < self._plan.end}
        missing = {key: row for key, row in new.items() if key not in self._done}
        jsonl.append(self._folder / ROWS, missing.values())
        self._done |= missing.keys()

    def _pending(self, cell: Cell) -> list[range]:
        """The groups of which a row is missing."""
        pending = []
        for seeds in self._plan.groups:
            if self._is_done(cell, seeds):
                # A kill may have come between the rows and this.
                self._checkpoint(cell, seeds).remove()
            else:
                pending.append(seeds)
        return pending

    def _is_done(self, cell: Cell, seeds: range) -> bool:
        variant, asked = cell.variant, range(seeds.start, self._plan.end)
        return all(
            wanted(cell.rule, cell.env.name, cell.config, seed, variant) in self._done
            for seed in seeds
            if seed in asked
        )

    def _count_done(self, cell: Cell, groups: list[range]) -> int:
        return sum(self._is_done(cell, seeds) for seeds in groups)

    def _checkpoint(self, cell: Cell, seeds: range) -> Checkpoint:
        run = {
            "rule": cell.rule,
            "weights_sha256": weights_digest(cell.rule),
            "environment": cell.env.name,
            "agent": agent_of(cell.config),
            "config": asdict(cell.config),
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
        failure = Failure(cell.rule, cell.env.name, message)
        agent = agent_of(cell.config)
        row = {**failure._asdict(), "agent": agent, "traceback": trace}
        jsonl.append(self._folder / FAILURES, [row])
        return failure

    def _tidy(self) -> None:
        """Removes the folder of checkpoints, or says what is left in it."""
        partial = self._folder / _PARTIAL
        left = sorted(partial.glob("*.npz")) if partial.is_dir() else []
        if left:
            self._stream.write(
                f"{partial} keeps {len(left)} unfinished run(s) of other commands, "
                "which go on if given again; delete the folder if they are not wanted\n"
            )
        elif partial.is_dir() and not any(partial.iterdir()):
            partial.rmdir()


def _identities(path: pathlib.Path) -> set[str]:
    try:
        return {identity(row) for row in jsonl.read(path)}
    except KeyError as error:
        raise ValueError(
            f"{path} holds a row without {error}; it is no file of runs, give another "
            "folder"
        ) from error


def _remove_unfinished(folder: pathlib.Path) -> None:
    """Deletes what processes that were killed left of files they were writing."""
    for pattern in (f".{_CONFIG}.*", f"{_PARTIAL}/.*.npz.*"):
        for path in folder.glob(pattern):
            path.unlink()


def _label(cell: Cell, seeds: range) -> str:
    several = f"seeds {seeds[0]}-{seeds[-1]}"
    which = several if len(seeds) > 1 else f"seed {seeds[0]}"
    return f"{cell.rule} ({cell.env.name}, {which})"
