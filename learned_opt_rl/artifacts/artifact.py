"""An artifact: a card together with what it describes: weights, or a closed form."""

import dataclasses

from learned_opt_rl.artifacts._tree import WeightTree
from learned_opt_rl.artifacts.card import Card


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
