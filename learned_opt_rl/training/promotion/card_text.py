"""The texts of a card: how its weights were trained, and where they are weak."""

import dataclasses
import functools
import pathlib
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from learned_opt_rl.evaluation.report import statistics
from learned_opt_rl.evaluation.runs.row import Row
from learned_opt_rl.rundir import settings
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.training.distillation.run import best_row
from learned_opt_rl.training.evolution import PRESETS, preset
from learned_opt_rl.training.evolution.config import IMPLIED
from learned_opt_rl.training.promotion.verdict import shown
from learned_opt_rl.training.run_folder import TrainedRun, require_fields

_EVOLUTION = (
    *("environments", "horizons", "start", "population", "rollouts", "sigma"),
    *("learning_rate", "normalizer", "validation_seeds"),
)
"""Settings of a campaign that the texts name."""

_PUBLISHED = 250 * 32
"""Members in all generations of the smallest campaigns of Goldie et al. 2024, C.3."""


def training(run: TrainedRun) -> dict[str, Any]:
    """Return the ``training`` field of a card."""
    evolved = run.evolved
    if evolved:
        require_fields(run.folder, run.fields, _EVOLUTION)
    return {
        "method": "evolution strategies" if evolved else "distillation",
        "environments": list(run.environments),
        "description": _evolution(run) if evolved else _distillation(run),
        "command": command(run.made["kind"], run.fields),
        "compute": _compute(run),
        "source": None,
    }


def _evolution(run: TrainedRun) -> str:
    fields, best, log = run.fields, run.best, run.log
    sha = run.made.get("start_sha256")
    # Only the end of a path: the rest is specific to the machine.
    start = "/".join(pathlib.PurePath(fields["start"]).parts[-2:])
    start += f" (sha256 {sha})" if sha else ""
    stages = ", ".join(
        f"{steps:,}{f' from generation {first} on' if first else ''}"
        for first, steps in fields["horizons"]
    )
    unit = "Episodes" if fields.get("horizon_unit") == "episodes" else "Steps"
    # The strategies of evosax adapt their own rates.
    rate = f"learning rate {fields['learning_rate']:g}"
    if "strategy" in fields:
        rate = f"strategy {fields['strategy']} of evosax"
    parts = [
        f"Evolved from {start} for {_generations(log)} generations of "
        f"{fields['population']} members with {fields['rollouts']} rollouts each, "
        f"sigma {fields['sigma']:g}, {rate}, normalizer {fields['normalizer']}. "
        f"{unit} of a run: {stages}."
    ]
    if fields.get("agent"):
        settings = _listed(fields["agent"])
        parts.append(f"The agent differs from the published one: {settings}.")
    if best is not None:
        first = log[0].get("validation")
        horizon = fields["horizons"][0][1]
        comparable = first is not None and best.get("horizon") == horizon
        parts.append(
            f"The weights are the mean after generation {best['generation']}, which "
            f"had the best validation: {best['validation']:.4g} over "
            f"{fields['validation_seeds']} seeds"
            + (f"; the start had {first:.4g}." if comparable else ".")
        )
    return " ".join(parts)


def _distillation(run: TrainedRun) -> str:
    sha = run.made.get("teacher_sha256")
    best = best_row(run.log, run.fields.get("select", "error")) if run.log else {}
    parts = [
        f"Distilled from {run.fields.get('teacher', 'a function')}"
        f"{f' (sha256 {sha})' if sha else ''}.",
        f"Settings: {_plain(run.fields)}.",
        f"Best validation: {_plain(best) or 'unknown'}.",
    ]
    return " ".join(parts)


def _plain(values: Mapping[str, Any]) -> str:
    """List the values that are a number or a word."""
    known = {k: v for k, v in values.items() if isinstance(v, str | int | float)}
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in known.items()
    )


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _compute(run: TrainedRun) -> str:
    rows, made = run.log, run.made
    seconds = sum(row.get("seconds") or 0.0 for row in rows)
    steps = sum(row.get("steps_per_second", 0) * row.get("seconds", 0) for row in rows)
    device = made.get("device") or "an unknown device"
    device = made.get("cpu", device) if device == "cpu" else device
    if not seconds:
        return f"not measured, on {device}"
    length = f"{seconds / 3600:.2g} hours" if seconds >= 360 else f"{seconds:.0f} s"
    work = f", {steps:.2g} environment steps" if steps else ""
    return f"{length} on {device}{work}, without validations"


def _generations(log: Sequence[Record]) -> int:
    return log[-1].get("generation", 0) if log else 0


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """The runs before a promotion.

    Attributes:
        new: Rows of the new weights.
        others: Rows of the baselines.
        baseline: The baseline that known failures are relative to.
        old: Rows of the current version, if other weights have the name.
    """

    new: list[Row]
    others: list[Row]
    baseline: str
    old: list[Row] = dataclasses.field(default_factory=list)


