"""Published settings as data: the ``presets.json`` of each method."""

import functools
import importlib.resources
import json
from collections.abc import Iterable, Mapping
from typing import Any

from learned_opt_rl import checks, families
from learned_opt_rl.rundir.settings import tuples


def table(method: str) -> dict[str, Mapping[str, Any]]:
    """Return the presets of ``"evolution"`` or ``"distillation"`` by name.

    Those of evolution include the presets that registered families bring.
    """
    found: dict[str, Mapping[str, Any]] = dict(_bundled(method))
    if method == "evolution":
        for algorithm in families.names():
            found.update(families.find(algorithm).presets)
    return found


@functools.cache
def _bundled(method: str) -> dict[str, dict[str, Any]]:
    file = importlib.resources.files("learned_opt_rl.training") / method
    content = (file / "presets.json").read_text(encoding="utf-8")
    return json.loads(content)["presets"]


def settings(
    method: str, name: str, overrides: Mapping[str, Any], known: Iterable[str]
) -> dict[str, Any]:
    """Return the settings of a preset with overrides, and tuples for lists.

    Settings that are groups, such as ``architecture``, keep the entries that the
    override does not have. Raise ValueError if the preset does not exist, or an
    override is not ``known``.
    """
    presets = table(method)
    if name not in presets:
        raise ValueError(
            f"preset={name!r} is not a preset; {checks.suggest(name, presets)}"
        )
    known = sorted(known)
    for field, value in overrides.items():
        if field not in known:
            raise ValueError(
                f"{field}={value!r} is not a setting of {method}; "
                f"{checks.suggest(field, known)}"
            )
    values = {k: v for k, v in presets[name].items() if k != "source"}
    groups = {
        field: {**values.get(field, {}), **value}
        for field, value in overrides.items()
        if isinstance(value, Mapping)
    }
    return tuples({**values, **overrides, **groups})
