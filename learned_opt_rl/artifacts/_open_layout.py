"""The shapes of OPEN-like networks, and the order of the authors' flat vectors."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from learned_opt_rl.artifacts._tree import WeightTree, unflatten_names

#: Features per parameter and outputs per parameter; Goldie et al. (2024), B.2 and B.3.
INPUTS = 19
OUTPUTS = 3

#: The same of No Features, feed-forward and recurrent; Goldie et al. (2024), B.4.
NO_FEATURES_INPUTS = {"feed_forward": 8, "recurrent": 14}
NO_FEATURES_OUTPUTS = 2

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
    return _network_shapes(INPUTS, carry, width, OUTPUTS)


def no_features_shapes(carry: int | None, width: int) -> Shapes:
    """The tensors of a No Features optimiser: OPEN's network, fewer inputs, no noise.

    Args:
        carry: Size G of the GRU's carry; ``None`` for the feed-forward network.
        width: Size W of the two hidden layers.

    Returns:
        Shapes by dotted name, in the order of ``open_shapes``.

    References:
        Goldie et al. (2024), B.4 (recurrent); Goldie et al., "How Should We
        Meta-Learn RL Algorithms?" (2025), Table 8 (feed-forward).

    Example:
        >>> shapes = no_features_shapes(None, 16)
        >>> shapes["mlp.dense_0.kernel"], shapes["mlp.dense_2.kernel"]
        ((8, 16), (16, 2))
    """
    kind = "feed_forward" if carry is None else "recurrent"
    return _network_shapes(NO_FEATURES_INPUTS[kind], carry, width, NO_FEATURES_OUTPUTS)


def _network_shapes(inputs: int, carry: int | None, width: int, outputs: int) -> Shapes:
    gru = {} if carry is None else gru_shapes("gru", inputs, carry)
    return gru | {
        "mlp.dense_0.bias": (width,),
        "mlp.dense_0.kernel": (inputs if carry is None else carry, width),
        "mlp.norm_0.bias": (width,),
        "mlp.norm_0.scale": (width,),
        "mlp.dense_1.bias": (width,),
        "mlp.dense_1.kernel": (width, width),
        "mlp.norm_1.bias": (width,),
        "mlp.norm_1.scale": (width,),
        "mlp.dense_2.bias": (outputs,),
        "mlp.dense_2.kernel": (width, outputs),
    }


def gru_shapes(name: str, inputs: int, carry: int) -> Shapes:
    """The tensors of Flax's ``GRUCell``, under a dotted name."""
    return {
        f"{name}.hn.bias": (carry,),
        f"{name}.hn.kernel": (carry, carry),
        f"{name}.hr.kernel": (carry, carry),
        f"{name}.hz.kernel": (carry, carry),
        f"{name}.in.bias": (carry,),
        f"{name}.in.kernel": (inputs, carry),
        f"{name}.ir.bias": (carry,),
        f"{name}.ir.kernel": (inputs, carry),
        f"{name}.iz.bias": (carry,),
        f"{name}.iz.kernel": (inputs, carry),
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
