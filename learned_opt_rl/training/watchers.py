"""What follows the log of a run while it grows: the curve, TensorBoard's events."""

import functools
import pathlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.warn import warn_user

EVENTS = "tensorboard"
"""Subfolder of a run with TensorBoard events."""


def require_tensorboard() -> Any:
    """Return tensorboardX's writer, or raise MissingExtraError."""
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise MissingExtraError(
            f"tensorboard=True needs tensorboardX ({error}): "
            "pip install 'learned-opt-rl[tensorboard]'"
        ) from error
    return SummaryWriter


class TensorBoard:
    """Write rows of the log as events.

    A resumed run writes the whole log again, with a mark that hides the events of
    earlier processes, so that no step is missing or duplicated.
    """

    def __init__(self, folder: pathlib.Path, rows: Iterable[Record]) -> None:
        self._writer = require_tensorboard()(str(folder), purge_step=0)
        for row in rows:
            self(row)

    def __call__(self, row: Record) -> None:
        """Write a row; it is on disk when this returns."""
        step = row["generation" if "generation" in row else "step"]
        for tag, value in scalars(row):
            self._writer.add_scalar(tag, value, step)
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


class Watchers:
    """Pass rows of the log to the curve and the events of a run.

    A watcher that raises, for example because the disk is full, cannot stop a run: it
    is dropped with a warning.
    """

    def __init__(self, run: str) -> None:
        """``run`` is a word for the run, for the warning."""
        self._run = run
        self._watching: dict[str, Any] = {}

    def add(self, name: str, make: Callable[[], Any]) -> None:
        """Add the watcher that a function makes."""
        self._try(name, lambda: self._watching.update({name: make()}))

    def __call__(self, row: Record) -> None:
        """Show a row of the log."""
        for name, watcher in [*self._watching.items()]:
            self._try(name, functools.partial(watcher, row))

    def close(self) -> None:
        """Close the watchers that have files."""
        for name, watcher in [*self._watching.items()]:
            if isinstance(watcher, TensorBoard):
                self._try(name, watcher.close)

    def _try(self, name: str, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # Code of other packages may raise anything.
            self._watching.pop(name, None)
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            warn_user(f"the {self._run} continues without {name}: {reason}")


def scalars(row: Record) -> Iterator[tuple[str, float]]:
    """Yield the tags and numbers of a row of the log, without its None values."""
    groups = _generation(row) if "generation" in row else _meta_step(row)
    for group, values in groups.items():
        for name, value in values.items():
            if value is not None:
                yield f"{group}/{name}", value


def _generation(row: Record) -> dict[str, Mapping[str, Any]]:
    return {
        "fitness": {k: row.get(k) for k in ("best", "mean", "std", "validation")},
        "members": row.get("returns", {}),
        "mean": row.get("validation_returns", {}),
        "run": {k: row.get(k) for k in ("horizon", "failed", "steps_per_second")},
    }


def _meta_step(row: Record) -> dict[str, Mapping[str, Any]]:
    """Group a row of a meta-training, whose other numbers are those of the rule."""
    lifetimes = ("recent_share", "return", "optimal", "finished")
    run = ("steps_per_second",)
    rest = {
        k: v
        for k, v in row.items()
        if isinstance(v, float | None) and k not in (*lifetimes, *run, "seconds")
    }
    names = row["environments"].items()
    return {
        "lifetimes": {k: row[k] for k in lifetimes},
        "returns": {name: part["return"] for name, part in names},
        "resets": row["resets"],
        "meta_step": rest,
        "run": {k: row[k] for k in run},
    }
