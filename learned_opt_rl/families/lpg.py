"""LPG: a recurrent network that makes an agent's targets."""

import dataclasses
from typing import Literal, TypeAlias

from learned_opt_rl.families import schema
from learned_opt_rl.families.family import Citation, Family, Shapes

Sign: TypeAlias = Literal["descend", "ascend"]


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Sizes of an LPG, and the conventions its weights were trained under.

    Attributes:
        core: Kind of recurrent core, ``"gru"`` or ``"lstm"``.
        width: Units of the core.
        embedding: Hidden units of the embedding of predictions.
        target_width: Components m of a prediction y.
        gamma_input: Whether the discount is an input.
        lifetime_inputs: How the agent's age enters: ``"none"``, ``"relative"``
            (step / lifetime, and the logarithm of lifetime) or ``"raw"`` (the two
            numbers of updates themselves, as in GROOVE).
        policy_sign: Whether agents ``"descend"`` log pi * pi_hat (GROOVE) or
            ``"ascend"`` it (Oh et al.). Weights of the one are the other's negated.

    Raises:
        ValueError: A size is not a positive whole number, or a choice is unknown.

    Example:
        >>> Architecture().width, Architecture(core="lstm", target_width=30).core
        (256, 'lstm')
    """

    core: Literal["gru", "lstm"] = "gru"
    width: schema.Size = 256
    embedding: schema.Size = 16
    target_width: schema.Size = 8
    gamma_input: bool = False
    lifetime_inputs: Literal["none", "relative", "raw"] = "none"
    policy_sign: Sign = "descend"

    def __post_init__(self) -> None:
        schema.check(self, "architecture")


def lpg_shapes(architecture: Architecture) -> Shapes:
    """Return the shapes of an LPG's weights.

    Rows of the core's input kernels are `_inputs`, in that order.

    Args:
        architecture: Sizes and conventions.

    Returns:
        Shapes by dotted name.

    References:
        Oh et al., "Discovering Reinforcement Learning Algorithms" (2020), section 3.

    Example:
        >>> lpg_shapes(Architecture(width=6, embedding=4))["gru.in.kernel"]
        (5, 6)
    """
    width, embedding = architecture.width, architecture.embedding
    targets, inputs = architecture.target_width, len(_inputs(architecture))
    core = {"gru": _gru, "lstm": _lstm}[architecture.core]
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


def _inputs(architecture: Architecture) -> tuple[str, ...]:
    discount = ("discount",) if architecture.gamma_input else ()
    age = () if architecture.lifetime_inputs == "none" else ("step", "lifetime")
    predictions = ("embedded prediction", "embedded next prediction")
    return ("reward", "done", *discount, "probability", *predictions, *age)


FAMILY = Family(
    algorithm="lpg",
    kind="update_rule",
    title="LPG",
    citation=Citation(
        "J. Oh, M. Hessel, W. M. Czarnecki, Z. Xu, H. van Hasselt, S. Singh and "
        'D. Silver, "Discovering Reinforcement Learning Algorithms", 2020 '
        "(architecture and method); weights by this project.",
        "https://arxiv.org/abs/2007.08794",
    ),
    architecture=Architecture,
    shapes=lpg_shapes,
    inputs=_inputs,
    module="learned_opt_rl.rules.lpg",
    evolvable=False,  # its agents are trained by meta-gradients
)
