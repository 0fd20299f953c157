"""JSON lines on disk: one JSON object per line, appended and never rewritten.

A comparison of thousands of runs would otherwise write its file thousands of times. A
kill may leave an unfinished last line: `read` skips it with a warning, and `append`
cuts it off.
"""

import json
import math
import os
import pathlib
import warnings
from collections.abc import Iterable
from typing import Any

Record = dict[str, Any]
"""A JSON object: a row of a run, a generation of a log, a failure."""


def read(path: str | pathlib.Path) -> list[Record]:
    """Read the objects in a file of JSON lines; a missing file has none.

    An unfinished last line is left out, with a warning. Any other line that is not a
    JSON object is a `ValueError`.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    content = path.read_bytes()
    torn = _torn(content)
    if torn:
        warnings.warn(
            f"{path} ends in an unfinished line ({torn} bytes); the line is ignored, "
            "and removed when rows are added",
            stacklevel=2,
        )
    lines = content[: len(content) - torn].splitlines()
    return [_record(path, number, line) for number, line in enumerate(lines, 1)]


def append(path: str | pathlib.Path, records: Iterable[Record]) -> None:
    """Append objects to a file; they are on the disk when this function returns.

    After an error or an interrupt the file holds none of them. After a kill it may
    hold some of them and an unfinished line. The file and its folder are made if they
    do not exist. Numbers must be finite.
    """
    path = pathlib.Path(path)
    lines = "".join(json.dumps(one, allow_nan=False) + "\n" for one in records).encode()
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


def number(value: Any) -> float | None:
    """Return a number for JSON, which has no NaN: None if it is not finite."""
    return float(value) if math.isfinite(value) else None


def numbers(values: Iterable[Any]) -> list[float | None]:
    """Return numbers for JSON, None for those that are not finite."""
    return [number(value) for value in values]


def _write(file: Any, content: bytes) -> None:
    # An unbuffered file may accept fewer bytes than it is given.
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
    os.fsync(file.fileno())


def _torn(content: bytes) -> int:
    """Return the length of an unfinished last line, 0 if the last line is whole."""
    last = content[content.rfind(b"\n") + 1 :]
    try:
        return 0 if isinstance(json.loads(last or b"{}"), dict) else len(last)
    except ValueError:
        return len(last)


def _record(path: pathlib.Path, number: int, line: bytes) -> Record:
    try:
        record = json.loads(line)
    except ValueError as error:
        raise ValueError(
            f"{path}, line {number} is not valid JSON ({error}); correct or delete it"
        ) from error
    if not isinstance(record, dict):
        raise ValueError(
            f"{path}, line {number} holds a {type(record).__name__}, not an object; "
            "this is not a file of results"
        )
    return record
