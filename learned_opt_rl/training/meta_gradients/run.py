"""Meta-train LPG: estimate gradients, take steps, log them, keep the best weights.

The folder holds ``config.json``, ``log.jsonl`` with a row per ``log_every`` meta-steps,
``best.safetensors`` with the weights whose lifetimes returned most, ``state.npz``, and
``final.safetensors`` once all meta-steps are done.
"""

import collections
import contextlib
import dataclasses
import math
import pathlib
import time
from collections.abc import Sequence
from typing import Any, TextIO

import jax
import numpy as np

from learned_opt_rl.artifacts.weights import save_safetensors
from learned_opt_rl.evaluation.runs.program import memory_limit, memory_of
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.atomic import remove_unfinished
from learned_opt_rl.rundir.checkpoint import Checkpoint, RefusedError
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.rundir.lock import locked
from learned_opt_rl.rundir.progress import Progress, duration, output
from learned_opt_rl.rundir.provenance import provenance
from learned_opt_rl.training import run_folder, watchers
from learned_opt_rl.training.learned import start_digest
from learned_opt_rl.training.meta_gradients import meta_step
from learned_opt_rl.training.meta_gradients.config import METHOD, MetaGradientConfig
from learned_opt_rl.training.meta_gradients.meta_step import Ended, Program, Standing
from learned_opt_rl.training.run_folder import BEST, FINAL, LOG
from learned_opt_rl.training.watchers import EVENTS, TensorBoard, Watchers


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


STATE = "state.npz"
_REVISION = 1  # of states: 0 had other bandits, averages and annealed learning rates


