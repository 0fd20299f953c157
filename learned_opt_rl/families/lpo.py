"""LPO: a small network added to PPO's drift."""

import dataclasses

from learned_opt_rl.families import schema
from learned_opt_rl.families.family import Family, Shapes
from learned_opt_rl.families.open_network import META_2025

_RATIO = ("ratio - 1", "square of ratio - 1", "log of ratio", "square of log of ratio")
_INPUTS = (*_RATIO, *(f"{name}, times advantage" for name in _RATIO))


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Size of the network, and the constants around it.

    Attributes:
        width: Units of the hidden layer. Published LPO has 128.
        clip_eps: Clip range of the PPO drift inside.
        margin: Subtracted before the relu, so that the drift is flat around ratio 1.

    Raises:
        ValueError: A value is not positive, or ``width`` is not a whole number.

    Example:
        >>> Architecture()
        Architecture(width=128, clip_eps=0.2, margin=0.0001)
    """

    width: schema.Size = 128
    clip_eps: schema.Positive = 0.2
    margin: schema.Positive = 1e-4

    def __post_init__(self) -> None:
        schema.check(self, "architecture")


def lpo_shapes(architecture: Architecture) -> Shapes:
    """Return the shapes of an LPO drift network's weights; it has no biases.

    Source: Lu et al., "Discovered Policy Optimisation" (2022).
    """
    width = architecture.width
    return {"dense_0.kernel": (len(_INPUTS), width), "dense_1.kernel": (width, 1)}


FAMILY = Family(
    algorithm="lpo",
    kind="drift",
    title="LPO",
    citation=META_2025,
    architecture=Architecture,
    shapes=lpo_shapes,
    inputs=lambda architecture: _INPUTS,
    module="learned_opt_rl.rules.lpo",
    distillable=True,
)
