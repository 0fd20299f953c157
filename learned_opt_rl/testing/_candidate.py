"""What can be checked: anything that leads to an optax transformation."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

import optax

from learned_opt_rl import artifacts
from learned_opt_rl.artifacts import Artifact

Factory = Callable[..., optax.GradientTransformationExtraArgs]
"""Options (such as ``seed``) -> a fresh transformation."""

Candidate = str | Artifact | Factory | optax.GradientTransformation
"""An artifact's name, an artifact, a factory or a transformation."""


def as_factory(candidate: Candidate) -> Factory:
    """A factory for whatever stands for a learned optimiser.

    Args:
        candidate: An artifact's name, an artifact, a factory, or a transformation,
            which takes no options.

    Returns:
        The factory. Its signature says which options it takes.

    Raises:
        ArtifactError: There is no such artifact, or it cannot be loaded.
        TypeError: ``candidate`` is something else.
    """
    if isinstance(candidate, str):
        candidate = artifacts.load(candidate)
    if isinstance(candidate, Artifact):
        rule = artifacts.rule_module(candidate.card.algorithm)
        return functools.partial(rule.from_artifact, candidate)
    if isinstance(candidate, optax.GradientTransformation):
        return functools.partial(_itself, candidate)
    if callable(candidate):
        return candidate
    raise TypeError(
        f"artifact={candidate!r} is nothing to check; give an artifact's name, an "
        "Artifact, a function returning an optax transformation, or the "
        "transformation itself"
    )


def kind_of(candidate: Candidate) -> str:
    """The kind a candidate's card says; ``"optimizer"`` where it has no card."""
    if isinstance(candidate, str):
        return artifacts.card(candidate).kind
    if isinstance(candidate, Artifact):
        return candidate.card.kind
    return "optimizer"


def takes(make: Factory, option: str) -> bool:
    """Whether a factory declares an option, by name or among its keywords.

    Args:
        make: The factory.
        option: Name of the option.

    Returns:
        Whether its signature has room for it.
    """
    parameters = inspect.signature(make).parameters.values()
    return any(p.name == option or p.kind is p.VAR_KEYWORD for p in parameters)


def _itself(tx: Any) -> Any:
    return tx
