"""What a card says of an algorithm whatever run it comes from: inputs and citation."""

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from learned_opt_rl import expressions
from learned_opt_rl.artifacts._architectures import kind_of
from learned_opt_rl.errors import WeightsError
from learned_opt_rl.features import DECAYS
from learned_opt_rl.rules.tuned import tuned
from learned_opt_rl.training.evolution.learned import OPTIM4RL_SHARE, Form, Learned
from learned_opt_rl.training.promotion.candidate import Candidate

_OPEN_2024 = {
    "text": "A. D. Goldie, C. Lu, M. T. Jackson, S. Whiteson and J. N. Foerster, "
    '"Can Learned Optimization Make Reinforcement Learning Less Difficult?", 2024 '
    "(architecture); weights by this project.",
    "url": "https://arxiv.org/abs/2407.07082",
}
_META_2025 = {
    "text": "A. D. Goldie, Z. Wang, J. Cohen, J. N. Foerster and S. Whiteson, "
    '"How Should We Meta-Learn Reinforcement Learning Algorithms?", 2025 '
    "(architecture and method); weights by this project.",
    "url": "https://arxiv.org/abs/2507.17668",
}
_OPTIM4RL_2023 = {
    "text": "Q. Lan, A. R. Mahmood, S. Yan and Z. Xu, "
    '"Learning to Optimize for Reinforcement Learning", 2023 (architecture); weights '
    "by this project.",
    "url": "https://arxiv.org/abs/2302.01470",
}


class Family(NamedTuple):
    """An algorithm on a card.

    Attributes:
        title: What it is called.
        citation: What to cite.
        horizon: Whether it knows how much of a run is over.
    """

    title: str
    citation: Mapping[str, str]
    horizon: bool


FAMILIES = {
    "open": Family("OPEN", _OPEN_2024, True),
    "open_separated": Family("Separated OPEN", _OPEN_2024, True),
    "no_features": Family("No Features", _META_2025, False),
    "optim4rl": Family("Optim4RL", _OPTIM4RL_2023, False),
    "lpo": Family("LPO", _META_2025, False),
    "expression": Family("Closed form", _META_2025, True),
}
"""What can be promoted, by algorithm."""

_MOMENTA = [f"momentum {decay:g}" for decay in DECAYS]
_SIGNS_AND_LOGS = (
    *(f"sign of {name}" for name in _MOMENTA),
    *(f"log of {name}" for name in _MOMENTA),
    "sign of gradient",
    "log of gradient",
)
_RATIO = (
    "ratio - 1",
    "square of ratio - 1",
    "log of ratio",
    "square of log of ratio",
)
_OPEN = (
    "parameter",
    *_SIGNS_AND_LOGS,
    "training proportion",
    "layer proportion",
    "batch proportion",
    "dormancy",
)
_INPUTS = {
    "open": _OPEN,
    "open_separated": _OPEN,
    "feed_forward": ("parameter", *_MOMENTA, "gradient"),
    "recurrent": _SIGNS_AND_LOGS,
    "arxiv2023": ("sign of gradient", "log of gradient"),
    "rlc2024": ("gradient",),
    "lpo": (*_RATIO, *(f"{name}, times advantage" for name in _RATIO)),
}
_WORDS = {
    "p": "parameter",
    "g": "gradient",
    "dorm": "dormancy",
    "rand": "noise",
    "t_p": "training proportion",
    "b_p": "batch proportion",
    "l_p": "layer proportion",
    "lr": "learning rate",
    "iteration": "iteration",
    "r": "probability ratio",
    "log_r": "log of probability ratio",
    "A": "advantage",
}


