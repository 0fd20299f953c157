"""``NAME=VALUE`` as on a command line, for the fields of a configuration."""

import collections.abc
import dataclasses
import typing
from collections.abc import Iterable
from types import NoneType
from typing import Any


def parse(settings: Iterable[str], config_type: type) -> dict[str, Any]:
    """Values of a configuration from their texts.

    Args:
        settings: Such as ``"hidden=256x256"``, ``"activation=tanh"``, ``"gamma=0.9"``;
            ``none`` is None, and of ``hidden`` no hidden layer.
        config_type: A configuration's dataclass.

    Returns:
        The values by field; whether they are in range, the configuration says.

    Raises:
        ValueError: If a text is not of that form, names no field or one twice, or its
            value is not of the field's type.

    Example:
        >>> from learned_opt_rl.agents import PPOConfig
        >>> parse(["hidden=256x256", "gamma=0.9"], PPOConfig)
        {'hidden': (256, 256), 'gamma': 0.9}
    """
    types = typing.get_type_hints(config_type)
    names = [
        field.name
        for field in dataclasses.fields(config_type)
        if _writable(types[field.name]) and field.name != "total_timesteps"
    ]
    values: dict[str, Any] = {}
    for setting in settings:
        name, equals, text = setting.partition("=")
        if not equals or name not in names:
            raise ValueError(
                f"--set {setting!r} is not NAME=VALUE with one of the names "
                f"{', '.join(names)}"
            )
        if name in values:
            raise ValueError(f"--set gives {name!r} twice; give it once")
        try:
            values[name] = _value(text, types[name])
        except ValueError as error:
            raise ValueError(f"--set {setting!r}: {error}") from error
    return values


def _writable(kind: Any) -> bool:
    """Whether values of the type are written as above; convolutions are not."""
    origin = typing.get_origin(kind)
    if origin is tuple:
        return typing.get_args(kind)[0] is int
    return origin is not collections.abc.Mapping


def _value(text: str, kind: Any) -> Any:
    options = typing.get_args(kind)
    if typing.get_origin(kind) is tuple:
        return () if text == "none" else tuple(int(_number(n)) for n in text.split("x"))
    if NoneType in options:
        return None if text == "none" else _value(text, options[0])
    if kind is bool:
        if text not in ("true", "false"):
            raise ValueError(f"{text!r} must be true or false")
        return text == "true"
    return _number(text, kind) if kind in (int, float) else text


def _number(text: str, kind: type = int) -> int | float:
    try:
        value = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is not a number") from None
    if kind is float:
        return value
    if not value.is_integer():
        raise ValueError(f"{text!r} is not a whole number")
    return int(value)
