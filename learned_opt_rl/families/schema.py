"""Check the fields of dataclasses against their annotations.

A field's annotation states its check: a plain type, a ``Literal``, another dataclass,
a tuple, a mapping, ``X | None``, or ``Annotated[type, check, ...]`` where a check is a
function ``check(value, path)`` that raises `MismatchError`. Cards and architectures
are read with the same checks that their Python constructors run.
"""

import dataclasses
import functools
import re
import reprlib
import sys
import types
import typing
from collections.abc import Callable, Mapping
from types import NoneType
from typing import Annotated, Any, Literal, TypeAlias, TypeVar, get_args, get_origin

from learned_opt_rl import checks

Check = Callable[[Any, str], None]
_Record = TypeVar("_Record")


class MismatchError(ValueError):
    """A field is not what its annotation asks for.

    ``path`` is the field, dotted, such as ``"weights.sha256"``; empty for the root.
    """

    def __init__(self, path: str, problem: str, fix: str) -> None:
        super().__init__(f"{path or 'the card'} {problem}; {fix}")


def wrong(path: str, value: object, fix: str) -> MismatchError:
    """Build the error for a value, which is shown briefly."""
    return MismatchError(path, f"is {reprlib.repr(value)}", fix)


def text(value: Any, path: str) -> None:
    """Accept a non-empty string that is safe to print in a terminal."""
    if not isinstance(value, str) or not value.strip():
        raise wrong(path, value, "write a non-empty string")
    # A card comes from third parties: escape sequences must not reach a terminal.
    hidden = next((c for c in value if not (c.isprintable() or c == "\n")), None)
    if hidden is not None:
        problem = f"holds the non-printable character U+{ord(hidden):04X}"
        raise MismatchError(path, problem, "remove it")


def number(value: Any, path: str) -> None:
    """Accept a finite number."""
    # The largest float bounds integers too: a longer one has no float to become.
    largest = sys.float_info.max
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not -largest <= value <= largest:
        raise wrong(path, value, "write a finite number")


def boolean(value: Any, path: str) -> None:
    """Accept ``True`` or ``False``."""
    if not isinstance(value, bool):
        raise wrong(path, value, "write true or false")


def scalar(value: Any, path: str) -> None:
    """Accept a string, a number, a boolean or ``None``."""
    if isinstance(value, str):
        text(value, path)
    elif not isinstance(value, bool | None):
        number(value, path)


def matches(pattern: str, fix: str) -> Check:
    """Make a check for strings that a regular expression describes in full."""
    compiled = re.compile(pattern)

    def check_pattern(value: Any, path: str) -> None:
        if not isinstance(value, str) or compiled.fullmatch(value) is None:
            raise wrong(path, value, fix)

    return check_pattern


def at_least(bound: int) -> Check:
    """Make a check for integers from a bound upwards."""

    def check_integer(value: Any, path: str) -> None:
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not whole or value < bound:
            raise wrong(path, value, f"write an integer of at least {bound}")

    return check_integer


def _above_zero(value: Any, path: str) -> None:
    number(value, path)
    if value <= 0:
        raise wrong(path, value, "write a number above 0")


def _interval(value: Any, path: str) -> None:
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise wrong(path, value, "write [low, high] or null")
    for index, bound in enumerate(value):
        number(bound, f"{path}[{index}]")
    if value[0] > value[1]:
        raise wrong(path, value, "write the lower bound first")


Size: TypeAlias = Annotated[int, at_least(1)]
Count: TypeAlias = Annotated[int, at_least(0)]
Positive: TypeAlias = Annotated[float, _above_zero]
Interval: TypeAlias = Annotated[tuple[float, float], _interval]
Scalar: TypeAlias = Annotated[str | int | float | bool | None, scalar]

_PLAIN: dict[Any, Check] = {str: text, float: number, bool: boolean}


def check(record: Any, path: str) -> None:
    """Check every field of a dataclass instance, as its ``__post_init__`` does.

    `MismatchError` is raised for a value that does not fit its annotation; ``path`` is
    the name of the record in the error.
    """
    for name, annotation in hints(type(record)).items():
        _convert(annotation, getattr(record, name), f"{path}.{name}")


def build(cls: type[_Record], data: Any, path: str = "") -> _Record:
    """Build a dataclass from parsed JSON, checking every field.

    Lists become tuples. The defaults of the dataclass are not used: a field that is
    missing, unknown or wrong raises `MismatchError`. ``path`` is where the data is
    inside the whole, dotted.
    """
    _require_object(data, path)
    fields = hints(cls)
    for key in data:
        if key not in fields:
            shown = _join(path, reprlib.repr(key).strip("'\""))
            near = checks.nearest(key, fields, 1)
            fix = f"use only {', '.join(fields)}"
            if near:
                fix = f"did you mean {near[0]!r}?"
            raise MismatchError(shown, "is not a known field", fix)
    values: dict[str, Any] = {}
    for name, annotation in fields.items():
        if name not in data:
            raise MismatchError(_join(path, name), "is missing", "add it")
        values[name] = _convert(annotation, data[name], _join(path, name))
    return cls(**values)


@functools.cache  # resolving annotations takes longer than all checks of a card
def hints(cls: type) -> dict[str, Any]:
    """Return a dataclass's fields and their annotations, in order."""
    resolved = typing.get_type_hints(cls, include_extras=True)
    fields: Any = dataclasses.fields(cls)  # pyright: ignore[reportArgumentType]
    return {field.name: resolved[field.name] for field in fields if field.init}


def _convert(annotation: Any, value: Any, path: str) -> Any:
    """Check a value; return it with lists as tuples and objects as dataclasses."""
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        for check_value in annotation.__metadata__:
            check_value(value, path)
        return tuple(value) if isinstance(value, list) else value
    if origin is Literal:
        # Compared by type too: True must not pass for 1.
        if not any(type(value) is type(a) and value == a for a in arguments):
            raise wrong(path, value, f"write {' or '.join(map(repr, arguments))}")
    elif origin in (typing.Union, types.UnionType):
        return _convert_union(arguments, value, path)
    elif origin is tuple:
        return _convert_list(arguments[0], value, path)
    elif origin is Mapping:
        return _convert_mapping(arguments[1], value, path)
    elif dataclasses.is_dataclass(annotation):
        if isinstance(value, annotation):  # pyright: ignore[reportArgumentType]
            return value
        return build(annotation, value, path)  # pyright: ignore[reportArgumentType]
    else:
        _PLAIN[annotation](value, path)
    return value


def _convert_union(options: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and NoneType in options:
        return None
    chosen = [option for option in options if option is not NoneType]
    if len(chosen) > 1:  # dataclasses: choose the one that has most of the keys
        _require_object(value, path)
        data: Any = value
        chosen.sort(key=lambda option: -len(hints(option).keys() & data.keys()))
    return _convert(chosen[0], value, path)


def _convert_list(annotation: Any, value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, list | tuple):
        raise wrong(path, value, "write a list")
    return tuple(
        _convert(annotation, item, f"{path}[{index}]")
        for index, item in enumerate(value)
    )


def _convert_mapping(annotation: Any, value: Any, path: str) -> dict[str, Any]:
    _require_object(value, path)
    for key in value:
        text(key, _join(path, "key"))
    return {
        key: _convert(annotation, item, _join(path, key)) for key, item in value.items()
    }


def _join(path: str, key: object) -> str:
    return f"{path}.{key}" if path else str(key)


def _require_object(value: Any, path: str) -> None:
    if not isinstance(value, Mapping):
        raise wrong(path, value, "write an object {...}")
