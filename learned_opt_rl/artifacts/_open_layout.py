"""The shapes of OPEN's networks, and the order of the authors' flat vectors."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from learned_opt_rl.artifacts._tree import WeightTree, unflatten_names

#: Features per parameter and outputs per parameter; Goldie et al. (2024), B.2 and B.3.
INPUTS = 19
OUTPUTS = 3

Shapes = dict[str, tuple[int, ...]]


def open_shapes(carry: int | None, width: int) -> Shapes:
    """The tensors of an OPEN optimiser and their shapes.

    The order is that of ``jax.flatten_util.ravel_pytree`` over the authors' tree
    ``{"params": MLP, "gru_params": GRU}``: keys sorted at every level, so the GRU
    comes first and each bias before its kernel.

    Args:
        carry: Size G of the GRU's carry; ``None`` for the feed-forward network.
        width: Size W of the two hidden layers.

    Returns:
        Shapes by dotted name, in the order of the flat vector.

    References:
        Goldie et al., "Can Learned Optimization Make Reinforcement Learning Less
        Difficult?" (2024), Tables 1 and 2.

    Example:
        >>> shapes = open_shapes(8, 16)
        >>> shapes["gru.in.kernel"], shapes["mlp.dense_2.kernel"]
        ((19, 8), (16, 3))
    """
    gru: Shapes = {}
    if carry is not None:
        gru = {
            "gru.hn.bias": (carry,),
            "gru.hn.kernel": (carry, carry),
            "gru.hr.kernel": (carry, carry),
            "gru.hz.kernel": (carry, carry),
            "gru.in.bias": (carry,),
            "gru.in.kernel": (INPUTS, carry),
            "gru.ir.bias": (carry,),
            "gru.ir.kernel": (INPUTS, carry),
            "gru.iz.bias": (carry,),
            "gru.iz.kernel": (INPUTS, carry),
        }
    return gru | {
        "mlp.dense_0.bias": (width,),
        "mlp.dense_0.kernel": (INPUTS if carry is None else carry, width),
        "mlp.norm_0.bias": (width,),
        "mlp.norm_0.scale": (width,),
        "mlp.dense_1.bias": (width,),
        "mlp.dense_1.kernel": (width, width),
        "mlp.norm_1.bias": (width,),
        "mlp.norm_1.scale": (width,),
        "mlp.dense_2.bias": (OUTPUTS,),
        "mlp.dense_2.kernel": (width, OUTPUTS),
    }


def shapes_of(architecture: Mapping[str, Any]) -> Shapes:
    """`open_shapes` for the ``architecture`` field of a card.

    Args:
        architecture: ``{"type": "recurrent", "carry": G, "width": W}`` or
            ``{"type": "feed_forward", "width": W}``.

    Returns:
        Shapes by dotted name, in the order of the flat vector.
    """
    return open_shapes(architecture.get("carry"), architecture["width"])


def count(shapes: Shapes) -> int:
    """The number of weights in all tensors together."""
    return sum(math.prod(shape) for shape in shapes.values())


def split_flat(vector: np.ndarray, shapes: Shapes) -> WeightTree:
    """Cut a flat vector into the tensors of ``shapes``, in their order.

    Args:
        vector: Float32 ``[count(shapes)]``.
        shapes: Shapes by dotted name.

    Returns:
        The nested dict of weights.
    """
    sizes = [math.prod(shape) for shape in shapes.values()]
    pieces = np.split(vector, np.cumsum(sizes)[:-1])
    named = zip(shapes.items(), pieces, strict=True)
    return unflatten_names(
        {name: piece.reshape(shape) for (name, shape), piece in named}
    )
