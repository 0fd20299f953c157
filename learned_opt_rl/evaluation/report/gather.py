"""Everything a report states, computed from rows; `report` sets it on a page."""

import dataclasses
import json
import re
import shlex
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from learned_opt_rl.evaluation.report import comparable, normalization, statistics
from learned_opt_rl.evaluation.report.comparable import Setting
from learned_opt_rl.evaluation.report.measures import BASELINE, Measures, measure
from learned_opt_rl.evaluation.report.normalization import Normalised
from learned_opt_rl.evaluation.report.statistics import Estimate, Returns, Scores
from learned_opt_rl.rundir.jsonl import Row

Aggregates = dict[str, dict[str, Estimate]]
Along = dict[str, dict[str, dict[Any, Estimate]]]
"""Final return by environment, rule and value of an axis."""
Profile = tuple[np.ndarray, np.ndarray | None, np.ndarray | None]

NO_RLIABLE = (
    "There are no aggregates over environments here: they need the extra rliable "
    "(pip install 'learned-opt-rl[rliable]'); then write the report again."
)
"""What a report says where rliable is not installed."""

_THRESHOLDS = 101
_TUNED = ("adam", "lion", "rmsprop", "sgd")


@dataclasses.dataclass(frozen=True)
class Results:
    """What was found in one setting.

    Attributes:
        setting: The runs.
        measures: Of each rule in each environment.
        normalised: Final returns on a common scale.
        scores: Those that every rule has.
        aggregates: Mean, median, IQM, optimality gap by rule; empty without rliable.
        split: By learned rule, then by ``"i.d."`` and ``"o.o.d."``: aggregates over
            those environments alone, of the rule and of the baseline.
        improvement: The probability of a higher return than the baseline's, by rule.
        thresholds: Of the profiles, ``[n]``.
        profiles: Shares of runs above each threshold, with interval, by rule.
        notes: What a reader has to know.
        baseline: The rule that others are compared with.
    """

    setting: Setting
    measures: list[Measures]
    normalised: Normalised
    scores: Scores
    aggregates: Aggregates
    split: dict[str, dict[str, Aggregates]]
    improvement: dict[str, Estimate]
    thresholds: np.ndarray
    profiles: dict[str, Profile]
    notes: list[str]
    baseline: str = BASELINE


def gather(
    rows: Iterable[Row],
    method: str = "auto",
    *,
    baseline: str = BASELINE,
    intervals: bool = True,
) -> list[Results]:
    """Computes all of a report's statistics.

    Args:
        rows: As `comparable.checked` accepts.
        method: One of `normalization.METHODS`.
        baseline: The rule that others are compared with.
        intervals: Whether to spend time on profiles and i.d./o.o.d. aggregates too.

    Returns:
        One result per setting.

    Raises:
        ValueError: If ``method`` has no reference for any environment.

    Example:
        >>> row = {"rule": "adam", "environment": "ant", "seed": 0, "curve": [1.0]}
        >>> (found,) = gather([row | {"final_return": 1.0, "total_timesteps": 1000}])
        >>> found.normalised.method
        'adam'
    """
    return [
        _results(setting, method, baseline, intervals)
        for setting in comparable.settings(rows)
    ]


def commands(
    rows: Iterable[Row], folder: str = "again", command: str = "compare"
) -> list[str]:
    """The commands that make the rows once more.

    Args:
        rows: As `comparable.checked` accepts.
        folder: Where to.
        command: Of ``learned-opt-rl``; ``"evaluate"`` takes rows of one rule.

    Returns:
        One command per agent, length, variant and run of consecutive seeds.

    Example:
        >>> row = {"rule": "adam", "environment": "ant", "seed": 3, "curve": [1.0]}
        >>> commands([row | {"total_timesteps": 1000}])
        ['learned-opt-rl compare adam --environments ant --seeds 1 --first-seed 3
          --steps 1000 --out again']
    """
    groups: dict[tuple, list[Row]] = {}
    for row in rows:
        variant = tuple(
            sorted(f"{k}={v}" for k, v in (row.get("variant") or {}).items())
        )
        key = (row.get("agent") or "ppo", row["total_timesteps"], variant)
        groups.setdefault(key, []).append(row)
    return [
        shlex.join(["learned-opt-rl", command, *words, "--out", folder])
        for key in sorted(groups)
        for words in _arguments(key, groups[key])
    ]


