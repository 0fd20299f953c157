"""A campaign's log as TensorBoard has it."""

import pathlib
from collections.abc import Iterable, Iterator
from typing import Any

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.rundir.jsonl import Row

FOLDER = "tensorboard"


def require() -> Any:
    """The class that writes events, of tensorboardX.

    Raises:
        MissingExtraError: It is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError as error:
        raise MissingExtraError(
            f"tensorboard=True needs tensorboardX ({error}): "
            "pip install 'learned-opt-rl[tensorboard]'"
        ) from error
    return SummaryWriter


class TensorBoard:
    """Writes rows of the log as events.

    All of the log is written anew when a campaign goes on, with a mark that hides what
    an earlier process wrote: no step is there twice, and none is missing.

    Args:
        folder: Of the events.
        rows: The log so far.

    Raises:
        MissingExtraError: tensorboardX is not installed.
    """

    def __init__(self, folder: pathlib.Path, rows: Iterable[Row]) -> None:
        """Writes what there is."""
        self._writer = require()(str(folder), purge_step=0)
        for row in rows:
            self(row)

    def __call__(self, row: Row) -> None:
        """Writes a row; it is on disk when this returns."""
        for tag, value in scalars(row):
            self._writer.add_scalar(tag, value, row["generation"])
        self._writer.flush()

    def close(self) -> None:
        """Closes the file."""
        self._writer.close()


def scalars(row: Row) -> Iterator[tuple[str, float]]:
    """The numbers of a row by their tags; None, which is not finite, is left out.

    Args:
        row: Of the log.

    Yields:
        Tags and values.

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
