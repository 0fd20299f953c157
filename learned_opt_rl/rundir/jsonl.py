"""Results on disk: one JSON object per line, one line per run.

Rows are appended, not rewritten: a comparison of thousands of runs would otherwise
write its file thousands of times over. What a kill leaves of an unfinished line is no
row; it is reported when read, and cut off when the next rows are added.
"""

import json
import math
import os
import pathlib
import warnings
from collections.abc import Iterable
from typing import Any

Row = dict[str, Any]
"""What `runs.run` measured of one rule, environment and seed."""


def read(path: str | pathlib.Path) -> list[Row]:
    """Reads a results file.

    Args:
        path: A JSON Lines file; it need not exist.

    Returns:
        Its rows in order, none if there is no such file. A last line that a killed
        process did not finish is left out, with a warning.

    Raises:
        ValueError: If a line is not a JSON object.

    Example:
        >>> read("no/such/file.jsonl")
        []
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    content = path.read_bytes()
    torn = _torn(content)
    if torn:
        warnings.warn(
            f"{path} ends in a line that was never finished ({torn} bytes); it is not "
            "counted, and is cut off when rows are added",
            stacklevel=2,
        )
    lines = content[: len(content) - torn].splitlines()
    return [_row(path, number, line) for number, line in enumerate(lines, 1)]


def append(path: str | pathlib.Path, rows: Iterable[Row]) -> None:
    """Adds rows to a results file, and has them on the disk when it returns.

    An error or an interrupt leaves the file without any of them. A kill may leave
    some of them whole, and the start of another, which `read` does not count.

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
    lines = "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows).encode()
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("r+b" if path.exists() else "x+b", buffering=0) as file:
        content = file.read()
        end = len(content) - _torn(content)
        if content[:end] and not content[:end].endswith(b"\n"):
            lines = b"\n" + lines
        file.truncate(end)
        file.seek(end)
        try:
            _write(file, lines)
        except BaseException:
            file.truncate(end)
            raise


def _write(file: Any, content: bytes) -> None:
    """All of it, through to the disk; an unbuffered file may take it in pieces."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
    os.fsync(file.fileno())


def _torn(content: bytes) -> int:
    """Length of a last line without its end that is no whole JSON value either."""
    last = content[content.rfind(b"\n") + 1 :]
    try:
        return 0 if isinstance(json.loads(last or b"{}"), dict) else len(last)
    except ValueError:
        return len(last)


def _row(path: pathlib.Path, number: int, line: bytes) -> Row:
    try:
        row = json.loads(line)
    except ValueError as error:
        raise ValueError(
            f"{path}, line {number} is not JSON ({error}); mend or delete the line"
        ) from error
    if not isinstance(row, dict):
        raise ValueError(
            f"{path}, line {number} holds a {type(row).__name__}, not a row; this "
            "is no file of results"
        )
    return row


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


def number(value: Any) -> float | None:
    """A number as a row has it: JSON has no NaN, a missing number says as much.

    Args:
        value: A scalar.

    Returns:
        The value as a float; None if it is not finite.

    Example:
        >>> number(1), number(float("nan"))
        (1.0, None)
    """
    return float(value) if math.isfinite(value) else None
