"""Returns on a common scale, and the environments a rule was trained in.

A normalized return is a return divided by a reference: 1 is as good as the reference,
and 0 is a return of zero, which is not the return of a random agent.
"""

import dataclasses
import functools
import json
import math
import pathlib
import re
from collections.abc import Collection, Iterable, Sequence
from typing import Any

import numpy as np

from learned_opt_rl import artifacts, checks
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.evaluation.report import comparable, statistics
from learned_opt_rl.evaluation.report.statistics import Returns
from learned_opt_rl.evaluation.runs.row import Row
from learned_opt_rl.evaluation.runs.rules import artifact_name

METHODS = ("auto", "adam", "rule:NAME", "published", "published-sgd", "optimal", "raw")
"""The methods of `normalize`."""


@dataclasses.dataclass(frozen=True)
class Normalized:
    """Returns divided by references."""

    method: str  # the one used, never "auto"
    description: str  # the method in words, with the source of the references
    returns: Returns  # only environments with a reference
    references: dict[str, float]  # by environment; empty for "raw"
    notes: tuple[str, ...]  # which environments are left out, and why


def check(
    method: str,
    baseline: str | None = None,
    *,
    rules: Collection[str] | None = None,
    environments: Sequence[str] = (),
) -> None:
    """Check the options of a report before any run, as far as the names are known."""
    if method not in METHODS and not re.fullmatch("rule:.+", method):
        raise ValueError(
            f"normalization={method!r} is unknown; {checks.suggest(method, METHODS)}"
        )
    needed = {f"baseline={baseline}": baseline}
    needed[f"normalization={method}"] = reference_rule(method)
    for option, rule in needed.items():
        if rule is not None and rules is not None and rule not in rules:
            raise ValueError(
                f"{option} needs runs of {rule!r}, which is not among the rules "
                f"{', '.join(sorted(rules))}; run it as well, or choose another rule"
                + (
                    f"; {checks.suggest(rule, rules)}"
                    * bool(checks.nearest(rule, rules))
                )
            )
    if method.startswith("published"):
        found = set(published(_optimizer(method)))
    elif method == "optimal":
        found = {name for name in environments if _has_optimum(name)}
    else:
        return
    if environments and not found & set(environments):
        raise _no_reference(method, environments)


def reference_rule(method: str) -> str | None:
    """Return the rule by whose returns a method divides, None if there is none."""
    is_rule = method == "adam" or method.startswith("rule:")
    return method.removeprefix("rule:") if is_rule else None


def normalize(
    rows: Iterable[Row], method: str = "auto", baseline: str = "adam"
) -> Normalized:
    """Divide final returns by a reference for each environment.

    Environments whose reference is missing or not positive are left out, with a note.
    The methods are

    - ``"adam"``: the mean final return of tuned Adam (the rule ``adam``) in the rows;
    - ``"rule:NAME"``: the mean of another rule in the rows, such as the network that an
      expression was distilled from;
    - ``"published"`` and ``"published-sgd"``: the numbers that the papers divide by;
    - ``"optimal"``: the optimal return, where it is known;
    - ``"raw"``: 1;
    - ``"auto"``: the baseline if the rows have it, else published if that covers all
      environments, else raw.

    References:
        Goldie et al. 2024 (divides by Adam) and 2025, section 5 (by the network).
    """
    rows = list(rows)
    found = statistics.returns(rows)
    names = sorted({name for games in found.values() for name in games})
    check(method, rules=found)
    method = _automatic(found, names, baseline) if method == "auto" else method
    if method == "raw":
        text = "not normalized, so environments with large returns dominate"
        return Normalized("raw", text, found, {}, ())
    known, description = _references(method, rows, found)
    usable = {g: known[g] for g in names if g in known and known[g] > 0}
    if names and not usable:
        raise _no_reference(method, names)
    notes = tuple(
        f"{name} is not in the aggregates: its reference "
        + (f"is {known[name]:.6g}, not positive." if name in known else "is missing.")
        for name in names
        if name not in usable
    )
    return Normalized(method, description, _divided(found, usable), usable, notes)


