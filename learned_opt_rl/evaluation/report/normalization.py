"""Returns on a common scale, and which environments a rule was trained on.

A normalised return is the return divided by a reference: 1 is as good as the reference
and 0 is no return (which is not what a random agent gets).
"""

import dataclasses
import functools
import json
import math
import pathlib
import re
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from learned_opt_rl import artifacts
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.evaluation.report import statistics
from learned_opt_rl.evaluation.report.statistics import Returns
from learned_opt_rl.evaluation.runs.names import artifact_name
from learned_opt_rl.rundir.jsonl import Row

METHODS = ("auto", "adam", "rule:NAME", "published", "published-sgd", "optimal", "raw")
"""How returns can be normalised; see `normalise`."""


@dataclasses.dataclass(frozen=True)
class Normalised:
    """Returns over references.

    Attributes:
        method: The method used, one of `METHODS` but not ``"auto"``.
        description: The same in words, with the source.
        returns: By rule, environment and seed; only environments with a reference.
        references: What was divided by, by environment; empty for ``"raw"``.
        notes: What a reader has to know, such as environments left out.
    """

    method: str
    description: str
    returns: Returns
    references: dict[str, float]
    notes: tuple[str, ...]


def check(method: str, environments: Sequence[str] = ()) -> None:
    """Refuses a method before there are rows to try it on.

    Args:
        method: One of `METHODS`.
        environments: Names; none if not known.

    Raises:
        ValueError: If there is no such method, or it has a reference for none of the
            environments whatever they give.

    Example:
        >>> check("rule:minatar", ["ant"])
    """
    if method not in METHODS and not re.fullmatch("rule:.+", method):
        raise ValueError(
            f"normalization={method!r} is unknown; choose one of {', '.join(METHODS)}"
        )
    if method.startswith("published"):
        found = set(published(_optimizer(method)))
    elif method == "optimal":
        found = {name for name in environments if _has_optimum(name)}
    else:
        return
    if environments and not found & set(environments):
        raise _no_reference(method, environments)


def _optimizer(method: str) -> str:
    return method.partition("-")[2] or "adam"


def _has_optimum(environment: str) -> bool:
    from learned_opt_rl import envs

    env = envs.make(environment)
    return env.optimal_return is not None or "optimal_return" in env.details


def _no_reference(method: str, environments: Sequence[str]) -> ValueError:
    return ValueError(
        f"normalization={method!r} has no positive reference for "
        f"{', '.join(environments)}; choose another of {', '.join(METHODS)}"
    )


def normalise(
    rows: Iterable[Row], method: str = "auto", baseline: str = "adam"
) -> Normalised:
    """Divides final returns by a reference for each environment.

    Args:
        rows: Of one setting (`comparable.settings`).
        method: ``"adam"``: the mean final return of tuned Adam (the rule ``adam``) in
            the same rows. ``"rule:NAME"``: of another rule of the rows, such as the
            black-box network that a formula was distilled from. ``"published"`` and
            ``"published-sgd"``: what the papers divide by. ``"optimal"``: the optimal
            return, where it is known. ``"raw"``: 1. ``"auto"``: the baseline if it is
            there, else published if that covers all environments, else raw.
        baseline: The rule that others are compared with.

    Returns:
        The normalised returns. An environment whose reference is missing or not
        positive is left out, and a note says so.

    Raises:
        ValueError: If there is no such method, or it has a reference for none of the
            environments.

    References:
        Goldie et al., "Can Learned Optimization Make RL Less Difficult?", 2024 (over
        Adam); "How Should We Meta-Learn Reinforcement Learning Algorithms?", 2025,
        section 5 (over the black-box rule).

    Example:
        >>> run = {"environment": "ant", "seed": 0}
        >>> adam = run | {"rule": "adam", "final_return": 4000.0}
        >>> sgd = run | {"rule": "sgd", "final_return": 1000.0}
        >>> normalise([adam, sgd]).returns["sgd"]
        {'ant': {0: 0.25}}
    """
    rows = list(rows)
    found = statistics.returns(rows)
    names = sorted({name for games in found.values() for name in games})
    check(method)
    method = _automatic(found, names, baseline) if method == "auto" else method
    if method == "raw":
        text = "not normalised: environments with large returns count most"
        return Normalised("raw", text, found, {}, ())
    known, description = _references(method, rows, found)
    usable = {g: known[g] for g in names if g in known and known[g] > 0}
    if names and not usable:
        raise _no_reference(method, names)
    return Normalised(
        method,
        description,
        {
            rule: {
                name: {seed: value / usable[name] for seed, value in seeds.items()}
                for name, seeds in games.items()
                if name in usable
            }
            for rule, games in found.items()
        },
        usable,
        tuple(
            f"{name} is not in the aggregates: its reference "
            + (f"is {known[name]:.6g}, not positive" if name in known else "is missing")
            for name in names
            if name not in usable
        ),
    )


