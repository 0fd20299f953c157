"""Strict JSON: what two readers could understand differently is refused."""

import json
import math
import pathlib
from typing import Any

from learned_opt_rl.errors import CardError

# A card is prose and a few numbers; anything larger is not a card.
MAX_BYTES = 256 * 1024


def read_json(path: pathlib.Path) -> Any:
    """Read one JSON document from a small UTF-8 file.

    Args:
        path: The file.

    Returns:
        The parsed document.

    Raises:
        CardError: The file is unreadable, larger than 256 KiB, not UTF-8, or not
            strict JSON (duplicate keys, NaN and infinities are refused).
    """
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or error
        raise CardError(f"{path}: cannot be read ({reason}); restore it") from error
    if len(content) > MAX_BYTES:
        raise CardError(
            f"{path}: is larger than {MAX_BYTES} bytes; "
            "a card holds prose only, so move data to files of their own"
        )
    try:
        return _parse(content)
    except ValueError as error:
        raise CardError(f"{path}: {error}") from error


def _parse(content: bytes) -> Any:
    try:
        return json.loads(
            content.decode("utf-8"),
            object_pairs_hook=_unique_keys,
            parse_constant=_refuse_constant,
            parse_float=_finite_float,
        )
    except UnicodeDecodeError as error:
        raise ValueError(
            f"is not UTF-8 (byte {error.start}); save it in that encoding"
        ) from error
    except json.JSONDecodeError as error:
        raise ValueError(
            f"is not JSON: {error.msg} at line {error.lineno}, column {error.colno}; "
            "correct it there"
        ) from error
    except RecursionError as error:
        raise ValueError("is nested too deeply; a card has 3 levels") from error


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for key, value in pairs:
        if key in result:
            raise ValueError(f"repeats the key {key!r}; keep one of the two")
        result[key] = value
    return result


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"holds {constant}, which JSON does not know; write null")


def _finite_float(literal: str) -> float:
    value = float(literal)
    if not math.isfinite(value):
        raise ValueError(f"holds {literal}, too large for a float; write null")
    return value