def described(candidate: Candidate) -> dict[str, Any]:
    """The fields of a card that follow from the algorithm and its sizes.

    Args:
        candidate: The run.

    Returns:
        ``kind``, ``algorithm``, ``representation``, ``architecture``, ``inputs``,
        ``citation`` and ``weights``.

    Raises:
        ValueError: The algorithm is none that can be promoted, or Optim4RL was
            trained at several learning rates.
        WeightsError: The weights are not the constants of the closed form.
    """
    algorithm = candidate.algorithm
    if algorithm not in FAMILIES:
        raise ValueError(
            f"{candidate.folder} is of algorithm={algorithm!r}, of which no card is "
            f"written; only of {', '.join(FAMILIES)}"
        )
    form = _evolved_form(candidate) if algorithm == "expression" else None
    architecture = _architecture(candidate, form)
    name, content = file(candidate)
    count = sum(np.size(leaf) for leaf in _leaves(candidate.weights))
    return {
        "kind": kind_of(algorithm, architecture),
        "algorithm": algorithm,
        "representation": "expression" if form else "network",
        "architecture": architecture,
        "inputs": list(_inputs(algorithm, architecture, form)),
        "citation": dict(FAMILIES[algorithm].citation),
        "weights": {
            "file": name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "parameters": count,
            "format": "expression" if form else "safetensors",
        },
    }


def file(candidate: Candidate) -> tuple[str, bytes]:
    """The artifact's file: its weights, or the text with the evolved constants.

    Args:
        candidate: The run.

    Returns:
        Its name and content.

    Raises:
        WeightsError: The weights are not the constants of the closed form.
    """
    if candidate.algorithm != "expression":
        return "weights.safetensors", candidate.content
    form = _evolved_form(candidate)
    lines = candidate.sizes["text"].splitlines(keepends=True)
    about = itertools.takewhile(lambda line: line[:1] == "#", lines)
    return "expression.txt", ("".join(about) + form.to_text()).encode()


def _evolved_form(candidate: Candidate) -> expressions.Function:
    """The function with the constants as they are now."""
    try:
        return Form(**candidate.sizes).evolved(candidate.weights)
    except WeightsError as error:
        raise WeightsError(f"{candidate.folder}: {error}") from error


def _architecture(
    candidate: Candidate, form: expressions.Function | None
) -> dict[str, Any]:
    """As a card has it; None, as for a network without carry, is left out there."""
    algorithm = candidate.algorithm
    if form is not None:
        return _architecture_of(form, candidate)
    sizes = dataclasses.asdict(Learned(algorithm, candidate.sizes).architecture)
    known = {name: value for name, value in sizes.items() if value is not None}
    if algorithm in ("open", "open_separated", "no_features"):
        kind = "recurrent" if "carry" in known else "feed_forward"
        return {"type": kind, **known}
    if algorithm == "optim4rl":
        return known | {"learning_rate": _optim4rl_rate(candidate)}
    return known


def _architecture_of(
    form: expressions.Function, candidate: Candidate
) -> dict[str, Any]:
    if form.kind == "drift":
        return {"offset": 0.0}
    made: dict[str, Any] = {"zero_mean": False}
    if "lr" in form.inputs:
        made["learning_rate"] = _adam_rates(candidate)[0]
        made["learning_rates"] = "adam"
    return made


def _optim4rl_rate(candidate: Candidate) -> float:
    """A tenth of Adam's, as campaigns have it; a card has one for all environments."""
    rates = _adam_rates(candidate)
    if len(set(rates)) > 1:
        raise ValueError(
            f"{candidate.folder} evolved Optim4RL at several learning rates, a tenth "
            f"of {', '.join(map(str, rates))}, and a card has one; promote a campaign "
            "in one environment"
        )
    return float(f"{OPTIM4RL_SHARE * rates[0]:.6g}")


def _adam_rates(candidate: Candidate) -> list[float]:
    names = candidate.environments or ("CartPole-v1",)
    return [tuned("adam", name)["learning_rate"] for name in names]


def _inputs(
    algorithm: str, architecture: Mapping[str, Any], form: expressions.Function | None
) -> tuple[str, ...]:
    if form is not None:
        slots = [
            f"memory {slot.name}" if slot.decay is None else f"momentum {slot.decay:g}"
            for slot in form.memory
        ]
        return (*(_WORDS[name] for name in form.inputs), *slots)
    known = {"no_features": "type", "optim4rl": "version"}
    key = architecture[known[algorithm]] if algorithm in known else algorithm
    return _INPUTS[key]


def _leaves(weights: Any) -> list[Any]:
    if not isinstance(weights, Mapping):
        return [weights]
    return [leaf for branch in weights.values() for leaf in _leaves(branch)]
