"""The card of a promotion: what follows from the run, and texts for its reader."""

import dataclasses
import functools
import hashlib
import itertools
import pathlib
import shlex
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from learned_opt_rl import agents, envs, families
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.errors import WeightsError
from learned_opt_rl.evaluation.report import statistics
from learned_opt_rl.families.expression import Form
from learned_opt_rl.families.family import Family
from learned_opt_rl.rules.tuned import tuned
from learned_opt_rl.rundir import settings
from learned_opt_rl.training import evolution, meta_gradients
from learned_opt_rl.training.distillation.run import best_row
from learned_opt_rl.training.learned import evolvable, is_evolvable
from learned_opt_rl.training.meta_gradients.config import METHOD
from learned_opt_rl.training.meta_gradients.meta_step import kept_row
from learned_opt_rl.training.promotion.verdict import Evaluated, shown
from learned_opt_rl.training.proposal import journal
from learned_opt_rl.training.run_folder import TrainedRun
from learned_opt_rl.training.symbolic import search as symbolic

_MADE = {
    "evolution": "evolved",
    "distillation": "distilled",
    METHOD: "trained by meta-gradients",
}

_METHODS = {
    "evolution": "evolution strategies",
    METHOD: "meta-gradients",
}

_FOUND = {
    "expression": ("refined", "refinement of an expression"),
    symbolic.METHOD: ("distilled into an expression", symbolic.METHOD),
}
"""How an expression was found, and the method, by the kind of its first stage; by
default a language model proposed it."""
_PROPOSED = "proposed by a language model", "language-model proposal"

_PUBLISHED = 250 * 32
"""Members in all generations of the smallest campaigns of Goldie et al. 2024, C.3."""


def how(run: TrainedRun) -> str:
    """Return how a run made its weights or its expression, for titles."""
    return _MADE.get(run.made["kind"]) or _found(run)[0]


def _found(run: TrainedRun) -> tuple[str, str]:
    """Return how a search found its expression, and the method."""
    return _FOUND.get(run.made["stages"][0]["kind"], _PROPOSED)


def described(run: TrainedRun) -> dict[str, Any]:
    """Return the fields of a card that follow from the family and its sizes.

    Raise ValueError if the family cannot be promoted, or if Optim4RL was trained with
    several learning rates.
    """
    if not is_evolvable(run.algorithm):
        raise ValueError(
            f"{run.folder} has algorithm={run.algorithm!r}, which cannot be promoted; "
            f"promote one of {', '.join(evolvable())}"
        )
    family = families.find(run.algorithm)
    sizes = family.make_sizes(run.architecture)
    architecture = _architecture(run, family, sizes)
    is_text = isinstance(sizes, Form)
    name, content = weights_file(run)
    kind = family.kind_of(family.read(architecture))
    return {
        "kind": kind,
        "algorithm": run.algorithm,
        "representation": "expression" if is_text else "network",
        "architecture": architecture,
        "inputs": list(family.inputs(sizes)),
        "citation": dataclasses.asdict(family.citation),
        "weights": {
            "file": name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "parameters": sum(np.size(leaf) for leaf in jax.tree.leaves(run.weights)),
            "format": "expression" if is_text else "safetensors",
        },
        "horizon": _horizon(run, family) if kind == "optimizer" else None,
    }


def weights_file(run: TrainedRun) -> tuple[str, bytes]:
    """Return name and content of the artifact's file: weights, or a text.

    Raise WeightsError if the weights are not the constants of the expression.
    """
    if run.algorithm != "expression":
        return "weights.safetensors", run.content
    try:
        function = Form(**run.architecture).evolved(run.weights)
    except WeightsError as error:
        raise WeightsError(f"{run.folder}: {error}") from error
    lines = run.architecture["text"].splitlines(keepends=True)
    comments = itertools.takewhile(lambda line: line[:1] == "#", lines)
    return "expression.txt", ("".join(comments) + function.to_text()).encode()


def _architecture(run: TrainedRun, family: Family, sizes: Any) -> dict[str, Any]:
    """Return the card's architecture, with the learning rate that agents ran with."""
    architecture = family.to_card(sizes)
    if run.fields.get("zero_mean"):
        architecture["zero_mean"] = True
    share = family.learning_rate_share(sizes)
    if share is None or "learning_rate" in architecture:
        return architecture
    names = run.environments or ("CartPole-v1",)
    rule = run.fields.get("rates", "adam")
    if "learning_rates" in architecture:
        architecture["learning_rates"] = rule
    rates = [tuned(rule, name)["learning_rate"] for name in names]
    # A card with a table of tuned rates uses its own rate only as a fallback.
    if len(set(rates)) > 1 and "learning_rates" not in architecture:
        raise ValueError(
            f"{run.folder} evolved {family.title} with several learning rates, "
            f"{share:g} of {', '.join(map(str, rates))}, but a card has one; promote a "
            "campaign in one environment"
        )
    return architecture | {"learning_rate": float(f"{share * rates[0]:.6g}")}


