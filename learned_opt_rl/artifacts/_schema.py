"""A declarative table of checks, just large enough for the card schema.

A check is a function ``check(value, path)`` that returns nothing and raises
`MismatchError` at the first thing wrong. Records, lists and alternatives are built from
smaller checks, so the schema in ``card.py`` reads as a table.
"""

import difflib
import re
import reprlib
import sys
from collections.abc import Callable, Mapping
from typing import Any

Check = Callable[[Any, str], None]


class MismatchError(Exception):
    """One field is not what the schema asks for.

    Args:
        path: The field, dotted, such as ``"weights.sha256"``; empty for the root.
        problem: What was found.
        fix: What to write instead.
    """

    def __init__(self, path: str, problem: str, fix: str) -> None:
        super().__init__(f"{path or 'the card'} {problem}; {fix}")


def found(value: object) -> str:
    """A short description of an offending value."""
    return f"is {reprlib.repr(value)}"


def join(path: str, key: object) -> str:
    """The path of the field ``key`` inside ``path``."""
    return f"{path}.{key}" if path else str(key)


def text(value: Any, path: str) -> None:
    """Accept a non-empty string that is safe to print in a terminal."""
    if not isinstance(value, str) or not value.strip():
        raise MismatchError(path, found(value), "write a non-empty string")
    # A card comes from third parties: escape sequences must not reach a terminal.
    hidden = next((c for c in value if not (c.isprintable() or c == "\n")), None)
    if hidden is not None:
        problem = f"holds the non-printable character U+{ord(hidden):04X}"
        raise MismatchError(path, problem, "remove it")


def matches(pattern: str, fix: str) -> Check:
    """Accept a string that the regular expression describes in full."""
    compiled = re.compile(pattern)

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str) or compiled.fullmatch(value) is None:
            raise MismatchError(path, found(value), fix)

    return check


def one_of(*allowed: object) -> Check:
    """Accept one of a few literal values (``True`` does not pass for ``1``)."""
    listing = " or ".join(repr(choice) for choice in allowed)

    def check(value: Any, path: str) -> None:
        if not any(type(value) is type(a) and value == a for a in allowed):
            raise MismatchError(path, found(value), f"write {listing}")

    return check


def positive_integer(value: Any, path: str) -> None:
    """Accept an integer from 1 upwards."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise MismatchError(path, found(value), "write an integer of at least 1")


def number(value: Any, path: str) -> None:
    """Accept a finite number."""
    # The largest float bounds integers too: a longer one has no float to become.
    largest = sys.float_info.max
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not -largest <= value <= largest:
        raise MismatchError(path, found(value), "write a finite number")


def boolean(value: Any, path: str) -> None:
    """Accept ``true`` or ``false``."""
    if not isinstance(value, bool):
        raise MismatchError(path, found(value), "write true or false")


def interval(value: Any, path: str) -> None:
    """Accept a pair of numbers in ascending order."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise MismatchError(path, found(value), "write [low, high] or null")
    for index, bound in enumerate(value):
        number(bound, f"{path}[{index}]")
    if value[0] > value[1]:
        raise MismatchError(path, found(value), "write the lower bound first")


def scalar(value: Any, path: str) -> None:
    """Accept a string, a number or a boolean."""
    if isinstance(value, str):
        text(value, path)
    elif not isinstance(value, bool):
        number(value, path)


def optional(check: Check) -> Check:
    """Accept ``null`` or what ``check`` accepts."""

    def check_optional(value: Any, path: str) -> None:
        if value is not None:
            check(value, path)

    return check_optional


def list_of(check: Check) -> Check:
    """Accept a list whose every item ``check`` accepts."""

    def check_list(value: Any, path: str) -> None:
        if not isinstance(value, list | tuple):
            raise MismatchError(path, found(value), "write a list")
        for index, item in enumerate(value):
            check(item, f"{path}[{index}]")

    return check_list


def mapping_of(check: Check) -> Check:
    """Accept an object with any keys whose every value ``check`` accepts."""

    def check_mapping(value: Any, path: str) -> None:
        _require_object(value, path)
        for key, item in value.items():
            text(key, join(path, "key"))
            check(item, join(path, key))

    return check_mapping


def record(**fields: Check) -> Check:
    """Accept an object with exactly these keys, each checked in turn."""

    def check_record(value: Any, path: str) -> None:
        _require_object(value, path)
        for key in value:
            if key not in fields:
                raise _unknown_key(path, key, fields)
        for key, check in fields.items():
            if key not in value:
                raise MismatchError(join(path, key), "is missing", "add it")
            check(value[key], join(path, key))

    return check_record


def _require_object(value: Any, path: str) -> None:
    if not isinstance(value, Mapping):
        raise MismatchError(path, found(value), "write an object {...}")


def _unknown_key(path: str, key: object, fields: Mapping[str, Check]) -> MismatchError:
    shown = reprlib.repr(key).strip("'\"")
    near = difflib.get_close_matches(str(key), fields, n=1)
    hint = f"did you mean {near[0]!r}?" if near else f"use only {', '.join(fields)}"
    return MismatchError(join(path, shown), "is not a known field", hint)
