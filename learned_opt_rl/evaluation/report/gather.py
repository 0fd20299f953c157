"""Everything a report states, computed once from rows."""

import dataclasses
import json
import re
from collections.abc import Iterable
from typing import Any

import numpy as np

from learned_opt_rl import agents
from learned_opt_rl.evaluation.report import (
    comparable,
    differences,
    normalization,
    statistics,
)
from learned_opt_rl.evaluation.report.comparable import Setting
from learned_opt_rl.evaluation.report.measures import BASELINE, Measures, measure
from learned_opt_rl.evaluation.report.normalization import Normalized
from learned_opt_rl.evaluation.report.statistics import (
    Banded,
    Estimate,
    Returns,
    Scores,
)
from learned_opt_rl.evaluation.runs.row import Row, grouped
from learned_opt_rl.evaluation.runs.rules import HANDCRAFTED

Aggregates = dict[str, dict[str, Estimate]]
"""Aggregates by rule and metric."""
Along = dict[str, dict[str, dict[Any, Estimate]]]
"""Final return by environment, rule and value of an axis."""

# Enough points for a smooth curve on a page.
_THRESHOLDS = 101


@dataclasses.dataclass(frozen=True)
class Results:
    """The results of one setting."""

    setting: Setting
    baseline: str  # the rule that others are compared with
    measures: list[Measures]
    normalized: Normalized  # final returns on a common scale
    scores: Scores  # of the rules that ran in the same environments
    aggregates: Aggregates
    # Aggregates of each learned rule and the baseline over the environments that are
    # "i.d." and "o.o.d." for that rule.
    split: dict[str, dict[str, Aggregates]]
    # probability of a higher return than the baseline's
    improvement: dict[str, Estimate]
    thresholds: np.ndarray  # of the profiles, [n]
    profiles: dict[str, Banded]  # shares of runs above each threshold
    notes: list[str]  # caveats for the reader


def gather(
    rows: Iterable[Row], method: str = "auto", *, baseline: str = BASELINE
) -> list[Results]:
    """Compute all statistics of a report, one result per setting."""
    return [
        _results(setting, method, baseline) for setting in comparable.settings(rows)
    ]


def axes(found: list[Results]) -> dict[str, Along]:
    """Return the final return of each rule along everything that was varied.

    An axis is a key of the variants, ``"total_timesteps"``, or ``"features"``: the
    feature that rules such as ``minatar@no-horizon`` lack, ``"all"`` for rules that
    lack none. Along an axis, everything else is as in most settings. A setting without
    the axis has the value of its configuration. Returns are not normalized, because
    Adam divided by Adam at the same value would be 1 everywhere.
    """
    keys = sorted({key for result in found for key in result.setting.variant})
    keys += ["total_timesteps"]
    values = [
        {**r.setting.apart, **{key: _value(r.setting, key) for key in keys}}
        for r in found
    ]
    varied = {}
    for key in keys:
        others = [{k: v for k, v in value.items() if k != key} for value in values]
        # Settings that differ in something else too are not on this axis.
        usual = max(others, key=others.count, default={})
        along = {
            value[key]: result
            for value, other, result in zip(values, others, found, strict=True)
            if other == usual and value[key] is not None
        }
        if len(along) > 1:
            varied[key] = _along(
                (m.environment, m.rule, value, m.final)
                for value, result in along.items()
                for m in result.measures
            )
    features = _features(found)
    return varied | ({"features": features} if features else {})


def in_order(values: Iterable[Any]) -> list[Any]:
    """Sort the values of an axis by their numbers, or else ``"all"`` first."""
    values = list(values)
    if all(map(_numbers, values)):
        return sorted(values, key=lambda value: (_numbers(value), str(value)))
    return sorted(values, key=lambda value: (value != "all", str(value)))


def _features(found: list[Results]) -> Along:
    """Return the axis of features, from the setting in which most rules lack one."""

    def missing(result: Results) -> int:
        return sum("@" in m.rule for m in result.measures)

    best = max(found, key=missing, default=None)
    if best is None or not missing(best):
        return {}
    return _along(
        (m.environment, rule + digest + agent, feature or "all", m.final)
        for m in best.measures
        for whole, digest, agent in [comparable.parts(m.rule)]
        for rule, _, feature in [whole.partition("@")]
    )


