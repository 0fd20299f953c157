"""What a card says of a run in words: how it was trained, and where it is weak."""

import dataclasses
import pathlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from learned_opt_rl.evaluation.report import statistics
from learned_opt_rl.evaluation.runs import row as runs
from learned_opt_rl.rundir.jsonl import Row
from learned_opt_rl.training.distillation.run import best_row
from learned_opt_rl.training.promotion.candidate import Candidate
from learned_opt_rl.training.promotion.command import command
from learned_opt_rl.training.promotion.verdict import shown

_PUBLISHED = 250 * 32
"""Members of the smallest campaigns of Goldie et al. 2024, C.3."""


def training(candidate: Candidate) -> dict[str, Any]:
    """The ``training`` of a card.

    Args:
        candidate: The run.

    Returns:
        The record.
    """
    evolved = candidate.evolved
    return {
        "method": "evolution strategies" if evolved else "distillation",
        "environments": list(candidate.environments),
        "description": _evolution(candidate) if evolved else _distillation(candidate),
        "command": command(candidate.made.get("kind"), candidate.fields),
        "compute": _compute(candidate),
        "source": None,
    }


def _evolution(candidate: Candidate) -> str:
    fields, best, log = candidate.fields, candidate.best, candidate.log
    sha = candidate.made.get("start_sha256")
    # Of a file the end of its path: the rest is of no use elsewhere.
    start = "/".join(pathlib.PurePath(fields["start"]).parts[-2:])
    start += f" (sha256 {sha})" if sha else ""
    unit = fields.get("horizon_unit", "steps")
    stages = ", ".join(
        f"{steps:,}{f' from generation {first} on' if first else ''}"
        for first, steps in fields["horizons"]
    )
    # evosax's strategies have rates of their own.
    rate = f"learning rate {fields['learning_rate']:g}"
    if "strategy" in fields:
        rate = f"strategy {fields['strategy']} of evosax"
    parts = [
        f"Evolved from {start} for {_generations(log)} generations of "
        f"{fields['population']} members, rollouts of each {fields['rollouts']}, sigma "
        f"{fields['sigma']:g}, {rate}, normaliser {fields['normaliser']}. "
        f"{'Episodes' if unit == 'episodes' else 'Environment steps'} of a run: "
        f"{stages}."
    ]
    if fields.get("agent"):
        parts.append(
            f"The agent differs from the published one: {_told(fields['agent'])}."
        )
    if best is not None:
        parts.append(
            f"The weights are the mean after generation {best['generation']}, which "
            f"did best in validation: {best['validation']:.4g} over "
            f"{fields['validation_seeds']} seeds"
            + (
                f", where the start had {log[0]['validation']:.4g}."
                if log[0].get("validation") is not None
                and best.get("horizon") == fields["horizons"][0][1]
                else "."
            )
        )
    return " ".join(parts)


def _distillation(candidate: Candidate) -> str:
    """All settings that are a number or a word, and the row that was selected."""
    sha = candidate.made.get("teacher_sha256")
    select = candidate.fields.get("select", "error")
    best = best_row(candidate.log, select) if candidate.log else {}
    parts = [
        f"Distilled from {candidate.fields.get('teacher', 'a function')}"
        f"{f' (sha256 {sha})' if sha else ''}.",
        f"Settings: {_plain(candidate.fields)}.",
        f"Of these weights: {_plain(best) or 'unknown'}.",
    ]
    return " ".join(parts)


def _plain(values: Mapping[str, Any]) -> str:
    known = {k: v for k, v in values.items() if isinstance(v, str | int | float)}
    return ", ".join(
        f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
        for key, value in known.items()
    )


def _compute(candidate: Candidate) -> str:
    rows, made = candidate.log, candidate.made
    seconds = sum(row.get("seconds") or 0.0 for row in rows)
    steps = sum(row.get("steps_per_second", 0) * row.get("seconds", 0) for row in rows)
    device = made.get("device") or "an unknown device"
    device = made.get("cpu", device) if device == "cpu" else device
    if not seconds:
        return f"not measured, on {device}"
    length = f"{seconds / 3600:.2g} hours" if seconds >= 360 else f"{seconds:.0f} s"
    work = f", {steps:.2g} environment steps" if steps else ""
    return f"{length} on {device}{work}, without validations"


def _generations(log: Sequence[Row]) -> int:
    return log[-1].get("generation", 0) if log else 0


@dataclasses.dataclass(frozen=True)
class Evaluated:
    """What was run before a promotion.

    Attributes:
        new: Rows of the new weights.
        others: Rows of the baselines.
        baseline: The one that is named where the new weights do worse.
    """

    new: list[Row]
    others: list[Row]
    baseline: str


def failures(candidate: Candidate, evaluated: Evaluated) -> list[str]:
    """What is known against the weights, from the run and from the rows.

    Args:
        candidate: The run.
        evaluated: The evaluation.

    Returns:
        Sentences for the ``known_failures`` of a card.
    """
    steps = evaluated.new[0]["total_timesteps"]
    found = [*_below(evaluated)]
    diverged = sum(bool(row["diverged"]) for row in evaluated.new)
    if diverged:
        found.append(f"{diverged} of {len(evaluated.new)} runs diverged.")
    if candidate.horizon not in (None, steps):
        found.append(
            f"It was trained on runs of {candidate.horizon:,} environment steps, and "
            f"evaluated on runs of {steps:,}."
        )
    evaluation = evaluated.new[0]["config"]
    other = {
        name: value
        for name, value in (candidate.fields.get("agent") or {}).items()
        if name in evaluation and _tuples(evaluation[name]) != _tuples(value)
    }
    if other:
        found.append(f"Its agents in training were others than here: {_told(other)}.")
    new = {row["environment"] for row in evaluated.new}
    missing = [name for name in candidate.environments if name not in new]
    if missing:
        found.append(f"It was trained on {', '.join(missing)} too, and not run there.")
    return [*found, *_little(candidate)]


def _below(evaluated: Evaluated) -> Iterable[str]:
    rule, steps = evaluated.baseline, evaluated.new[0]["total_timesteps"]
    title = f"tuned {rule.title()}" if ":" not in rule else rule
    # A failed run counts as the worst return that any run of its environment had.
    found = statistics.returns(
        [runs.Row.from_json(row | {"rule": "new"}) for row in evaluated.new]
        + [runs.Row.from_json(r) for r in evaluated.others if r["rule"] == rule]
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


def _little(candidate: Candidate) -> Iterable[str]:
    if not candidate.evolved:
        return
    if candidate.best is not None and candidate.best["generation"] == 0:
        yield "It is what the campaign started from: nothing did better in validation."
    generations = _generations(candidate.log)
    population = candidate.fields["population"]
    if generations * population < _PUBLISHED:
        yield (
            f"It had {generations} generations of {population} members, far fewer than "
            "published campaigns (250 to 700 generations of 32 to 64)."
        )


def _told(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _tuples(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