def _arguments(key: tuple, rows: list[Row]) -> Iterator[list[str]]:
    agent, steps, variant = key
    rules = sorted({row["rule"] for row in rows})
    environments = sorted({row["environment"] for row in rows})
    seeds = sorted({row["seed"] for row in rows})
    starts = [seed for seed in seeds if seed - 1 not in seeds]
    ends = [seed for seed in seeds if seed + 1 not in seeds]
    for first, last in zip(starts, ends, strict=True):
        yield [
            *rules,
            *("--environments", *environments),
            *("--seeds", str(last - first + 1)),
            *(("--first-seed", str(first)) if first else ()),
            *("--steps", f"{steps:.15g}"),
            *(("--agent", agent) if agent != "ppo" else ()),
            *(("--set", *variant) if variant else ()),
        ]


def axes(found: list[Results]) -> dict[str, Along]:
    """What was varied, and the final return of each rule along it.

    Args:
        found: From `gather`.

    Returns:
        By axis, environment, rule and value, in the order of `in_order`. An axis is a
        key of the variants, ``"total_timesteps"``, or ``"features"``: what rules such
        as ``minatar@no-horizon`` miss, ``"all"`` standing for those that miss nothing.
        Along an axis, all else is as in most settings; a setting that does not name
        the axis has the value of its configuration. Returns are not normalised: by
        Adam at the same value, Adam would look the same at all of them.

    Example:
        >>> axes([])
        {}
    """
    keys = sorted({key for result in found for key in result.setting.variant})
    keys += ["total_timesteps"]
    values = [{key: _value(r.setting, key) for key in keys} for r in found]
    varied = {}
    for key in keys:
        others = [{k: v for k, v in value.items() if k != key} for value in values]
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


def _features(found: list[Results]) -> Along:
    """Of the setting in which the most rules miss one."""

    def missing(result: Results) -> int:
        return sum("@" in m.rule for m in result.measures)

    best = max(found, key=missing, default=None)
    if best is None or not missing(best):
        return {}
    return _along(
        (m.environment, rule, feature or "all", m.final)
        for m in best.measures
        for rule, _, feature in [m.rule.partition("@")]
    )


def _along(points: Iterable[tuple[str, str, Any, Estimate | None]]) -> Along:
    """By environment, rule and value."""
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


def in_order(values: Iterable[Any]) -> list[Any]:
    """Values of an axis from the least up.

    Args:
        values: Numbers or texts, each once.

    Returns:
        Sorted by the numbers in them where all have some, else ``"all"`` first and the
        others by their letters.

    Example:
        >>> in_order(["16x16", "8x8"]), in_order(["no-horizon", "all"])
        (['8x8', '16x16'], ['all', 'no-horizon'])
    """
    values = list(values)
    if all(map(_numbers, values)):
        return sorted(values, key=lambda value: (_numbers(value), str(value)))
    return sorted(values, key=lambda value: (value != "all", str(value)))


