"""The published, tuned settings of optimisers, as data: one table for all."""

from __future__ import annotations

import functools
import importlib.resources
import json
from typing import Any


def tuned(name: str, environment: str) -> dict[str, Any]:
    """Settings of an optimiser for an environment.

    Args:
        name: A key of the table, such as ``"adam"`` or ``"sgd"``.
        environment: The environment's name, such as ``"Breakout-MinAtar"``.

    Returns:
        ``learning_rate``, ``anneal`` (linearly to 0) and the rest by optax's names.

    Raises:
        ValueError: The table has nothing for the two.

    References:
        Goldie et al. 2024 (OPEN), appendix; Goldie et al. 2025 (how to meta-learn),
        tables 4 to 6.
    """
    try:
        return dict(_table()[environment][name])
    except KeyError:
        known = [env for env, rules in _table().items() if name in rules]
        raise ValueError(
            f"nothing is tuned for {name!r} on environment={environment!r} (only for "
            f"{', '.join(known) or 'no environment'}); give a learning rate"
        ) from None


@functools.cache
def _table() -> dict[str, dict[str, dict[str, Any]]]:
    file = importlib.resources.files("learned_opt_rl.rules") / "tuned.json"
    return json.loads(file.read_text(encoding="utf-8"))["environments"]