def failures(run: TrainedRun, evaluated: Evaluated) -> list[str]:
    """Return sentences for the ``known_failures`` of a card, from run and rows."""
    first = evaluated.new[0]
    steps = first.total_timesteps
    found = [*_below(evaluated)]
    diverged = sum(row.diverged for row in evaluated.new)
    if diverged:
        found.append(f"{diverged} of {len(evaluated.new)} runs diverged.")
    unit = run.fields.get("horizon_unit", "steps")
    if unit == "steps" and run.horizon not in (None, steps):
        found.append(
            f"Trained on runs of {run.horizon:,} environment steps, but evaluated on "
            f"runs of {steps:,}."
        )
    other = {
        name: value
        for name, value in (run.fields.get("agent") or {}).items()
        if name in first.config and _tuples(first.config[name]) != _tuples(value)
    }
    if other:
        found.append(f"Trained with other agents than evaluated: {_listed(other)}.")
    new = {row.environment for row in evaluated.new}
    missing = [name for name in run.environments if name not in new]
    if missing:
        found.append(f"Also trained on {', '.join(missing)}, but not evaluated there.")
    return [*found, *_little(run)]


def _below(evaluated: Evaluated) -> Iterable[str]:
    rule, steps = evaluated.baseline, evaluated.new[0].total_timesteps
    title = f"tuned {rule.title()}" if ":" not in rule else rule
    # A failed run counts as the worst return that any run of its environment had.
    found = statistics.returns(
        [dataclasses.replace(row, rule="new") for row in evaluated.new]
        + [row for row in evaluated.others if row.rule == rule]
    )
    for name, returns in found["new"].items():
        baseline = found.get(rule, {}).get(name, {})
        difference = statistics.paired_difference(returns, baseline)
        if difference is not None and difference.value < 0:
            means = [float(np.mean([*r.values()])) for r in (returns, baseline)]
            yield (
                f"Below {title} on {name} after {steps:,} steps: {means[0]:.4g} "
                f"against {means[1]:.4g}, difference {shown(difference)}."
            )


def _little(run: TrainedRun) -> Iterable[str]:
    if not run.evolved:
        return
    if run.best is not None and run.best["generation"] == 0:
        yield "Equal to the campaign's start: no generation had a better validation."
    generations, population = _generations(run.log), run.fields["population"]
    if generations * population < _PUBLISHED:
        yield (
            f"Evolved for only {generations} generations of {population} members; "
            "published campaigns have 250 to 700 generations of 32 to 64."
        )


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def command(kind: str, fields: Mapping[str, Any]) -> str:
    """Return the command that repeats a run, based on the preset nearest to it.

    Args:
        kind: ``"evolution"`` or ``"distillation"``.
        fields: The run's configuration, as JSON has it.

    Example:
        >>> from learned_opt_rl.training.evolution import preset
        >>> fields = preset("lpo-minatar", sigma=0.1, horizons=((0, 9000),)).as_json()
        >>> command("evolution", fields)
        'learned-opt-rl train es --preset lpo-minatar --out FOLDER --set
          sigma=0.1 horizons=0:9000'
    """
    if kind == "distillation":
        return _line("distill", *_arguments(fields))
    found = [
        (_changed(fields, base), name)
        for name, base in _presets().items()
        if base["algorithm"] == fields["algorithm"]
    ]
    fewest, name = min(found, key=lambda pair: len(pair[0]))
    return _line("es", "--preset", name, *_set(fewest))


@functools.cache
def _presets() -> dict[str, dict[str, Any]]:
    return {name: preset(name).as_json() for name in PRESETS}


def _line(verb: str, *words: str) -> str:
    end = words.index("--set") if "--set" in words else len(words)
    words = (*words[:end], "--out", "FOLDER", *words[end:])
    return shlex.join(["learned-opt-rl", "train", verb, *words])


def _set(texts: list[str]) -> list[str]:
    return ["--set", *texts] if texts else []


def _changed(fields: Mapping[str, Any], base: Mapping[str, Any]) -> list[str]:
    """Return the settings that lead from a preset to the fields."""
    base = {**IMPLIED, **base}
    # The fields keep their order; those that are implied come last.
    return settings.format(_changes({**fields, **IMPLIED, **fields}, base))


def _changes(fields: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: _changes(value, base[name]) if isinstance(value, Mapping) else value
        for name, value in fields.items()
        if base.get(name, ...) != value
    }


def _arguments(fields: Mapping[str, Any]) -> Iterator[str]:
    sizes = ",".join(settings.format(fields["architecture"]))
    yield from ("--teacher", fields["teacher"])
    yield from ("--student", f"{fields['algorithm']}:{sizes}")
    if fields.get("environments"):
        yield from ("--environments", *fields["environments"])
    given = ("teacher", "algorithm", "architecture", "environments")
    rest = {k: v for k, v in fields.items() if k not in given and v is not None}
    yield from _set(settings.format(rest))
