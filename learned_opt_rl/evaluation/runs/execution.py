"""Execute the runs of a comparison one after the other, saving all progress."""

import hashlib
import json
import pathlib
import traceback
from dataclasses import asdict
from typing import Any, NamedTuple, TextIO

from learned_opt_rl import envs
from learned_opt_rl.agents.config import Config
from learned_opt_rl.evaluation.runs import run
from learned_opt_rl.evaluation.runs.program import Program
from learned_opt_rl.evaluation.runs.row import (
    FAILURES,
    ROWS,
    Row,
    agent_of,
    append_rows,
    identity,
    read_rows,
)
from learned_opt_rl.evaluation.runs.rules import resolve, weights_digest
from learned_opt_rl.evaluation.runs.run import Overall, RunProgress
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.rundir.checkpoint import Checkpoint
from learned_opt_rl.rundir.provenance import provenance

_CONFIG = "config.json"
_PARTIAL = "partial"


class Cell(NamedTuple):
    """A rule on an environment."""

    rule: str
    env: envs.Environment
    config: Config
    variant: dict[str, str]  # settings that differ from the published ones, as text


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


class Execution:
    """The work of `compare.execute` while it holds the folder."""

    def __init__(self, plan: Plan, folder: pathlib.Path, stream: TextIO) -> None:
        """Read the rows that exist, and write the request."""
        self._plan, self._folder, self._stream = plan, folder, stream
        # Weights do not change during a comparison: each digest is looked up once.
        self._digests = {cell.rule: weights_digest(cell.rule) for cell in plan.cells}
        rows = read_rows(folder / ROWS)
        self._done = {row.identity(self._digests.get(row.rule)) for row in rows}
        (folder / FAILURES).unlink(missing_ok=True)
        _remove_unfinished(folder)
        content = json.dumps({"request": plan.request, **provenance()}, indent=2) + "\n"
        write_atomically(folder / _CONFIG, content.encode())

    def run(self) -> list[Failure]:
        """Run all that is missing."""
        work = [(cell, self._pending(cell)) for cell in self._plan.cells]
        overall = Overall(sum(len(groups) for _, groups in work), self._stream)
        failures = []
        for cell, groups in work:
            try:
                self._run(cell, groups, overall)
            except Exception as error:
                failures.append(self._failed(cell, error))
                overall.failed(sum(not self._is_done(cell, g) for g in groups))
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
                "Give those commands again to resume, or delete the folder\n"
            )
        elif partial.is_dir() and not any(partial.iterdir()):
            partial.rmdir()


def _remove_unfinished(folder: pathlib.Path) -> None:
    """Delete the temporary files of processes that were killed while writing."""
    for pattern in (f".{_CONFIG}.*", f"{_PARTIAL}/.*.npz.*"):
        for path in folder.glob(pattern):
            path.unlink()


def _label(cell: Cell, seeds: range) -> str:
    several = f"seeds {seeds[0]}-{seeds[-1]}"
    which = several if len(seeds) > 1 else f"seed {seeds[0]}"
    return f"{cell.rule} ({cell.env.name}, {which})"
