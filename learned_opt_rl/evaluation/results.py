"""Results on disk: one JSON object per line, one line per run."""

import json
import pathlib
from collections.abc import Iterable
from typing import Any

from learned_opt_rl.artifacts._atomic import write_atomically

Row = dict[str, Any]
"""What `runs.run` measured of one rule, environment and seed."""


def read(path: str | pathlib.Path) -> list[Row]:
    """Reads a results file.

    Args:
        path: A JSON Lines file; it need not exist.

    Returns:
        Its rows in order, none if there is no such file.

    Raises:
        ValueError: If a line is not a JSON object.

    Example:
        >>> read("no/such/file.jsonl")
        []
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    rows = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"{path}, line {number} is not JSON ({error}); mend or delete the line"
            ) from error
        if not isinstance(row, dict):
            raise ValueError(
                f"{path}, line {number} holds a {type(row).__name__}, not a row; this "
                "is no file of results"
            )
        rows.append(row)
    return rows


def append(path: str | pathlib.Path, rows: Iterable[Row]) -> None:
    """Adds rows to a results file, all of them or, if interrupted, none.

    Args:
        path: A JSON Lines file; it and its folder are made if need be.
        rows: What to add; numbers must be finite.

    Raises:
        ValueError: If a row cannot be written as JSON.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     file = pathlib.Path(folder) / "results.jsonl"
        ...     append(file, [{"rule": "adam", "final_return": 24.0}])
        ...     read(file)
        [{'rule': 'adam', 'final_return': 24.0}]
    """
    path = pathlib.Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    before = path.read_bytes() if path.exists() else b""
    lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows)
    write_atomically(path, before + lines.encode())


def grouped(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Gathers the seeds of each rule and environment.

    Args:
        rows: In any order.

    Returns:
        Rows by ``(rule, environment)``, in order of first appearance.

    Example:
        >>> list(grouped([{"rule": "adam", "environment": "Catch-bsuite"}]))
        [('adam', 'Catch-bsuite')]
    """
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row["rule"], row["environment"]), []).append(row)
    return groups
