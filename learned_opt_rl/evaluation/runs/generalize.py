"""Axes along which a rule may or may not generalise, each a few comparisons.

An axis varies one thing that a learned rule was trained with: the length of training,
the width of the hidden layers, the activation, or the features that the agent gives it.
All its values go into one folder; the report draws what was varied. (Another
environment is no axis: a comparison has several anyway.)

References:
    Goldie et al. 2024, sections 6.3 and 6.4 and appendix H.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import NamedTuple

from learned_opt_rl import artifacts
from learned_opt_rl.errors import UnknownArtifactError
from learned_opt_rl.evaluation.runs.compare import Comparison
from learned_opt_rl.evaluation.runs.missing_features import FEATURES
from learned_opt_rl.evaluation.runs.names import artifact_name


class Axis(NamedTuple):
    """What is varied.

    Attributes:
        values: Its values where none are given, as text.
        apply: The comparison at a value.
    """

    values: tuple[str, ...]
    apply: Callable[[Comparison, str], Comparison]


def comparisons(
    axis: str, asked: Comparison, values: Sequence[str] | None = None
) -> list[Comparison]:
    """The comparisons along an axis.

    Args:
        axis: A key of `AXES`.
        asked: What is to be compared; where the axis says otherwise, it wins.
        values: The axis's values, as text; its own if not given.

    Returns:
        One comparison per value.

    Raises:
        ValueError: If there is no such axis, or a value is none of it.

    Example:
        >>> asked = Comparison(("minatar", "adam"), ("Breakout-MinAtar",), 3, 1e6)
        >>> [c.settings for c in comparisons("width", asked, ["16", "32"])]
        [('hidden=16x16',), ('hidden=32x32',)]
    """
    if axis not in AXES:
        raise ValueError(f"axis={axis!r} is none of {', '.join(AXES)}")
    if values is not None and not values:
        raise ValueError("values=() is empty; give at least one, or None for its own")
    chosen = AXES[axis]
    return [chosen.apply(asked, value) for value in values or chosen.values]


def _length(asked: Comparison, value: str) -> Comparison:
    return dataclasses.replace(asked, total_timesteps=_number("length", value))


def _width(asked: Comparison, value: str) -> Comparison:
    width = _number("width", value)
    if not (width >= 1 and width % 1 == 0):
        raise ValueError(f"width {value!r} must be a positive whole number")
    return _set(asked, f"hidden={width:.0f}x{width:.0f}")


def _activation(asked: Comparison, value: str) -> Comparison:
    return _set(asked, f"activation={value}")


def _features(asked: Comparison, value: str) -> Comparison:
    """Learned optimisers without a feature; with all of them, every rule."""
    if value == "all":
        return asked
    if value not in FEATURES:
        raise ValueError(f"feature {value!r} is none of all, {', '.join(FEATURES)}")
    whole = dict.fromkeys(rule.partition("@")[0] for rule in asked.rules)
    rules = tuple(f"{rule}@{value}" for rule in whole if _is_learned(rule))
    if not rules:
        raise ValueError(
            f"rules={asked.rules!r} has no learned optimiser, which alone can miss "
            "features; add one, such as 'minatar'"
        )
    return dataclasses.replace(asked, rules=rules)


def _is_learned(rule: str) -> bool:
    try:
        return artifacts.card(artifact_name(rule)).kind == "optimizer"
    except UnknownArtifactError:
        return False


def _set(asked: Comparison, setting: str) -> Comparison:
    """The axis wins over a setting of the same name."""
    name = setting.partition("=")[0]
    others = [s for s in asked.settings if s.partition("=")[0] != name]
    return dataclasses.replace(asked, settings=(*others, setting))


def _number(name: str, value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise ValueError(f"{name} {value!r} is not a number") from error


AXES: dict[str, Axis] = {
    "length": Axis(("2.5e5", "5e5", "1e6", "2e6"), _length),
    "width": Axis(("16", "32", "64", "128", "256"), _width),
    "activation": Axis(("relu", "tanh"), _activation),
    "features": Axis(("all", *FEATURES), _features),
}
"""The axes by name."""
