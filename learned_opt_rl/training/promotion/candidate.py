"""The candidate of a promotion: the fields of its card that follow from the run."""

import dataclasses
import hashlib
import itertools
from typing import Any

import jax
import numpy as np

from learned_opt_rl import agents, envs, expressions, families
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.errors import WeightsError
from learned_opt_rl.families.expression import Form
from learned_opt_rl.families.family import Family
from learned_opt_rl.rules.tuned import tuned
from learned_opt_rl.training.evolution.learned import evolvable, is_evolvable
from learned_opt_rl.training.run_folder import TrainedRun


def described(run: TrainedRun) -> dict[str, Any]:
    """Return the fields of a card that follow from the family and its sizes.

    Raises:
        ValueError: The family cannot be promoted, or Optim4RL was trained with several
            learning rates.
        WeightsError: The weights are not the constants of the expression.
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

    Raises:
        WeightsError: The weights are not the constants of the expression.
    """
    if run.algorithm != "expression":
        return "weights.safetensors", run.content
    function = _evolved(run)
    lines = run.architecture["text"].splitlines(keepends=True)
    comments = itertools.takewhile(lambda line: line[:1] == "#", lines)
    return "expression.txt", ("".join(comments) + function.to_text()).encode()


def _evolved(run: TrainedRun) -> expressions.Function:
    try:
        return Form(**run.architecture).evolved(run.weights)
    except WeightsError as error:
        raise WeightsError(f"{run.folder}: {error}") from error


def _architecture(run: TrainedRun, family: Family, sizes: Any) -> dict[str, Any]:
    """Return the card's architecture, with the learning rate that agents ran with."""
    architecture = family.to_card(sizes)
    share = family.learning_rate_share(sizes)
    if share is None or "learning_rate" in architecture:
        return architecture
    names = run.environments or ("CartPole-v1",)
    rates = [tuned("adam", name)["learning_rate"] for name in names]
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
        agent: dict[str, Any] = {
            key: tuple(value) if isinstance(value, list) else value
            for key, value in run.fields.get("agent", {}).items()
        }
        name = run.environments[0]
        unit = run.fields.get("horizon_unit") == "episodes"
        steps = run.horizon * ((envs.episode_length(name) if unit else None) or 1)
        config = agents.preset(name, steps, **agent)
    return dataclasses.asdict(config.horizon())