def published(optimizer: str) -> dict[str, float]:
    """Published returns of an optimiser, by environment.

    Args:
        optimizer: ``"adam"`` or ``"sgd"``, tuned.

    Returns:
        Mean final returns of 16 seeds.

    Raises:
        ValueError: There are none of that optimiser.

    References:
        The released code of Goldie et al. 2024 and 2025.

    Example:
        >>> published("adam")["Freeway-MinAtar"]
        61.8369
    """
    known = _data()["published"]
    if optimizer not in known:
        raise ValueError(f"optimizer={optimizer!r} is none of {', '.join(known)}")
    return dict(known[optimizer]["returns"])


def distribution(rule: str, environments: Sequence[str]) -> dict[str, str] | None:
    """Which environments a learned rule was meta-trained on.

    Args:
        rule: Its name in the rows, as ``"goldie2024/minatar"``.
        environments: Names of environments.

    Returns:
        ``"i.d."`` for environments that the artifact's card names among those it was
        trained on, ``"o.o.d."`` for others. None for a handcrafted rule, an unknown
        one, or one that was trained in no environment.

    Example:
        >>> distribution("goldie2024/breakout", ["Breakout-MinAtar", "ant"])
        {'Breakout-MinAtar': 'i.d.', 'ant': 'o.o.d.'}
        >>> distribution("adam", ["ant"]) is None
        True
    """
    try:
        card = artifacts.card(artifact_name(rule))
    except ArtifactError:
        return None
    trained = [name for text in card.training.environments for name in _named(text)]
    if not trained:
        return None
    return {name: "i.d." if name in trained else "o.o.d." for name in environments}


def _named(text: str) -> list[str]:
    """The environments a card means: 'ant (Brax, backend positional)' is ant."""
    return _data()["card_texts"].get(text) or [text.partition(" (")[0]]


def _automatic(found: Returns, names: Sequence[str], baseline: str) -> str:
    own = found.get(baseline, {})
    if any(name in own and np.mean([*own[name].values()]) > 0 for name in names):
        return "adam" if baseline == "adam" else f"rule:{baseline}"
    known = names and set(names) <= set(published("adam"))
    return "published" if known else "raw"


def _references(
    method: str, rows: list[Row], found: Returns
) -> tuple[dict[str, float], str]:
    """References by environment, and what they are."""
    if method in ("published", "published-sgd"):
        data = _data()["published"][_optimizer(method)]
        return data["returns"], f"divided by {data['source']}"
    if method == "optimal":
        return _optimal(rows), "divided by the optimal return of the environment"
    rule = "adam" if method == "adam" else method.removeprefix("rule:")
    if rule not in found:
        raise ValueError(
            f"normalization={method!r}, but no row is of the rule {rule!r}; run it as "
            f"well, or choose another of {', '.join(METHODS)}"
        )
    means = {g: float(np.mean([*seeds.values()])) for g, seeds in found[rule].items()}
    who = "tuned Adam" if rule == "adam" else rule
    return means, f"divided by the mean final return of {who} in the same environment"


def _optimal(rows: Iterable[Row]) -> dict[str, float]:
    """Optimal returns that rows tell of their environment."""
    told: dict[str, list[float]] = {}
    for row in rows:
        value = _number((row.get("environment_details") or {}).get("optimal_return"))
        if value is not None:
            told.setdefault(row["environment"], []).append(value)
    return {name: float(np.mean(values)) for name, values in told.items()}


def _number(value: Any) -> float | None:
    """Details of an environment are text."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


@functools.cache
def _data() -> dict[str, Any]:
    path = pathlib.Path(__file__).with_name("references.json")
    return json.loads(path.read_text(encoding="utf-8"))
