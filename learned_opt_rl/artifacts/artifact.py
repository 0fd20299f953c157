"""An artifact: a card and its weights, or the text of its expression."""

import dataclasses
from collections.abc import Mapping
from typing import Any

from learned_opt_rl import families
from learned_opt_rl.artifacts.card import Card, FileWeights, Training
from learned_opt_rl.artifacts.weights import WeightTree


# Compared by identity: arrays have no single truth value for ==.
@dataclasses.dataclass(frozen=True, eq=False)
class Artifact:
    """A card and its weights, ready for the rule that runs them.

    Attributes:
        card: What the artifact is.
        weights: Nested dict of float32 numpy arrays, already checked against the card;
            of an expression, the default values of its tunable constants.
        text: Of an expression, its text exactly as stored; ``None`` for weights.

    Example:
        >>> from learned_opt_rl import artifacts
        >>> artifacts.Artifact(artifacts.card("goldie2024/ant"), {}).card.algorithm
        'open'
    """

    card: Card
    weights: WeightTree
    text: str | None = None


def in_memory(
    algorithm: str,
    architecture: Mapping[str, Any],
    weights: WeightTree,
    text: str | None = None,
) -> Artifact:
    """Make an artifact of weights that are not stored, such as those under training.

    Args:
        algorithm: A family that is built in or registered.
        architecture: The ``architecture`` field of its card, not checked again.
        weights: Nested dict of float32 arrays, which may be traced by jax.
        text: Of an expression, its text.

    Returns:
        The artifact, for the family's ``from_artifact``; it cannot be saved.

    Raises:
        ArtifactError: There is no such family.

    Example:
        >>> in_memory(
        ...     "lpo", {"width": 2, "clip_eps": 0.2, "margin": 1e-4}, {}
        ... ).card.kind
        'drift'
    """
    family = families.find(algorithm)
    stored = "safetensors" if text is None else "expression"
    card = Card(
        schema=1,
        name="in_memory",
        kind=family.kind_of(family.read(architecture)),
        title=family.title,
        summary="Weights that are not stored.",
        algorithm=algorithm,
        representation="network" if text is None else "expression",
        architecture=architecture,
        inputs=(),
        horizon=None,
        training=Training("unknown", (), "unknown", None, "unknown", None),
        license="Apache-2.0",
        citation=family.citation,
        weights=FileWeights("none", "0" * 64, 0, stored),
        results=(),
        known_failures=(),
    )
    return Artifact(card, weights, text)
