"""A rule with tuned settings, as the JSON file that ``learned-opt-rl tune`` writes.

The file holds ``rule``, the name of the rule, and ``settings``: one object of settings
for each environment, or one under ``"*"`` for all. Other keys say how it was made.
"""

import json
import pathlib
from typing import Any, NamedTuple

from learned_opt_rl.errors import ArtifactError

ALL = "*"
"""The key of settings for all environments."""


class TunedRule(NamedTuple):
    """A rule and its settings by environment; see `rules.Settings`."""

    rule: str
    settings: dict[str, dict[str, Any]]


def is_path(rule: str) -> bool:
    """Return whether a rule is the path of such a file."""
    return rule.endswith(".json")


def read(path: str) -> TunedRule:
    """Read a file of ``learned-opt-rl tune``; anything else is an `ArtifactError`."""
    reason = "it has no rule with settings"
    try:
        match json.loads(pathlib.Path(path).read_text(encoding="utf-8")):
            case {"rule": str(rule), "settings": {**settings}} if not is_path(rule):
                if all(map(_are_numbers, settings.values())):
                    return TunedRule(rule, settings)
    except (OSError, ValueError, RecursionError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    raise ArtifactError(
        f"rule={path!r} is not a tuned rule ({reason}); name the tuned.json of "
        "`learned-opt-rl tune`"
    )


def _are_numbers(settings: Any) -> bool:
    # No setting is as large, and Python's integers do not all fit a float.
    return isinstance(settings, dict) and all(
        isinstance(v, int | float) and -1e30 < v < 1e30 for v in settings.values()
    )
