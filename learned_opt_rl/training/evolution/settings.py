"""``NAME=VALUE`` as on a command line, for the fields of a campaign."""

from collections.abc import Iterable
from typing import Any

from learned_opt_rl import families
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.rundir import settings
from learned_opt_rl.training.evolution.config import EvolutionConfig


def parse(texts: Iterable[str], algorithm: str) -> dict[str, Any]:
    """Values of a campaign's fields from their texts.

    Args:
        texts: Such as ``"population=8"``, ``"environments=ant,hopper"``,
            ``"horizons=2e5"`` or ``"horizons=0:2e5,100:1e6"`` (from generation 100 on),
            ``"agent.hidden=16x16"``, ``"architecture.width=16"``.
        algorithm: Whose architecture it is.

    Returns:
        The values by field.

    Raises:
        ValueError: A text is not of that form, or its value not of the field's type.

    Example:
        >>> parse(["population=8", "horizons=2e5", "agent.gamma=0.9"], "open")
        {'horizons': ((0, 200000),), 'population': 8, 'agent': {'gamma': 0.9}}
    """
    special = {"environments": _environments, "horizons": _horizons}
    family = families.find(algorithm)
    groups = {"agent": PPOConfig, "architecture": family.sizes or family.architecture}
    values: dict[str, Any] = {}
    plain: list[str] = []
    grouped: dict[str, list[str]] = {name: [] for name in groups}
    for setting in texts:
        name, equals, text = setting.partition("=")
        group, dot, _ = name.partition(".")
        if dot and group in groups:
            grouped[group].append(setting.removeprefix(f"{group}."))
        elif equals and name in special and name not in values:
            values[name] = special[name](text)
        else:
            plain.append(setting)
    values |= settings.parse(plain, EvolutionConfig)
    for group, given in grouped.items():
        if given:
            values[group] = settings.parse(given, groups[group])
    return values


def _environments(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _horizons(text: str) -> tuple[tuple[int, int], ...]:
    stages = [stage.rpartition(":") for stage in text.split(",")]
    try:
        return tuple(
            (_whole(first or "0"), _whole(steps)) for first, _, steps in stages
        )
    except ValueError as error:
        raise ValueError(
            f"--set 'horizons={text}' must be steps, as 2e5, or generations with the "
            f"steps from then on, as 0:2e5,100:1e6 ({error})"
        ) from None


def _whole(text: str) -> int:
    value = float(text)
    if value < 0 or not value.is_integer():
        raise ValueError(f"{text!r} is no whole number")
    return int(value)
