"""Optim4RL: two small recurrent towers."""

import dataclasses
from typing import Literal, TypeAlias

from learned_opt_rl.families import schema
from learned_opt_rl.families.family import Citation, Family, Shapes
from learned_opt_rl.families.open_network import gru_shapes

Version: TypeAlias = Literal["arxiv2023", "rlc2024"]

#: Version -> inputs and outputs of the first and of the second tower.
TOWERS = {"arxiv2023": ((2, 2), (1, 1)), "rlc2024": ((1, 1), (1, 1))}
_INPUTS = {
    "arxiv2023": ("sign of gradient", "log of gradient"),
    "rlc2024": ("gradient",),
}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Version and sizes of an Optim4RL network.

    Attributes:
        version: ``"arxiv2023"`` or ``"rlc2024"``.
        carry: Units of each tower's GRU. Published networks have 8 or 16.
        width: Units of each tower's two hidden layers; ``None`` for a linear head.
        learning_rate: The one it was trained with, if it is known.

    Raises:
        ValueError: There is no such version, a size is not a positive whole number,
            or the learning rate is not positive.

    Example:
        >>> Architecture("rlc2024", carry=8, width=None).version
        'rlc2024'
    """

    version: Version
    carry: schema.Size
    width: schema.Size | None
    learning_rate: schema.Positive | None = None

    def __post_init__(self) -> None:
        schema.check(self, "architecture")


def optim4rl_shapes(architecture: Architecture) -> Shapes:
    """Return the shapes of an Optim4RL optimizer's weights by dotted name.

    Source: Lan et al., "Learning to Optimize for Reinforcement Learning" (2023; 2024).
    """
    carry, width = architecture.carry, architecture.width
    shapes: Shapes = {}
    for tower, (inputs, outputs) in enumerate(TOWERS[architecture.version], start=1):
        shapes |= gru_shapes(f"tower_{tower}.gru", inputs, carry)
        sizes = (carry, *(() if width is None else (width, width)), outputs)
        for layer, shape in enumerate(zip(sizes, sizes[1:], strict=False)):
            name = f"tower_{tower}.mlp.dense_{layer}"
            shapes |= {f"{name}.bias": shape[1:], f"{name}.kernel": shape}
    return shapes


FAMILY = Family(
    algorithm="optim4rl",
    kind="optimizer",
    title="Optim4RL",
    citation=Citation(
        "Q. Lan, A. R. Mahmood, S. Yan and Z. Xu, "
        '"Learning to Optimize for Reinforcement Learning", 2023 (architecture); '
        "weights by this project.",
        "https://arxiv.org/abs/2302.01470",
    ),
    architecture=Architecture,
    shapes=optim4rl_shapes,
    inputs=lambda architecture: _INPUTS[architecture.version],
    module="learned_opt_rl.rules.optim4rl",
    # Goldie et al. 2024, B.4: a tenth of Adam's.
    learning_rate_share=lambda architecture: 0.1,
)
