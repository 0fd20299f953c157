"""Tuned settings of handcrafted optimizers, as published: one table, ``tuned.json``."""

import functools
import importlib.resources
import json
from typing import Any


def tuned(name: str, environment: str) -> dict[str, Any]:
    """Return the settings of an optimizer, such as ``"adam"``, for an environment.

    They are ``learning_rate``, ``anneal`` (linearly to 0) and the rest by optax's
    names. The entry ``"gridworld/"`` is for all grid worlds. An optimizer without
    settings for the environment is a ``ValueError``.

    References:
        Goldie et al. 2024 (OPEN), tables 4 to 6; Goldie et al. 2025 (How Should We
        Meta-Learn RL Algorithms?), tables 4 to 6.

    Example:
        >>> tuned("adam", "gridworld/all")
        {'learning_rate': 0.0001, 'b1': 0.99, 'b2': 0.99, 'anneal': True}
    """
    table = _table()
    family = environment.partition("/")[0] + "/"
    for entry in (environment, family):
        if name in table.get(entry, {}):
            return dict(table[entry][name])
    known = [entry for entry, rules in table.items() if name in rules]
    raise ValueError(
        f"nothing is tuned for {name!r} on environment={environment!r} (only for "
        f"{', '.join(known) or 'no environment'}); give a learning rate"
    )


@functools.cache
def _table() -> dict[str, dict[str, dict[str, Any]]]:
    file = importlib.resources.files("learned_opt_rl.rules") / "tuned.json"
    return json.loads(file.read_text(encoding="utf-8"))["environments"]