def _numbers(value: Any) -> list[float]:
    """The numbers in a value: of '16x16', twice 16."""
    return [float(n) for n in re.findall(r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?", str(value))]


def _value(setting: Setting, key: str) -> Any:
    if key == "total_timesteps":
        return max(row["total_timesteps"] for row in setting.rows)
    value = setting.variant.get(key, (setting.rows[0].get("config") or {}).get(key))
    if isinstance(value, list):
        return _text(value)
    return value if isinstance(value, str | int | float | None) else str(value)


def _text(value: Any) -> str:
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def _results(setting: Setting, method: str, baseline: str, intervals: bool) -> Results:
    normalised = normalization.normalise(setting.rows, method, baseline)
    chosen = statistics.scores(normalised.returns)
    able = statistics.has_rliable() and bool(chosen.matrices)
    thresholds = _thresholds(chosen)
    matrices = chosen.matrices if able else {}
    return Results(
        setting=setting,
        measures=measure(setting.rows, baseline),
        normalised=normalised,
        scores=chosen,
        aggregates=_aggregates(chosen, normalised) if able else {},
        split=_split(normalised, baseline) if able and intervals else {},
        improvement={
            rule: statistics.probability_of_improvement(matrix, matrices[baseline])
            for rule, matrix in matrices.items()
            if rule != baseline and baseline in matrices
        },
        thresholds=thresholds,
        profiles={
            rule: statistics.performance_profile(matrix, thresholds)
            for rule, matrix in (matrices if intervals else {}).items()
        },
        notes=_notes(setting, normalised, chosen, baseline),
        baseline=baseline,
    )


def _aggregates(chosen: Scores, normalised: Normalised) -> Aggregates:
    found = {rule: statistics.aggregate(m) for rule, m in chosen.matrices.items()}
    if normalised.method == "raw":
        # It is how far returns are below 1, which means nothing here.
        for estimates in found.values():
            del estimates["optimality gap"]
    return found


def _split(normalised: Normalised, baseline: str) -> dict[str, dict[str, Aggregates]]:
    """Aggregates over the environments a learned rule was trained on, and others."""
    found = {}
    for rule, games in normalised.returns.items():
        kinds = normalization.distribution(rule, sorted(games)) or {}
        for kind in sorted(set(kinds.values())):
            chosen = [name for name in kinds if kinds[name] == kind]
            part: Returns = {
                other: {name: normalised.returns[other][name] for name in chosen}
                for other in dict.fromkeys((rule, baseline))
                if set(chosen) <= set(normalised.returns.get(other, {}))
            }
            aggregates = _aggregates(statistics.scores(part), normalised)
            found.setdefault(rule, {})[kind] = aggregates
    return found


def _thresholds(chosen: Scores) -> np.ndarray:
    values = [value for matrix in chosen.matrices.values() for value in matrix.flat]
    low, high = min([0.0, *values]), max([1.0, *values])
    return np.linspace(low, high, _THRESHOLDS)


def _notes(
    setting: Setting, normalised: Normalised, chosen: Scores, baseline: str
) -> list[str]:
    notes = [*normalised.notes]
    rules = {row["rule"] for row in setting.rows}
    if baseline not in rules:
        notes.append(
            f"No row is of the baseline {baseline}, so nothing is compared with it; "
            "--baseline RULE takes another."
        )
    failures = sum(map(statistics.failed, setting.rows))
    if failures:
        notes.append(
            f"{failures} of {len(setting.rows)} runs diverged or have no return; each "
            "counts as the worst return any run of its environment had."
        )
    with_return = {name for g in normalised.returns.values() for name in g}
    for name in sorted({row["environment"] for row in setting.rows}):
        if name not in with_return and name not in " ".join(normalised.notes):
            notes.append(f"No run on {name} has a return.")
    notes += [
        f"{rule} is not in the aggregates: {why}."
        for rule, why in chosen.left_out.items()
    ]
    if setting.repeated:
        notes.append(
            f"{setting.repeated} rows repeat another's rule, environment and seed; the "
            "last one counts."
        )
    return notes + _untuned(setting) + _unequal(setting, chosen)


def _untuned(setting: Setting) -> list[str]:
    """A note where tuned rules are not run in what they were tuned for."""
    tuned = [row for row in setting.rows if row["rule"] in _TUNED]
    found = dict.fromkeys(change for row in tuned for change in _differences(row))
    if not found:
        return []
    rules = ", ".join(sorted({row["rule"] for row in tuned}))
    return [
        f"{rules}: tuned for the published PPO, and not tuned again for what is run "
        f"here ({', '.join(found)})."
    ]


def _differences(row: Row) -> list[str]:
    """What sets a run apart from the published PPO, but for its length."""
    agent = row.get("agent") or "ppo"
    if agent != "ppo":
        return [f"agent={agent}"]
    # It brings jax along, which reading rows does without.
    from learned_opt_rl import agents

    # Some length: PPO's other settings do not depend on it.
    published = dataclasses.asdict(agents.preset(row["environment"], 1e9))
    published = json.loads(json.dumps(published))
    return [
        f"{name}={_text(value)}"
        for name, value in sorted((row.get("config") or {}).items())
        if name in published and name != "total_timesteps" and value != published[name]
    ]


def _unequal(setting: Setting, chosen: Scores) -> list[str]:
    """Notes on what makes runs less comparable than they look."""
    notes = []
    seeds: dict[str, set[frozenset[int]]] = {}
    configs: dict[str, list[Any]] = {}
    groups: dict[tuple[str, str], set[int]] = {}
    for row in setting.rows:
        groups.setdefault((row["environment"], row["rule"]), set()).add(row["seed"])
        known = configs.setdefault(row["environment"], [])
        known.extend([row.get("config")] if row.get("config") not in known else [])
    for (name, _), own in groups.items():
        seeds.setdefault(name, set()).add(frozenset(own))
    unequal = [name for name, sets in seeds.items() if len(sets) > 1]
    if unequal:
        notes.append(
            f"Rules have different seeds in {', '.join(unequal)}: paired differences "
            "use the common ones."
        )
    mixed = [name for name, known in configs.items() if len(known) > 1]
    if mixed:
        notes.append(f"Configurations differ within {', '.join(mixed)}.")
    used = {rule: len(matrix) for rule, matrix in chosen.matrices.items()}
    all_seeds = {rule: 0 for rule in used}
    for (_, rule), own in groups.items():
        if rule in used:
            all_seeds[rule] = max(all_seeds[rule], len(own))
    notes += [
        f"The aggregates of {rule} rest on the {used[rule]} seeds that all "
        f"environments have, of up to {all_seeds[rule]}."
        for rule in used
        if used[rule] < all_seeds[rule]
    ]
    return notes
