"""A campaign's log as TensorBoard events."""

import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.rundir.jsonl import Record

FOLDER = "tensorboard"


def require() -> Any:
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

    A resumed campaign writes the whole log again, with a mark that hides the events of
    earlier processes, so that no step is missing or duplicated.

    Args:
        folder: Folder of the events.
        rows: The log so far.

    Raises:
        MissingExtraError: tensorboardX is not installed.
    """

    def __init__(self, folder: pathlib.Path, rows: Iterable[Record]) -> None:
        self._writer = require()(str(folder), purge_step=0)
        for row in rows:
            self(row)

    def __call__(self, row: Record) -> None:
        """Write a row; it is on disk when this returns."""
        for tag, value in scalars(row):
            self._writer.add_scalar(tag, value, row["generation"])
        self._writer.flush()

    def close(self) -> None:
        """Close the file."""
        self._writer.close()


def scalars(row: Record) -> Iterator[tuple[str, float]]:
    """Yield the tags and numbers of a row of the log, without its None values.

    Example:
        >>> list(scalars({"generation": 1, "mean": 2.0, "returns": {"Catch": None}}))
        [('fitness/mean', 2.0)]
    """
    groups = {
        "fitness/": {k: row.get(k) for k in ("best", "mean", "std", "validation")},
        "members/": row.get("returns", {}),
        "mean/": row.get("validation_returns", {}),
        "run/": {k: row.get(k) for k in ("horizon", "failed", "steps_per_second")},
    }
    for group, values in groups.items():
        for name, value in values.items():
            if value is not None:
                yield group + name, value
