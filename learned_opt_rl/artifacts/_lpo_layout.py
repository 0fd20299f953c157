"""The shapes of LPO's drift network."""

#: r - 1, its square, log r, its square, and the same four times the advantage.
INPUTS = 8


def lpo_shapes(width: int) -> dict[str, tuple[int, ...]]:
    """The tensors of an LPO drift network and their shapes; it has no biases.

    Args:
        width: Units of the hidden layer.

    Returns:
        Shapes by dotted name.

    References:
        Lu et al., "Discovered Policy Optimisation" (2022).

    Example:
        >>> lpo_shapes(128)
        {'dense_0.kernel': (8, 128), 'dense_1.kernel': (128, 1)}
    """
    return {"dense_0.kernel": (INPUTS, width), "dense_1.kernel": (width, 1)}