class Training:
    """A meta-training in a folder; `run` starts or resumes it.

    Args:
        config: The configuration.
        folder: Its folder; created if it does not exist.
        stream: Receives the progress; standard error by default.
        devices: Local devices that share the lifetimes; by default as many as divide
            the number of mini-batches. The last digits depend on their number.
        tensorboard: Whether to write TensorBoard events into ``tensorboard/``.

    Raises:
        ValueError: The devices do not exist or cannot share the lifetimes.
        MissingExtraError: TensorBoard events are asked for without tensorboardX.

    Example:
        >>> from learned_opt_rl.training.meta_gradients import preset
        >>> training = Training(preset("lpg-cpu"), pathlib.Path("runs/lpg"))
        >>> training.run()  # doctest: +SKIP
    """

    def __init__(
        self,
        config: MetaGradientConfig,
        folder: pathlib.Path,
        stream: TextIO | None = None,
        *,
        devices: int | None = None,
        tensorboard: bool = False,
    ) -> None:
        if tensorboard:
            watchers.require_tensorboard()
        self.config, self.path, self._tensorboard = config, folder, tensorboard
        self._stream = output(stream)
        self._program = meta_step.Program(config, devices)
        self._first: Standing | None = None  # kept from the estimate to the run
        identity = config.as_json()
        del identity["steps"]
        self._state = Checkpoint(folder / STATE, identity, revision=_REVISION)

    def run(self) -> Record:
        """Take the missing meta-steps; return the last row of the log.

        A run that was killed resumes bit for bit from its last saved state.

        Raises:
            ValueError: The folder holds another run, or its state is damaged.
            FolderInUseError: Another process uses the folder.
            OSError: The folder cannot be written.
        """
        self._check_folder()
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path):
            remove_unfinished(self.path)
            run_folder.refuse_foreign(self.path, (LOG, BEST, FINAL, STATE))
            standing, done = self._load()
            self._claim()
            if done < self.config.steps:
                standing = self._rest(standing, done)
            # Also where a run was killed after its last state but before this.
            save_safetensors(self.path / FINAL, standing.weights)
        return jsonl.read(self.path / LOG)[-1]

    def estimate(self) -> Estimate:
        """Estimate the cost of the missing meta-steps; write nothing.

        A run with a log is as fast as its last meta-steps were. For a new one, the
        first meta-step is compiled, taken twice and timed once. Raises as `run`.
        """
        self._check_folder()
        rows = jsonl.read(self.path / LOG)
        self._first = self._program.first()
        return estimate(self._program, self._first, rows)

    def _check_folder(self) -> None:
        """Raise ValueError if the folder holds another run."""
        config = self.config.as_json()
        run_folder.refuse_other(self.path, METHOD, config, may_grow="steps")

    def _claim(self) -> None:
        """Write the configuration, with a warning if last digits will differ."""
        made = {
            "kind": METHOD,
            "config": self.config.as_json(),
            "devices": self._program.devices,
            **provenance(),
        }
        # A run that was killed before its first state starts from the present weights.
        if not self._state.path.exists():
            made["start_sha256"] = start_digest(self.config.start)
        run_folder.claim(self.path, made, "run")

    def _load(self) -> tuple[Standing, int]:
        """Return the saved state, or the first; remove later rows from the log."""
        standing, done = self._first or self._program.first(), 0
        self._first = None  # free its memory
        if self._state.path.exists():
            try:
                standing, done, _ = self._state.read(standing)
            except RefusedError as error:
                raise ValueError(
                    f"{self._state.path}: {error}; restore the file, or start again in "
                    "another folder"
                ) from error
        if done > self.config.steps:
            raise ValueError(
                f"steps={self.config.steps}, but {done} are done; pass at least {done}"
            )
        rows = jsonl.read(self.path / LOG)
        kept = [row for row in rows if row["step"] <= done]
        if len(kept) < len(rows):
            jsonl.replace(self.path / LOG, kept)
        return standing, done

    def _rest(self, standing: Standing, done: int) -> Standing:
        config = self.config
        with (
            Progress("meta-step", config.steps, self._stream, done=done) as progress,
            contextlib.closing(Watchers("training")) as watching,
        ):
            if self._tensorboard:
                rows, place = jsonl.read(self.path / LOG), self.path / EVENTS
                watching.add(EVENTS, lambda: TensorBoard(place, rows))
            while done < config.steps:
                # Rows are at multiples, also after a run that ended between two.
                count = config.log_every - done % config.log_every
                count = min(count, config.steps - done)
                standing, row = self._several(standing, done, count)
                done += count
                so_far = float(standing.best), int(standing.finished)
                best, improved = meta_step.rank(*so_far, row["recent_share"])
                standing = standing._replace(best=np.asarray(best, np.float32))
                jsonl.append(self.path / LOG, [row])
                watching(row)
                if improved:
                    save_safetensors(self.path / BEST, standing.weights)
                if self._state.due or done == config.steps:
                    self._state.save(standing, done=done, seconds=0.0)
                left = row["seconds"] / count * (config.steps - done)
                progress.show(done, f"{_shown(row)}  {duration(left)} left")
        return standing

    def _several(
        self, standing: Standing, done: int, count: int
    ) -> tuple[Standing, Record]:
        """Take some meta-steps; return the state after them and a row of the log."""
        started = time.perf_counter()
        metrics, ended = [], []
        for _ in range(count):
            standing, found, over = self._program.advance(standing)
            metrics.append(found)
            ended += over
        seconds = time.perf_counter() - started
        steps = count * self.config.steps_per_meta_step
        row = {
            "step": done + count,
            "recent_share": meta_step.share(standing),
            **_lifetimes(ended),
            **{name: _mean([m[name] for m in metrics]) for name in metrics[0]},
            "steps_per_second": round(steps / seconds, 1),
            "seconds": round(seconds, 3),
        }
        return standing, row


def _lifetimes(ended: Sequence[Ended]) -> Record:
    """Return the row's part about lifetimes that ended."""

    def means(some: Sequence[Ended]) -> Record:
        returned = _mean([x.returned for x in some])
        return {"return": returned, "optimal": _mean([x.optimal for x in some])}

    finished = [x for x in ended if x.reason == "finished" and x.returned is not None]
    known = [x for x in finished if x.optimal is not None]
    by_environment: dict[str, list[Ended]] = {}
    for one in finished:
        by_environment.setdefault(one.environment, []).append(one)
    reasons = collections.Counter(x.reason for x in ended)
    return {
        **means(known or finished),
        "finished": reasons["finished"],
        "resets": {name: reasons[name] for name in ("entropy", "non_finite")},
        "environments": {
            name: {**means(some), "finished": len(some)}
            for name, some in by_environment.items()
        },
    }


def _mean(values: Sequence[Any]) -> float | None:
    """Return the mean, None if a value is not known."""
    return None if None in values or not values else jsonl.number(np.mean(values))


def _shown(row: Record) -> str:
    def text(name: str) -> str:
        value = row[name]
        return f"{math.nan if value is None else value:.3g}"

    resets = "+".join(str(count) for count in row["resets"].values())
    return (
        f"return {text('return')} of {text('optimal')}  share {text('recent_share')}  "
        f"entropy {text('policy_entropy')} and {text('target_entropy')}  "
        f"resets {resets}  {row['steps_per_second']:,.0f} steps/s"
    )
