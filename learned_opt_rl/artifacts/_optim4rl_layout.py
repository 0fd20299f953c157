"""The shapes of Optim4RL's two towers."""

from __future__ import annotations

from learned_opt_rl.artifacts._open_layout import Shapes, gru_shapes

#: Version -> inputs and outputs of the first and of the second tower.
TOWERS = {
    "arxiv2023": ((2, 2), (1, 1)),
    "rlc2024": ((1, 1), (1, 1)),
}


def optim4rl_shapes(version: str, carry: int, width: int | None) -> Shapes:
    """The tensors of an Optim4RL optimiser and their shapes.

    Args:
        version: ``"arxiv2023"`` or ``"rlc2024"``.
        carry: Units H of each tower's GRU.
        width: Units of each tower's two hidden layers; ``None`` for a linear head.

    Returns:
        Shapes by dotted name.

    References:
        Lan et al., "Learning to Optimize for Reinforcement Learning" (2023; 2024).

    Example:
        >>> shapes = optim4rl_shapes("arxiv2023", 8, 16)
        >>> shapes["tower_1.gru.in.kernel"], shapes["tower_1.mlp.dense_2.kernel"]
        ((2, 8), (16, 2))
    """
    shapes: Shapes = {}
    for tower, (inputs, outputs) in enumerate(TOWERS[version], start=1):
        shapes |= gru_shapes(f"tower_{tower}.gru", inputs, carry)
        sizes = (carry, *(() if width is None else (width, width)), outputs)
        for layer, shape in enumerate(zip(sizes, sizes[1:], strict=False)):
            name = f"tower_{tower}.mlp.dense_{layer}"
            shapes |= {f"{name}.bias": shape[1:], f"{name}.kernel": shape}
    return shapes
