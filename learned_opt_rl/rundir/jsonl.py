"""JSON lines on disk: one JSON object per line, mostly appended.

A comparison of thousands of runs would otherwise write its file thousands of times. A
kill may leave an unfinished last line: `read` skips it with a warning, and `append`
moves it to another file. Anything else that is not a JSON object is refused, because
the file may belong to another program.
"""

import json
import math
import os
import pathlib
import re
import warnings
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO

from learned_opt_rl.rundir.atomic import write_atomically

Record = dict[str, Any]
"""A JSON object: a row of a run, a generation of a log, a failure."""

_TORN = ".torn"
# Strings of JSON, in which brackets do not count; the last may be unfinished.
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*("|$)', re.DOTALL)
# Bytes read at a time in search of the start of the last line.
_CHUNK = 1 << 16


def read(path: str | pathlib.Path) -> list[Record]:
    """Read the objects in a file of JSON lines; a missing file has none.

    An unfinished last line is left out, with a warning. Any other line that is not a
    JSON object, in UTF-8 and with every key once, is a `ValueError`.
    """
    path = pathlib.Path(path)
    if not path.exists():
        return []
    content = path.read_bytes()
    torn = _torn(content[content.rfind(b"\n") + 1 :])
    if torn:
        warnings.warn(
            f"{path} ends in an unfinished line ({torn} bytes); the line is ignored, "
            f"and moved to {path.name}{_TORN} when rows are added",
            stacklevel=2,
        )
    lines = content[: len(content) - torn].splitlines()
    return [_record(path, f"line {n}", line) for n, line in enumerate(lines, 1)]


def append(
    path: str | pathlib.Path,
    records: Iterable[Record],
    *,
    accepts: Callable[[Record], Any] = dict,
) -> None:
    """Append objects to a file; they are on the disk when this function returns.

    After an error or an interrupt the file holds none of them. After a kill it may
    hold some of them and an unfinished line. The file and its folder are made if they
    do not exist. An unfinished last line is moved to a file whose name ends in
    ``.torn``. Numbers must be finite.

    Raises:
        ValueError: The first or the last line of the file is not a JSON object, or
            ``accepts`` raises this for one of them; the file is left as it is.
    """
    path = pathlib.Path(path)
    lines = _lines(records)
    path.parent.mkdir(parents=True, exist_ok=True)
    last = _checked_last_line(path, accepts) if path.exists() else b""
    torn = _torn(last)
    with path.open("r+b" if path.exists() else "x+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END) - torn
        if torn:
            with path.with_name(path.name + _TORN).open("ab", buffering=0) as beside:
                _write(beside, last + b"\n")
            file.truncate(end)
        elif last:
            lines = b"\n" + lines
        file.seek(end)
        try:
            _write(file, lines)
        except BaseException:
            file.truncate(end)
            raise


def replace(path: pathlib.Path, records: Iterable[Record]) -> None:
    """Make objects the whole content of a file, in one step. Numbers must be finite."""
    write_atomically(path, _lines(records))


def number(value: Any) -> float | None:
    """Return a number for JSON, which has no NaN: None if it is not finite."""
    return float(value) if math.isfinite(value) else None


def numbers(values: Iterable[Any]) -> list[float | None]:
    """Return numbers for JSON, None for those that are not finite."""
    return [number(value) for value in values]


def _lines(records: Iterable[Record]) -> bytes:
    return "".join(json.dumps(x, allow_nan=False) + "\n" for x in records).encode()


def _write(file: Any, content: bytes) -> None:
    # An unbuffered file may accept fewer bytes than it is given.
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) :]
    os.fsync(file.fileno())


def _checked_last_line(path: pathlib.Path, accepts: Callable[[Record], Any]) -> bytes:
    """Return what follows the last line break, if the file looks like JSON lines."""
    with path.open("rb") as file:
        first, last = file.readline(), _last_line(file)
    whole = {"line 1": first} if first.endswith(b"\n") else {}
    if last and not _torn(last):
        whole["the last line"] = last
    for place, line in whole.items():
        try:
            accepts(_record(path, place, line))
        except ValueError as error:
            raise ValueError(
                f"{path} is not a file of results, so nothing is added to it; name "
                f"another file ({error})"
            ) from error
    return last


def _last_line(file: BinaryIO) -> bytes:
    """Return what follows the last line break of a file."""
    end, size, last = file.seek(0, os.SEEK_END), _CHUNK, b""
    while len(last) < end and b"\n" not in last:
        file.seek(max(0, end - size))
        last, size = file.read(), 2 * size
    return last[last.rfind(b"\n") + 1 :]


def _torn(last: bytes) -> int:
    """Return the length of a last line that is the start of an object, else 0.

    Some file systems fill the end of a file with zeros when the power fails.
    """
    line = last.rstrip(b"\0")
    unfinished = any(not end for end in _STRING.findall(line))
    brackets = _STRING.sub(b"", line)
    opened, closed = (len(re.findall(p, brackets)) for p in (rb"[{[]", rb"[]}]"))
    is_start = line.lstrip().startswith(b"{") and (unfinished or opened > closed)
    return len(last) if last and (is_start or not line) else 0


def _object(pairs: list[tuple[str, Any]]) -> Record:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"it has {twice[:60]!r} twice")
    return made


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number of JSON; write null")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_constant=_constant)


def _record(path: pathlib.Path, place: str, line: bytes) -> Record:
    try:
        # Editors on Windows put a byte order mark at the start of a file.
        record = _DECODER.decode(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise ValueError(
            f"{path}, {place} is not valid JSON ({error}); correct or delete it"
        ) from error
    if not isinstance(record, dict):
        raise ValueError(
            f"{path}, {place} holds a {type(record).__name__}, not an object; "
            "this is not a file of results"
        )
    return record
