"""Which rows may be compared: checked, once per seed, and of one setting."""

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from typing import Any

from learned_opt_rl.rundir.jsonl import Row


@dataclasses.dataclass(frozen=True)
class Setting:
    """Runs that differ in nothing but rule, environment and seed.

    Attributes:
        label: What sets this setting apart from others, ``""`` if there is only one.
        variant: What the runs were changed in, as ``{"hidden": "256x256"}``.
        rows: Sorted by environment, rule and seed, one for each.
        repeated: How many rows were left out because a later one of the same rule,
            environment and seed replaces them.
    """

    label: str
    variant: dict[str, Any]
    rows: list[Row]
    repeated: int


def checked(rows: Iterable[Row], source: str = "rows") -> list[Row]:
    """Checks that rows are results; whoever wrote the file need not be trusted.

    Args:
        rows: From `results.read` or `runs.run`.
        source: What they are called in an error, such as the file.

    Returns:
        The rows, as they are.

    Raises:
        ValueError: If there is none, or one lacks a field or has a wrong value.

    Example:
        >>> checked([{"rule": "adam"}])
        Traceback (most recent call last):
        ...
        ValueError: rows: row 1 has environment=None, which must be a name; mend or
        delete it
    """
    rows = list(rows)
    if not rows:
        raise ValueError(f"{source} has no rows; run a comparison first")
    for number, row in enumerate(rows, 1):
        for field, (accepts, wanted) in _FIELDS.items():
            if not accepts(row.get(field)):
                raise ValueError(
                    f"{source}: row {number} has {field}={_shown(row.get(field))}, "
                    f"which must be {wanted}; mend or delete it"
                )
    return rows


def settings(rows: Iterable[Row]) -> list[Setting]:
    """Splits rows into settings within which rules can be compared.

    A setting is a variant, and a training length or an agent where one environment has
    several. The order of the rows plays no part, except that the last of several rows
    of one rule, environment and seed counts.

    Args:
        rows: As `checked` accepts.

    Returns:
        The settings, sorted by label.

    Example:
        >>> row = {"rule": "adam", "environment": "ant", "seed": 0, "curve": [1.0]}
        >>> short, long = settings(
        ...     [row | {"total_timesteps": 500}, row | {"total_timesteps": 1000}]
        ... )
        >>> short.label, long.label
        ('total_timesteps=500', 'total_timesteps=1000')
    """
    rows = list(rows)
    apart = [field for field in ("agent", "total_timesteps") if _varies(rows, field)]
    groups: dict[str, list[Row]] = {}
    for row in rows:
        parts = [row.get("variant") or {}, *(_field(row, field) for field in apart)]
        groups.setdefault(json.dumps(parts, sort_keys=True), []).append(row)
    made = [_setting(group, apart) for group in groups.values()]
    made.sort(key=lambda setting: (_order(setting, apart), setting.label))
    if len(made) > 1 and not made[0].label:
        made[0] = dataclasses.replace(made[0], label="nothing changed")
    return made


def _setting(rows: list[Row], apart: Sequence[str]) -> Setting:
    variant = dict(sorted((rows[0].get("variant") or {}).items()))
    parts = variant | {field: _field(rows[0], field) for field in apart}
    last = {(row["environment"], row["rule"], row["seed"]): row for row in rows}
    return Setting(
        label=", ".join(f"{key}={value}" for key, value in parts.items()),
        variant=variant,
        rows=[last[key] for key in sorted(last)],
        repeated=len(rows) - len(last),
    )


def _order(setting: Setting, apart: Sequence[str]) -> tuple[float, ...]:
    """Lengths in order of size, not of their digits."""
    return (setting.rows[0]["total_timesteps"] if "total_timesteps" in apart else 0,)


def _varies(rows: Iterable[Row], field: str) -> bool:
    """Whether what should be the same differs within an environment (and rule)."""
    seen: dict[tuple, set] = {}
    for row in rows:
        key = (row["environment"], json.dumps(row.get("variant") or {}, sort_keys=True))
        # Rules may each need an agent of their own; one rule with two is two settings.
        key += (row["rule"],) if field == "agent" else ()
        seen.setdefault(key, set()).add(_field(row, field))
    return any(len(values) > 1 for values in seen.values())


def _field(row: Row, field: str) -> Any:
    return row.get("agent", "ppo") if field == "agent" else row[field]


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_number(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and math.isfinite(value)
    )


def _is_curve(value: Any) -> bool:
    return isinstance(value, list) and all(v is None or _is_number(v) for v in value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_measured(value: Any) -> bool:
    return value is None or _is_number(value)


_MEASURED = (_is_measured, "a finite number or null")
_FIELDS: dict[str, tuple] = {
    "rule": (_is_name, "a name"),
    "environment": (_is_name, "a name"),
    "seed": (lambda v: isinstance(v, int) and not isinstance(v, bool), "an integer"),
    "total_timesteps": (lambda v: _is_number(v) and v > 0, "a positive number"),
    "final_return": _MEASURED,
    "curve": (lambda v: _is_curve(v) and bool(v), "a list of finite numbers and nulls"),
    "auc": _MEASURED,
    "nan_updates": _MEASURED,
    "num_agents": _MEASURED,
    "compile_seconds": _MEASURED,
    "wall_seconds": _MEASURED,
    "steps_per_second": _MEASURED,
    "dormant": (lambda v: v is None or _is_curve(v), "a list of numbers"),
    "agent": (lambda v: v is None or _is_name(v), "a name"),
    "variant": (lambda v: v is None or isinstance(v, dict), "an object"),
    "config": (lambda v: v is None or isinstance(v, dict), "an object"),
    "versions": (lambda v: v is None or isinstance(v, dict), "an object"),
    "environment_details": (lambda v: v is None or isinstance(v, dict), "an object"),
    "diverged": (lambda v: v is None or isinstance(v, bool), "true or false"),
}