def _along(points: Iterable[tuple[str, str, Any, Estimate | None]]) -> Along:
    kept = [(*key, final) for *key, final in points if final is not None]
    found: Along = {}
    for value in in_order({value for _, _, value, _ in kept}):
        for name, rule, at, final in kept:
            if at == value:
                found.setdefault(name, {}).setdefault(rule, {})[value] = final
    return {
        name: {rule: rules[rule] for rule in sorted(rules)}
        for name, rules in sorted(found.items())
    }


def _numbers(value: Any) -> list[float]:
    """Return the numbers in a value, such as 16 and 16 of '16x16'."""
    return [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", str(value))]


def _value(setting: Setting, key: str) -> Any:
    if key == "total_timesteps":
        return max(row.total_timesteps for row in setting.rows)
    value = setting.variant.get(key, setting.rows[0].config.get(key))
    is_plain = isinstance(value, str | int | float | None)
    return value if is_plain else comparable.text(value)


def _results(setting: Setting, method: str, baseline: str) -> Results:
    normalized = normalization.normalize(setting.rows, method, baseline)
    chosen = statistics.scores(normalized.returns)
    thresholds = _thresholds(chosen)
    matrices = chosen.matrices
    return Results(
        setting=setting,
        baseline=baseline,
        measures=measure(setting.rows, baseline),
        normalized=normalized,
        scores=chosen,
        aggregates=_aggregates(chosen, normalized),
        split=_split(normalized, baseline),
        improvement={
            rule: statistics.probability_of_improvement(matrix, matrices[baseline])
            for rule, matrix in matrices.items()
            if rule != baseline and baseline in matrices
        },
        thresholds=thresholds,
        profiles={
            rule: statistics.performance_profile(matrix, thresholds)
            for rule, matrix in matrices.items()
        },
        notes=_notes(setting, normalized, chosen, baseline),
    )


def _aggregates(chosen: Scores, normalized: Normalized) -> Aggregates:
    found = {rule: statistics.aggregate(m) for rule, m in chosen.matrices.items()}
    if normalized.method == "raw":
        # The shortfall from 1 means nothing for raw returns.
        for estimates in found.values():
            del estimates["optimality gap"]
    return found


def _split(normalized: Normalized, baseline: str) -> dict[str, dict[str, Aggregates]]:
    found = {}
    for rule, games in normalized.returns.items():
        kinds = normalization.distribution(rule, sorted(games)) or {}
        for kind in sorted(set(kinds.values())):
            chosen = [name for name in kinds if kinds[name] == kind]
            part: Returns = {
                other: {name: normalized.returns[other][name] for name in chosen}
                for other in dict.fromkeys((rule, baseline))
                if set(chosen) <= set(normalized.returns.get(other, {}))
            }
            aggregates = _aggregates(statistics.scores(part), normalized)
            found.setdefault(rule, {})[kind] = aggregates
    return found


def _thresholds(chosen: Scores) -> np.ndarray:
    values = [value for matrix in chosen.matrices.values() for value in matrix.flat]
    # Also where all returns are high: a profile without 0 and 1 would mislead.
    low, high = min([0.0, *values]), max([1.0, *values])
    return np.linspace(low, high, _THRESHOLDS)


def _notes(
    setting: Setting, normalized: Normalized, chosen: Scores, baseline: str
) -> list[str]:
    notes = [*normalized.notes]
    if baseline not in {row.rule for row in setting.rows}:
        notes.append(
            f"The baseline {baseline} was not run, so no rule is compared with it. To "
            "choose another baseline, pass --baseline RULE."
        )
    notes += _failed(setting.rows)
    with_return = {name for g in normalized.returns.values() for name in g}
    without = {row.environment for row in setting.rows} - with_return
    notes += [
        f"No run on {name} has a return, or all diverged."
        for name in sorted(without)
        # These notes already give the reason.
        if name not in " ".join(notes)
    ]
    notes += [
        f"{rule} is not in the aggregates: {why}."
        for rule, why in chosen.left_out.items()
    ]
    if setting.repeated:
        notes.append(
            "Some rows were ignored because a later row has the same rule, environment "
            f"and seed. Number of ignored rows: {setting.repeated}."
        )
    notes += _untuned(setting) + _unequal(setting, chosen, baseline)
    return notes + _not_played(setting.rows)


def _failed(rows: list[Row]) -> list[str]:
    failed = [row for row in rows if row.failed]
    if not failed:
        return []
    short = sum(row.too_short for row in failed)
    parts = []
    if len(failed) > short:
        parts.append(f"{len(failed) - short} of {len(rows)} runs diverged.")
    if short:
        where = ", ".join(sorted({r.environment for r in failed if r.too_short}))
        parts.append(
            f"{short} of {len(rows)} runs were too short for one episode ({where}), so "
            "they have no return. Run more steps."
        )
    values = statistics.failed_values(rows)
    names = sorted({row.environment for row in failed} & values.keys())
    counted = ", ".join(f"{values[name]:.2f} in {name}" for name in names)
    if counted:
        parts.append(
            f"Each counts as {counted}. No other run there counts as less. The "
            "paired difference is omitted for a rule if one of its runs, or one of the "
            "baseline's, has no return."
        )
    return [" ".join(parts)]


def _not_played(rows: list[Row]) -> list[str]:
    """Return a note on the steps that were requested and do not fill a rollout."""
    short = {}
    for row in rows:
        left = row.total_timesteps - row.steps_run
        if left:
            size = row.config["num_envs"] * row.config["num_steps"]
            text = f"{row.steps_run:,.0f} of {row.total_timesteps:,.0f} steps"
            text += f" (rollouts of {size:,})"
            short.setdefault(text, {})[row.environment] = None
    every = len({row.environment for row in rows})
    return [
        f"Steps that do not fill a rollout are not played: runs have {text}"
        + (f" in {', '.join(names)}." if len(names) < every else ".")
        for text, names in short.items()
    ]


def _untuned(setting: Setting) -> list[str]:
    """Return a note if tuned rules run in an agent they were not tuned for."""
    # With a rate of its own, "adam:1e-3", a rule was not tuned for any agent.
    tuned = [r for r in setting.rows if comparable.parts(r.rule)[0] in HANDCRAFTED]
    changed = {row.rule: found for row in tuned if (found := _differences(row))}
    if not changed:
        return []
    rules = ", ".join(sorted(changed))
    found = dict.fromkeys(change for row in tuned for change in _differences(row))
    return [
        f"The settings of {rules} were tuned for the published PPO and were not tuned "
        f"again for the changes in these runs ({', '.join(found)})."
    ]


def _differences(row: Row) -> list[str]:
    """Return the settings of a run, except its length, that are not published PPO's."""
    if row.agent != "ppo":
        return [f"agent={row.agent}"]
    # Any length will do: the other settings of PPO do not depend on it.
    published = dataclasses.asdict(agents.preset(row.environment, 1e9))
    # Through JSON like the row, which turns tuples into lists.
    published = json.loads(json.dumps(published))
    return [
        f"{name}={comparable.text(value)}"
        for name, value in sorted(row.config.items())
        if name in published and name != "total_timesteps" and value != published[name]
    ]


def _unequal(setting: Setting, chosen: Scores, baseline: str) -> list[str]:
    """Return notes on differences that make runs less comparable than they look."""
    notes = []
    seeds = {
        key: frozenset(row.seed for row in group)
        for key, group in grouped(setting.rows).items()
    }
    sets: dict[str, set[frozenset[int]]] = {}
    for (_, name), own in seeds.items():
        sets.setdefault(name, set()).add(own)
    unequal = [name for name, found in sets.items() if len(found) > 1]
    if unequal:
        notes.append(
            f"The rules ran with different seeds in {', '.join(unequal)}. Paired "
            "differences use only the common seeds."
        )
    notes += differences.notes(setting.rows, baseline)
    for rule, matrix in chosen.matrices.items():
        most = max(len(own) for (other, _), own in seeds.items() if other == rule)
        if len(matrix) < most:
            notes.append(
                f"The aggregates of {rule} use only the {len(matrix)} seeds common to "
                f"all environments; some environments have up to {most}."
            )
    return notes
