"""Axes along which a rule may generalize; each axis is a list of comparisons.

An axis varies one condition that a learned rule was trained under: the length of
training, the width or number of the hidden layers, the activation, or the features that
the agent provides. All its values go into one folder, and the report draws returns
against them.
(Environments are not an axis, because one comparison has several anyway.)

References:
    Goldie et al. 2024, sections 6.3 and 6.4 and appendix H.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from learned_opt_rl import artifacts
from learned_opt_rl.checks import one_of
from learned_opt_rl.errors import UnknownArtifactError
from learned_opt_rl.evaluation.runs.plan import Comparison
from learned_opt_rl.evaluation.runs.rules import FEATURES, artifact_name


class Axis(NamedTuple):
    """A condition to vary."""

    values: tuple[str, ...]  # the default values, as text
    apply: Callable[[Comparison, str], Comparison]  # returns the comparison at a value


def comparisons(
    axis: str, comparison: Comparison, values: Sequence[str] | None = None
) -> list[Comparison]:
    """Return the comparisons along an axis of `AXES`, one per value given as text.

    The axis overrides the settings of the comparison.
    """
    one_of("axis", axis, AXES)
    if values is not None and not values:
        raise ValueError("values=() is empty; give one, or None for the default")
    chosen = AXES[axis]
    return [chosen.apply(comparison, value) for value in values or chosen.values]


def _length(comparison: Comparison, value: str) -> Comparison:
    return dataclasses.replace(comparison, total_timesteps=_number("length", value))


def _width(comparison: Comparison, value: str) -> Comparison:
    width = _whole("width", value)
    return _set(comparison, f"hidden={width}x{width}")


def _depth(comparison: Comparison, value: str) -> Comparison:
    layers = ["64"] * _whole("depth", value)  # of the published width
    return _set(comparison, f"hidden={'x'.join(layers)}")


def _activation(comparison: Comparison, value: str) -> Comparison:
    return _set(comparison, f"activation={value}")


def _features(comparison: Comparison, value: str) -> Comparison:
    if value == "all":
        return comparison
    one_of("values", value, ("all", *FEATURES))
    whole = dict.fromkeys(rule.partition("@")[0] for rule in comparison.rules)
    rules = tuple(f"{rule}@{value}" for rule in whole if _is_learned(rule))
    if not rules:
        raise ValueError(
            f"rules={comparison.rules!r}: only a learned optimizer can lack a "
            "feature; add one, such as 'minatar'"
        )
    return dataclasses.replace(comparison, rules=rules)


def _is_learned(rule: str) -> bool:
    try:
        return artifacts.card(artifact_name(rule)).kind == "optimizer"
    except UnknownArtifactError:
        return False


def _set(comparison: Comparison, setting: str) -> Comparison:
    name = setting.partition("=")[0]
    others = [s for s in comparison.settings if s.partition("=")[0] != name]
    return dataclasses.replace(comparison, settings=(*others, setting))


def _whole(name: str, value: str) -> int:
    number = _number(name, value)
    if not (number >= 1 and number % 1 == 0):
        raise ValueError(f"{name} {value!r} must be a positive whole number")
    return int(number)


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise ValueError(f"{name} {value!r} is not a number") from error


AXES: dict[str, Axis] = {
    "length": Axis(("2.5e5", "5e5", "1e6", "2e6"), _length),
    "width": Axis(("16", "32", "64", "128", "256"), _width),
    "depth": Axis(("1", "2", "3", "4"), _depth),
    "activation": Axis(("relu", "tanh"), _activation),
    "features": Axis(("all", *FEATURES), _features),
}
"""The axes by name."""
