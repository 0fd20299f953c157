"""A report as JSON; only its ``timing`` depends on the speed of the machine."""

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from learned_opt_rl.evaluation.report.comparable import commands
from learned_opt_rl.evaluation.report.gather import Along, Profile, Results
from learned_opt_rl.evaluation.report.measures import Measures
from learned_opt_rl.evaluation.report.statistics import Estimate
from learned_opt_rl.evaluation.runs.row import Row

_TIMING = ("seconds_to_baseline", "wall_seconds", "steps_per_second", "compile_seconds")
_FAILURE = ("rule", "environment", "agent", "message")


def to_json(
    rows: list[Row],
    found: list[Results],
    varied: Mapping[str, Along],
    failures: Iterable[Mapping[str, Any]],
) -> dict[str, Any]:
    """Return the whole report as JSON.

    Args:
        rows: The rows.
        found: From `gather.gather`.
        varied: From `gather.axes`.
        failures: Lines of ``failures.jsonl``.
    """
    return {
        "format": 1,
        "run": _what_was_run(rows),
        "settings": [_setting(result) for result in found],
        "generalization": {
            axis: {
                name: {
                    rule: [{"at": value, **e.to_dict()} for value, e in group.items()]
                    for rule, group in rules.items()
                }
                for name, rules in along.items()
            }
            for axis, along in varied.items()
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


def _what_was_run(rows: list[Row]) -> dict[str, Any]:
    def distinct(values: Iterable[Any]) -> list[Any]:
        return [value for _, value in sorted({repr(v): v for v in values}.items())]

    def by_environment(field: str) -> dict[str, list[Any]]:
        return {
            name: distinct(
                dict(sorted(getattr(row, field).items()))
                for row in rows
                if row.environment == name
            )
            for name in sorted({row.environment for row in rows})
        }

    return {
        "rules": sorted({row.rule for row in rows}),
        "environments": sorted({row.environment for row in rows}),
        "seeds": sorted({row.seed for row in rows}),
        "steps": sorted({row.total_timesteps for row in rows}),
        "agents": sorted({row.agent for row in rows}),
        "runs": len(rows),
        "revisions": distinct(row.revision or "unknown" for row in rows),
        "devices": distinct(row.device or "unknown" for row in rows),
        "processors": distinct(row.cpu or "unknown" for row in rows),
        "versions": distinct(dict(sorted(row.versions.items())) for row in rows),
        "environment_details": by_environment("environment_details"),
        "configurations": by_environment("config"),
        "commands": commands(rows),
    }


def _setting(result: Results) -> dict[str, Any]:
    return {
        "label": result.setting.label,
        "variant": result.setting.variant,
        "results": [_measures(m) for m in result.measures],
        "normalization": {
            "method": result.normalized.method,
            "description": result.normalized.description,
            "references": result.normalized.references,
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


def _measures(measures: Measures) -> dict[str, Any]:
    names = [f.name for f in dataclasses.fields(measures) if f.name not in _TIMING]
    values = {name: getattr(measures, name) for name in names}
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
