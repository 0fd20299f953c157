"""Parse and format ``NAME=VALUE`` texts for the fields of a configuration."""

import dataclasses
import typing
from collections.abc import Iterable, Mapping
from types import NoneType
from typing import Any

from learned_opt_rl.checks import nearest


def parse(
    settings: Iterable[str], config_type: type, option: str = "--set", **groups: type
) -> dict[str, Any]:
    """Return the values that texts give to fields of a configuration.

    The type of a field decides how its value is written: ``gamma=0.9``,
    ``activation=tanh``, ``anneal=true``, ``hidden=256x256``,
    ``environments=ant,hopper``, ``gammas=0.9,0.99``, and ``horizons=0:2e5,100:1e6`` or
    just ``horizons=2e5`` for pairs that begin at 0. Convolutions are written
    ``conv=16:3:1,32:3:1``. ``none`` is None, and no layer for ``hidden`` and ``conv``.

    Args:
        settings: The texts.
        config_type: A dataclass. Its configuration checks the ranges of the values.
        option: The option that takes the texts, for messages.
        **groups: Dataclasses of fields that hold settings of their own, which are
            written ``GROUP.NAME=VALUE``.

    Raises:
        ValueError: A text has another form, names an unknown field or one field twice,
            or its value does not have the type of the field.
    """
    parsers = _parsers(config_type)
    for group, kind in groups.items():
        parsers |= {f"{group}.{name}": p for name, p in _parsers(kind).items()}
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or name not in parsers:
            if equals and (meant := _meant(name, parsers)):
                raise ValueError(
                    f"{option} {setting!r}: {name!r} is not a setting; did you mean "
                    f"{meant}?"
                )
            raise ValueError(
                f"{option} {setting!r} is not NAME=VALUE with one of the names "
                f"{', '.join(parsers)}"
            )
        group, dot, field = name.rpartition(".")
        target = values.setdefault(group, {}) if dot else values
        if field in target:
            raise ValueError(f"{option} gives {name!r} twice; give it once")
        try:
            target[field] = parsers[name](text)
        except ValueError as error:
            raise ValueError(f"{option} {setting!r}: {error}") from error
    return values


def _meant(name: str, known: Iterable[str]) -> str:
    """Return the most similar names of the same group, as a text."""
    group, dot, field = name.rpartition(".")
    fields = [n.rpartition(".")[2] for n in known if n.rpartition(".")[0] == group]
    return " or ".join(repr(group + dot + near) for near in nearest(field, fields))


def format(values: Mapping[str, Any]) -> list[str]:
    """Return the texts from which `parse` reads the values, or their JSON."""
    texts = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            texts += [f"{name}.{text}" for text in format(value)]
        else:
            texts.append(f"{name}={_text(value)}")
    return texts


def tuples(value: Any) -> Any:
    """Return a value from JSON with tuples for its lists, as configurations have."""
    if isinstance(value, Mapping):
        return {name: tuples(part) for name, part in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value


def _text(value: Any) -> str:
    if isinstance(value, list | tuple):
        if any(isinstance(part, list | tuple) for part in value):
            return ",".join(":".join(map(str, pair)) for pair in value)
        apart = "," if any(isinstance(part, str | float) for part in value) else "x"
        return apart.join(map(str, value)) or "none"
    if isinstance(value, bool):
        return str(value).lower()
    return "none" if value is None else str(value)


def _parsers(config_type: type) -> dict[str, Any]:
    types = typing.get_type_hints(config_type)
    found = {
        field.name: _parser(types[field.name])
        for field in dataclasses.fields(config_type)
        # The length of a run has an option of its own.
        if field.name != "total_timesteps"
    }
    return {name: parser for name, parser in found.items() if parser is not None}


def _parser(kind: Any) -> Any:
    """Return what reads a value of the type; None for types without a text."""
    options = typing.get_args(kind)
    if NoneType in options:
        parser = _parser(options[0])
        return lambda text: None if text == "none" else parser(text)
    if typing.get_origin(kind) is tuple:
        return _TUPLES.get(options[0])
    if typing.get_origin(kind) is typing.Literal:
        return str
    return _PLAIN.get(kind)


def _flag(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError(f"{text!r} must be true or false")
    return text == "true"


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None


def _whole(text: str) -> int:
    value = _float(text)
    if not value.is_integer():
        raise ValueError(f"{text!r} is not a whole number")
    return int(value)


def _sizes(text: str) -> tuple[int, ...]:
    return () if text == "none" else tuple(map(_whole, text.split("x")))


def _numbers(text: str) -> tuple[float, ...]:
    return () if text == "none" else tuple(map(_float, text.split(",")))


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _pairs(text: str) -> tuple[tuple[int, int], ...]:
    pairs = [pair.rpartition(":") for pair in text.split(",")]
    try:
        return tuple((_whole(first or "0"), _whole(last)) for first, _, last in pairs)
    except ValueError as error:
        raise ValueError(f"{error}; write pairs as 0:2e5,100:1e6") from None


def _layers(text: str) -> tuple[tuple[int, ...], ...]:
    layers = () if text == "none" else text.split(",")
    return tuple(tuple(map(_whole, layer.split(":"))) for layer in layers)


_PLAIN = {bool: _flag, int: _whole, float: _float, str: str}
_TUPLES = {
    **{int: _sizes, float: _numbers, str: _names},
    **{tuple[int, int]: _pairs, tuple[int, int, int]: _layers},
}
