"""What a card says of an algorithm whatever run it comes from: inputs and citation."""

import dataclasses
import hashlib
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np

from learned_opt_rl import expressions, families
from learned_opt_rl.errors import WeightsError
from learned_opt_rl.families.expression import Form
from learned_opt_rl.families.family import Family
from learned_opt_rl.rules.tuned import tuned
from learned_opt_rl.training.evolution.learned import evolvable, is_evolvable
from learned_opt_rl.training.promotion.candidate import Candidate


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
    if not is_evolvable(algorithm):
        raise ValueError(
            f"{candidate.folder} is of algorithm={algorithm!r}, of which no card is "
            f"written; only of {', '.join(evolvable())}"
        )
    family = families.find(algorithm)
    sizes = family.make_sizes(candidate.sizes)
    architecture = _architecture(candidate, family, sizes)
    is_text = isinstance(sizes, Form)
    name, content = file(candidate)
    count = sum(np.size(leaf) for leaf in _leaves(candidate.weights))
    return {
        "kind": family.kind_of(family.read(architecture)),
        "algorithm": algorithm,
        "representation": "expression" if is_text else "network",
        "architecture": architecture,
        "inputs": list(family.inputs(sizes)),
        "citation": dataclasses.asdict(family.citation),
        "weights": {
            "file": name,
            "sha256": hashlib.sha256(content).hexdigest(),
            "parameters": count,
            "format": "expression" if is_text else "safetensors",
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


def _architecture(candidate: Candidate, family: Family, sizes: Any) -> dict[str, Any]:
    """Return the card's architecture, with the learning rate the rule was run with."""
    architecture = family.to_card(sizes)
    share = family.learning_rate_share(sizes)
    if share is None or "learning_rate" in architecture:
        return architecture
    names = candidate.environments or ("CartPole-v1",)
    rates = [tuned("adam", name)["learning_rate"] for name in names]
    # With a table of tuned rates the card's own is only where none is asked for.
    if len(set(rates)) > 1 and "learning_rates" not in architecture:
        raise ValueError(
            f"{candidate.folder} evolved {family.title} at several learning rates, "
            f"{share:g} of {', '.join(map(str, rates))}, and a card has one; promote "
            "a campaign in one environment"
        )
    return architecture | {"learning_rate": float(f"{share * rates[0]:.6g}")}


def _leaves(weights: Any) -> list[Any]:
    if not isinstance(weights, Mapping):
        return [weights]
    return [leaf for branch in weights.values() for leaf in _leaves(branch)]