def _horizon(run: TrainedRun, family: Family) -> dict[str, int] | None:
    """Return the horizon of an agent in the first environment of the training."""
    if not family.uses_horizon:
        return None
    config = PPOConfig()
    if run.environments and run.horizon is not None:
        agent = settings.tuples(run.fields.get("agent", {}))
        name = run.environments[0]
        unit = run.fields.get("horizon_unit") == "episodes"
        steps = run.horizon * ((envs.episode_length(name) if unit else None) or 1)
        config = agents.preset(name, steps, **agent)
    return dataclasses.asdict(config.horizon())


def training(run: TrainedRun) -> dict[str, Any]:
    """Return the ``training`` field of a card."""
    kind, stages = run.made["kind"], run.made.get("stages")
    made = {
        "method": _METHODS.get(kind, kind),
        "environments": list(run.environments),
    }
    if stages is not None:
        # A language model replies differently each time, so no command repeats it.
        again = stages[0].get("command") if len(stages) == 1 else None
        words = " ".join(stage["summary"] for stage in stages)
        spent = f"{journal.in_words(stages)}, on {_device(run.made)}"
        made |= {"method": _found(run)[1], "description": words}
        return {**made, "command": again, "compute": spent, "source": None}
    return {
        **made,
        "description": _description(run),
        "command": command(kind, run.fields),
        "compute": _compute(run),
        "source": None,
    }


def _description(run: TrainedRun) -> str:
    """Say from what a run made its weights, with which settings, and which it kept."""
    kind, fields = run.made["kind"], run.fields
    origin = "teacher" if kind == "distillation" else "start"
    name = fields.get(origin, "a function")
    if origin == "start":
        # Only the end of a path: the rest is specific to the machine.
        name = "/".join(pathlib.PurePath(name).parts[-2:])
    sha = run.made.get(f"{origin}_sha256")
    made = f"{_MADE[kind].capitalize()} from {name}"
    made += f" (sha256 {sha})" if sha else ""
    known = (origin, "algorithm", "architecture", "environments")
    given = {k: v for k, v in fields.items() if k not in known and v is not None}
    best: Mapping[str, Any] = run.best or {}
    if run.log and kind == METHOD:
        best = kept_row(run.log)
    elif run.log and kind == "distillation":
        best = best_row(run.log, fields.get("select", "error"))
    text = (
        f"{made}. Settings: {' '.join(settings.format(given))}. "
        f"Selected weights: {_plain(best) or 'unknown'}."
    )
    if kind == "distillation" and run.algorithm == "lpg":
        text += (
            " The loss is the squared error of pi_hat over the teacher's mean square, "
            "plus target_weight times the divergence of y_hat from the teacher's. The "
            "error is the root of the loss, measured on rollouts of held-out lifetimes."
        )
    return text


def _plain(values: Mapping[str, Any]) -> str:
    """List the values that are a number or a word."""
    shown = {k: f"{v:.4g}" if isinstance(v, float) else v for k, v in values.items()}
    return _listed({k: v for k, v in shown.items() if isinstance(v, str | int)})


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _compute(run: TrainedRun) -> str:
    rows, made = run.log, run.made
    seconds = sum(row.get("seconds") or 0.0 for row in rows)
    steps = sum(row.get("steps_per_second", 0) * row.get("seconds", 0) for row in rows)
    device = _device(made)
    if not seconds:
        return f"not measured, on {device}"
    length = f"{seconds / 3600:.2g} hours" if seconds >= 360 else f"{seconds:.0f} s"
    work = f", {steps:.2g} environment steps" if steps else ""
    return f"{length} on {device}{work}, excluding validation"


def _device(made: Mapping[str, Any]) -> str:
    device = made.get("device") or "an unknown device"
    device = made.get("cpu", device) if device == "cpu" else device
    return device.removesuffix("s") if device.endswith(" 1 cores") else device


