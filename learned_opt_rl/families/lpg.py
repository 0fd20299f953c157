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
        embedding: Hidden units of the embedding of predictions; values have none.
        target_width: Components m of a prediction y; 1 for values.
        gamma_input: Whether the discount is an input.
        lifetime_inputs: How the agent's age enters: ``"none"``, ``"relative"``
            (step / lifetime, and the logarithm of lifetime) or ``"raw"`` (the two
            numbers of updates themselves, as in GROOVE).
        policy_sign: Whether agents ``"descend"`` log pi * pi_hat (GROOVE) or
            ``"ascend"`` it (Oh et al.). Weights of the one are the other's negated.
        prediction: ``"categorical"`` for predictions that sum to 1 and are compared by
            D_KL(y || y_hat), or ``"unbounded"`` for any numbers, which are compared by
            the squared distance (an ablation of Oh et al.). ``"value"`` is their LPG-V:
            the prediction is the value of a state, TD(lambda) gives its target, and
            only pi_hat is learned.

    Raises:
        ValueError: A size is not a positive whole number, a choice is unknown, or
            values have several components.

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
    prediction: Literal["categorical", "unbounded", "value"] = "categorical"

    def __post_init__(self) -> None:
        schema.check(self, "architecture")
        if self.prediction == "value" and self.target_width != 1:
            fix = 'write 1, since architecture.prediction="value" is one number'
            raise schema.wrong("architecture.target_width", self.target_width, fix)


def lpg_shapes(architecture: Architecture) -> Shapes:
    """Return the shapes of an LPG's weights by dotted name.

    The rows of the core's input kernels are `_inputs`, in that order. Source: Oh et
    al., "Discovering Reinforcement Learning Algorithms" (2020), section 3.
    """
    width, embedding = architecture.width, architecture.embedding
    targets, inputs = architecture.target_width, len(_inputs(architecture))
    core, gates = architecture.core, {"gru": "rzn", "lstm": "igfo"}[architecture.core]
    # Of the GRU's recurrent maps only that of gate n has a bias.
    shapes: Shapes = {"gru.hn.bias": (width,)} if core == "gru" else {}
    for gate in gates:
        shapes[f"{core}.i{gate}.bias"] = (width,)
        shapes[f"{core}.i{gate}.kernel"] = (inputs, width)
        shapes[f"{core}.h{gate}.kernel"] = (width, width)
    shapes |= {"policy.bias": (1,), "policy.kernel": (width, 1)}
    if architecture.prediction == "value":
        return shapes
    return {
        "embedding.dense_0.bias": (embedding,),
        "embedding.dense_0.kernel": (targets, embedding),
        "embedding.dense_1.bias": (1,),
        "embedding.dense_1.kernel": (embedding, 1),
        **shapes,
        "target.bias": (targets,),
        "target.kernel": (width, targets),
    }


def _inputs(architecture: Architecture) -> tuple[str, ...]:
    discount = ("discount",) if architecture.gamma_input else ()
    age = () if architecture.lifetime_inputs == "none" else ("step", "lifetime")
    predictions = ("embedded prediction", "embedded next prediction")
    if architecture.prediction == "value":
        predictions = ("value", "next value")
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
    distillable=True,
)