def published(optimizer: str) -> dict[str, float]:
    """Return published mean final returns of tuned ``"adam"`` or ``"sgd"``.

    They are in the released code of Goldie et al. 2024 and 2025.
    """
    known = _data()["published"]
    if optimizer not in known:
        raise ValueError(f"optimizer={optimizer!r} must be one of {', '.join(known)}")
    return dict(known[optimizer]["returns"])


def distribution(rule: str, environments: Sequence[str]) -> dict[str, str] | None:
    """Return ``"i.d."`` for the environments a rule was trained in, else ``"o.o.d."``.

    The rule may have an agent's name, as of `comparable.named`. None for a rule without
    a card, for replaced weights, which the card does not describe, and for a card that
    names no environment.
    """
    name, replaced, _ = comparable.parts(rule)
    if replaced:
        return None
    try:
        card = artifacts.card(artifact_name(name))
    except ArtifactError:
        return None
    trained = [name for text in card.training.environments for name in _named(text)]
    if not trained:
        return None
    return {name: "i.d." if name in trained else "o.o.d." for name in environments}


def _optimizer(method: str) -> str:
    return method.partition("-")[2] or "adam"


def _has_optimum(environment: str) -> bool:
    from learned_opt_rl import envs

    env = envs.make(environment)
    return env.optimal_return is not None or "optimal_return" in env.details


def _no_reference(method: str, environments: Sequence[str]) -> ValueError:
    return ValueError(
        f"normalization={method!r} has no positive reference for "
        f"{', '.join(environments)}; choose one of {', '.join(METHODS)}"
    )


def _divided(found: Returns, references: dict[str, float]) -> Returns:
    return {
        rule: {
            name: {seed: value / references[name] for seed, value in seeds.items()}
            for name, seeds in games.items()
            if name in references
        }
        for rule, games in found.items()
    }


def _named(text: str) -> list[str]:
    """Return the environments that a card's text means, such as 'ant (Brax)'."""
    return _data()["card_texts"].get(text) or [text.partition(" (")[0]]


def _automatic(found: Returns, names: Sequence[str], baseline: str) -> str:
    own = found.get(baseline, {})
    # One positive reference is enough; environments without one are left out.
    if any(name in own and np.mean([*own[name].values()]) > 0 for name in names):
        return "adam" if baseline == "adam" else f"rule:{baseline}"
    known = names and set(names) <= set(published("adam"))
    return "published" if known else "raw"


def _references(
    method: str, rows: list[Row], found: Returns
) -> tuple[dict[str, float], str]:
    """Return references by environment, and their description."""
    if method.startswith("published"):
        data = _data()["published"][_optimizer(method)]
        return data["returns"], f"divided by {data['source']}"
    if method == "optimal":
        return _optimal(rows), "divided by the optimal return of the environment"
    rule = method.removeprefix("rule:")
    means = {g: float(np.mean([*seeds.values()])) for g, seeds in found[rule].items()}
    who = "tuned Adam" if rule == "adam" else rule
    return means, f"divided by the mean final return of {who} in the same environment"


def _optimal(rows: Iterable[Row]) -> dict[str, float]:
    """Return the optimal returns that rows record for their environment."""
    recorded: dict[str, list[float]] = {}
    for row in rows:
        value = _number(row.environment_details.get("optimal_return"))
        if value is not None:
            recorded.setdefault(row.environment, []).append(value)
    return {name: float(np.mean(values)) for name, values in recorded.items()}


def _number(value: Any) -> float | None:
    """Return a finite number; older rows have the details as text."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


@functools.cache
def _data() -> dict[str, Any]:
    path = pathlib.Path(__file__).with_name("references.json")
    return json.loads(path.read_text(encoding="utf-8"))