def failures(run: TrainedRun, evaluated: Evaluated) -> list[str]:
    """Return sentences for the ``known_failures`` of a card, from run and rows."""
    first = evaluated.new[0]
    steps, config = first.total_timesteps, first.config
    found = [*_below(evaluated)]
    diverged = sum(row.diverged for row in evaluated.new)
    if diverged:
        found.append(f"{diverged} of {len(evaluated.new)} runs diverged.")
    unit = run.fields.get("horizon_unit", "steps")
    if unit == "steps" and run.horizon not in (None, steps):
        found.append(
            f"It was trained on runs of {run.horizon:,} environment steps and "
            f"evaluated on runs of {steps:,}."
        )
    other = {
        name: value
        for name, value in (run.fields.get("agent") or {}).items()
        if name in config and settings.tuples(config[name]) != settings.tuples(value)
    }
    if other:
        found.append(
            f"The training agents differ from the evaluation agents: {_listed(other)}."
        )
    new = {row.environment for row in evaluated.new}
    missing = [name for name in run.environments if name not in new]
    if missing:
        found.append(
            f"It was also trained on {', '.join(missing)} but not evaluated there."
        )
    seen = run.fields.get("next_seed", 0)
    if any(r.seed < seen and r.environment in run.environments for r in evaluated.new):
        found.append(
            f"The search chose the expression with seeds below {seen}, and the results "
            "include such seeds."
        )
    if run.made["kind"] == METHOD:
        found += _resets(run)
    return [*found, *_little(run)]


def _below(evaluated: Evaluated) -> Iterable[str]:
    rule, steps = evaluated.baseline, evaluated.new[0].total_timesteps
    if rule is None:
        return
    title = f"tuned {rule.title()}" if ":" not in rule else rule
    # A failed run counts as the worst run in its environment.
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
                f"It scores below {title} on {name} after {steps:,} steps: "
                f"{means[0]:.4g} compared with {means[1]:.4g}, a difference of "
                f"{shown(difference)}."
            )


def _resets(run: TrainedRun) -> Iterable[str]:
    """Return a sentence on the lifetimes that were reset early, if there are any."""
    names = {
        "entropy": "the entropy of their policy was zero",
        "non_finite": "one of their values was not finite",
    }
    for reason, words in names.items():
        count = sum(row["resets"][reason] for row in run.log)
        if count:
            total = sum(row["finished"] for row in run.log)
            yield (
                f"In training, {count} lifetimes were reset because {words}; {total} "
                "lifetimes finished."
            )


def _little(run: TrainedRun) -> Iterable[str]:
    if not run.evolved:
        return
    failed = sum(row.get("failed", 0) for row in run.log)
    if failed:
        yield f"In training, {failed} members had no finite return."
    if run.best is not None and run.best["generation"] == 0:
        yield (
            "The weights are those at the start of the campaign, because no generation "
            "has a better validation."
        )
    generations = run.log[-1].get("generation", 0) if run.log else 0
    population = run.fields["population"]
    if generations * population < _PUBLISHED:
        yield (
            f"The campaign had {generations} generations of {population} members, far "
            "fewer than published campaigns (250 to 700 generations of 32 to 64)."
        )


def command(kind: str, fields: Mapping[str, Any]) -> str:
    """Return the command that repeats a run, based on the preset nearest to it."""
    if kind == "distillation":
        words, changed = _distill(fields)
    else:
        name = "lpg" if kind == METHOD else "es"
        found = [
            ([name, "--preset", preset], settings.format(_changes(fields, base)))
            for preset, base in _presets(kind).items()
            if base["algorithm"] == fields["algorithm"]
        ]
        words, changed = min(found, key=lambda pair: len(pair[1]))
    words = [*words, "--out", "FOLDER", *(["--set", *changed] if changed else [])]
    return shlex.join(["learned-opt-rl", "train", *words])


@functools.cache
def _presets(kind: str) -> dict[str, dict[str, Any]]:
    """Return the presets of a kind of training by name, as JSON has them."""
    source = meta_gradients if kind == METHOD else evolution
    return {name: source.preset(name).as_json() for name in source.PRESETS}


def _changes(fields: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that lead from a preset to the fields."""
    return {
        name: _changes(value, base[name]) if isinstance(value, Mapping) else value
        for name, value in fields.items()
        if base.get(name, ...) != value
    }


def _distill(fields: Mapping[str, Any]) -> tuple[list[str], list[str]]:
    """Return the words of a distillation's command, and those after ``--set``."""
    sizes = ",".join(settings.format(fields["architecture"]))
    words = ["distill", "--teacher", fields["teacher"]]
    words += ["--student", f"{fields['algorithm']}:{sizes}"]
    if fields.get("environments"):
        words += ["--environments", *fields["environments"]]
    given = ("teacher", "algorithm", "architecture", "environments")
    rest = {k: v for k, v in fields.items() if k not in given and v is not None}
    return words, settings.format(rest)
