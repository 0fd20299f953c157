"""Campaigns by name: published settings, as data in ``presets.json``."""

import dataclasses
import functools
import importlib.resources
import json
from typing import Any

from learned_opt_rl.training.evolution.config import EvolutionConfig


@functools.cache
def _table() -> dict[str, dict[str, Any]]:
    file = importlib.resources.files("learned_opt_rl.training.evolution")
    return json.loads((file / "presets.json").read_text(encoding="utf-8"))["presets"]


PRESETS = tuple(_table())
"""The names."""


def preset(name: str, **overrides: Any) -> EvolutionConfig:
    """A campaign with published settings.

    Args:
        name: One of `PRESETS`; ``presets.json`` says where each comes from.
        **overrides: Fields of `EvolutionConfig` that differ. Of ``architecture`` and
            ``agent`` those entries that are given.

    Returns:
        The campaign.

    Raises:
        ValueError: There is no such preset or field; or as `EvolutionConfig`.

    Example:
        >>> preset("open-breakout").start, preset("open-breakout").horizons
        ('zeros', ((0, 200000),))
        >>> preset("open-minatar", population=8).sigma_decay
        0.998
    """
    if name not in _table():
        raise ValueError(f"preset={name!r} must be one of {', '.join(_table())}")
    names = [field.name for field in dataclasses.fields(EvolutionConfig)]
    for field in overrides:
        if field not in names:
            raise ValueError(
                f"{field}={overrides[field]!r} is no field of a campaign; choose of "
                f"{', '.join(names)}"
            )
    values = {k: v for k, v in _table()[name].items() if k != "source"}
    for field in ("architecture", "agent"):
        overrides[field] = {**values.get(field, {}), **overrides.get(field, {})}
    return EvolutionConfig.from_json({**values, **overrides})
