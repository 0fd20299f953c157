"""The shapes of LPG's networks."""

from collections.abc import Mapping
from typing import Any

from learned_opt_rl.artifacts._open_layout import Shapes


def lpg_shapes(architecture: Mapping[str, Any]) -> Shapes:
    """The tensors of an LPG and their shapes.

    Rows of the core's input kernels: reward, done, the discount if it is an input,
    probability, the two embedded predictions, step and lifetime if they are inputs.

    Args:
        architecture: The fields of ``lpg.Architecture``, as a card has them.

    Returns:
        Shapes by dotted name.

    References:
        Oh et al., "Discovering Reinforcement Learning Algorithms" (2020), section 3.

    Example:
        >>> sizes = {"core": "gru", "width": 6, "embedding": 4, "target_width": 8}
        >>> flags = {"gamma_input": False, "lifetime_inputs": "none"}
        >>> lpg_shapes(sizes | flags)["gru.in.kernel"]
        (5, 6)
    """
    width, embedding = architecture["width"], architecture["embedding"]
    targets = architecture["target_width"]
    inputs = 5 + architecture["gamma_input"]
    inputs += 0 if architecture["lifetime_inputs"] == "none" else 2
    core = {"gru": _gru, "lstm": _lstm}[architecture["core"]]
    return {
        "embedding.dense_0.bias": (embedding,),
        "embedding.dense_0.kernel": (targets, embedding),
        "embedding.dense_1.bias": (1,),
        "embedding.dense_1.kernel": (embedding, 1),
        **core(inputs, width),
        "policy.bias": (1,),
        "policy.kernel": (width, 1),
        "target.bias": (targets,),
        "target.kernel": (width, targets),
    }


def _gru(inputs: int, width: int) -> Shapes:
    """Gates r, z, n; of the recurrent maps only n's has a bias."""
    shapes: Shapes = {"gru.hn.bias": (width,)}
    for gate in "rzn":
        shapes[f"gru.i{gate}.bias"] = (width,)
        shapes[f"gru.i{gate}.kernel"] = (inputs, width)
        shapes[f"gru.h{gate}.kernel"] = (width, width)
    return shapes


def _lstm(inputs: int, width: int) -> Shapes:
    """Gates i, g, f, o, with one bias each."""
    shapes: Shapes = {}
    for gate in "igfo":
        shapes[f"lstm.i{gate}.bias"] = (width,)
        shapes[f"lstm.i{gate}.kernel"] = (inputs, width)
        shapes[f"lstm.h{gate}.kernel"] = (width, width)
    return shapes
