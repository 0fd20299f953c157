"""What every family does with an artifact first."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, TypeVar, cast

import optax

from learned_opt_rl.artifacts import Artifact, Card
from learned_opt_rl.errors import ArtifactError, HorizonWarning
from learned_opt_rl.features import Horizon
from learned_opt_rl.rules._core.named_drift import NamedDrift
from learned_opt_rl.warn import warn_user


def require_algorithm(artifact: Artifact, *algorithms: str) -> None:
    """Raise ``ArtifactError`` unless an artifact is of one of these algorithms."""
    if not isinstance(artifact, Artifact):
        raise TypeError(
            f"artifact={artifact!r} must be an Artifact; pass artifacts.load(name), or "
            "use pretrained(name)"
        )
    card = artifact.card
    if card.algorithm not in algorithms:
        raise ArtifactError(
            f"artifact '{card.name}' is of algorithm '{card.algorithm}', not "
            f"'{algorithms[0]}'; use learned_opt_rl.pretrained('{card.name}')"
        )


F = TypeVar("F", bound=Callable[..., Any])


class NamedOptimizer(optax.GradientTransformationExtraArgs):
    """An optax transformation that prints as its artifact."""

    text = ""

    def __repr__(self) -> str:
        return self.text or super().__repr__()


def prints_its_name(from_artifact: F) -> F:
    """Let the optimizer or drift of a ``from_artifact`` print as its artifact."""

    @functools.wraps(from_artifact)
    def named(artifact: Artifact, *arguments: Any, **options: Any) -> Any:
        made = from_artifact(artifact, *arguments, **options)
        card = artifact.card
        size = f"{card.weights.parameters:,} parameters"
        text = f"<{card.kind} {card.name!r} ({card.algorithm}, {size})>"
        if not isinstance(made, optax.GradientTransformation):
            return NamedDrift(text, made)
        optimizer = NamedOptimizer(made.init, cast(Any, made.update))
        optimizer.text = text
        return optimizer

    return cast(F, named)


def trained_horizon(card: Card) -> Horizon | None:
    """Return the horizon that an artifact was trained for, or ``None``.

    Pass it as ``horizon=`` to use it on purpose, without a ``HorizonWarning``.

    Example:
        >>> from learned_opt_rl import artifacts, rules
        >>> rules.trained_horizon(artifacts.card("sign_mixture"))
        Horizon(total_updates=960, epochs=4, minibatches=8)
    """
    h = card.horizon
    return None if h is None else Horizon(h.total_updates, h.epochs, h.minibatches)


def assumed_horizon(card: Card, afterwards: str) -> Horizon:
    """Return `trained_horizon` with a ``HorizonWarning``, or raise ``ArtifactError``.

    ``afterwards`` says what the rule does past the horizon.
    """
    horizon = trained_horizon(card)
    if horizon is None:
        raise ArtifactError(
            f"the card of '{card.name}' names no horizon; pass horizon=Horizon(...)"
        )
    message = (
        f"'{card.name}' was built without horizon= and assumes a run of "
        f"{horizon.total_updates} updates (calls of tx.update), as it was trained for; "
        f"past them, {afterwards}. Pass the length of your run: horizon=Horizon.ppo("
        "total_timesteps, num_envs, num_steps, epochs, minibatches) or "
        "horizon=Horizon(total_updates)"
    )
    warn_user(message, HorizonWarning)
    return horizon
