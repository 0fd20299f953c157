"""A report as JSON: everything it states; what depends on the clock is apart."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from learned_opt_rl.evaluation.report import gather, statistics
from learned_opt_rl.evaluation.report.gather import Profile, Results
from learned_opt_rl.evaluation.report.statistics import Estimate
from learned_opt_rl.rundir.jsonl import Row

_TIMING = ("seconds_to_baseline", "wall_seconds", "steps_per_second", "compile_seconds")
_FAILURE = ("rule", "environment", "agent", "message")


def to_json(
    rows: list[Row], found: list[Results], failures: Iterable[Row]
) -> dict[str, Any]:
    """The whole report; ``timing`` alone differs between equal runs."""
    return {
        "format": 1,
        "run": what_was_run(rows),
        "aggregates_available": statistics.has_rliable(),
        "settings": [_setting(result) for result in found],
        "generalisation": {
            axis: {
                name: {
                    rule: [{"at": value, **e.to_dict()} for value, e in group.items()]
                    for rule, group in rules.items()
                }
                for name, rules in along.items()
            }
            for axis, along in gather.axes(found).items()
        },
        "failures": [
            {key: str(failure.get(key, "")) for key in _FAILURE} for failure in failures
        ],
        "timing": [
            {
                "setting": result.setting.label,
                "rule": m.rule,
                "environment": m.environment,
                **{key: getattr(m, key) for key in _TIMING},
            }
            for result in found
            for m in result.measures
        ],
    }


def what_was_run(rows: list[Row]) -> dict[str, Any]:
    """Configuration and origin of the rows, in an order that is not theirs."""

    def distinct(values: Iterable[Any]) -> list[Any]:
        return [value for _, value in sorted({repr(v): v for v in values}.items())]

    environments = sorted({row["environment"] for row in rows})
    return {
        "rules": sorted({row["rule"] for row in rows}),
        "environments": environments,
        "seeds": sorted({row["seed"] for row in rows}),
        "steps": sorted({row["total_timesteps"] for row in rows}),
        "agents": sorted({row.get("agent") or "ppo" for row in rows}),
        "runs": len(rows),
        "revisions": distinct(row.get("revision") or "unknown" for row in rows),
        "devices": distinct(row.get("device") or "unknown" for row in rows),
        "processors": distinct(row.get("cpu") or "unknown" for row in rows),
        "versions": distinct(_sorted(row.get("versions")) for row in rows),
        "environment_details": {
            name: distinct(
                _sorted(row.get("environment_details"))
                for row in rows
                if row["environment"] == name
            )
            for name in environments
        },
        "configurations": {
            name: distinct(
                _sorted(row.get("config")) for row in rows if row["environment"] == name
            )
            for name in environments
        },
        "commands": gather.commands(rows),
    }


def _sorted(mapping: Mapping[str, Any] | None) -> dict[str, Any]:
    return dict(sorted((mapping or {}).items()))


def _setting(result: Results) -> dict[str, Any]:
    return {
        "label": result.setting.label,
        "variant": result.setting.variant,
        "results": [_measures(m) for m in result.measures],
        "normalization": {
            "method": result.normalised.method,
            "description": result.normalised.description,
            "references": result.normalised.references,
        },
        "environments": list(result.scores.environments),
        "aggregates": _estimates(result.aggregates),
        "distributions": {
            rule: {kind: _estimates(part) for kind, part in parts.items()}
            for rule, parts in result.split.items()
        },
        "baseline": result.baseline,
        "probability_of_improvement": {
            rule: e.to_dict() for rule, e in result.improvement.items()
        },
        "performance_profiles": {
            "thresholds": result.thresholds.tolist(),
            "rules": {rule: _profile(p) for rule, p in result.profiles.items()},
        },
        "notes": result.notes,
    }


def _measures(measures: Any) -> dict[str, Any]:
    fields = dataclasses.fields(measures)
    values = {
        f.name: getattr(measures, f.name) for f in fields if f.name not in _TIMING
    }
    return {
        name: value.to_dict() if isinstance(value, Estimate) else value
        for name, value in values.items()
    }


def _estimates(found: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Any]:
    return {
        rule: {metric: e.to_dict() for metric, e in group.items()}
        for rule, group in found.items()
    }


def _profile(profile: Profile) -> dict[str, Any]:
    names = ("share", "low", "high")
    return {
        name: None if values is None else values.tolist()
        for name, values in zip(names, profile, strict=True)
    }
