"""OPEN, Separated OPEN and No Features: one small network, different inputs."""

import dataclasses

from learned_opt_rl.families import schema
from learned_opt_rl.families.family import Citation, Family, Shapes

#: Features per parameter and outputs per parameter; Goldie et al. (2024), B.2 and B.3.
INPUTS = 19
OUTPUTS = 3

#: The same of No Features, feed-forward and recurrent; Goldie et al. (2024), B.4.
NO_FEATURES_INPUTS = {"feed_forward": 8, "recurrent": 14}
NO_FEATURES_OUTPUTS = 2


@dataclasses.dataclass(frozen=True)
class Architecture:
    """Sizes of a network of OPEN or No Features.

    Attributes:
        carry: Units of the GRU, or ``None`` for a feed-forward network. Published
            networks have 8 or 16.
        width: Units of both hidden MLP layers. Published networks have 16 or 32.

    Raises:
        ValueError: A size is not a positive whole number.

    Example:
        >>> Architecture(carry=16, width=32)
        Architecture(carry=16, width=32)
    """

    carry: schema.Size | None
    width: schema.Size

    def __post_init__(self) -> None:
        schema.check(self, "architecture")


def open_shapes(architecture: Architecture) -> Shapes:
    """Return the shapes of an OPEN optimizer's weights.

    The order is that of ``jax.flatten_util.ravel_pytree`` over the authors' tree
    ``{"params": MLP, "gru_params": GRU}``: keys sorted at every level, so the GRU
    comes first and each bias before its kernel. Source: Goldie et al., "Can Learned
    Optimization Make Reinforcement Learning Less Difficult?" (2024), Tables 1 and 2.
    """
    return _network_shapes(INPUTS, architecture, OUTPUTS)


def open_separated_shapes(architecture: Architecture) -> Shapes:
    """Return the shapes of two OPEN networks, one for the actor, one for the critic."""
    return {
        f"{network}.{name}": shape
        for network in ("actor", "critic")
        for name, shape in open_shapes(architecture).items()
    }


def no_features_shapes(architecture: Architecture) -> Shapes:
    """Return the shapes of a No Features optimizer's weights, ordered as `open_shapes`.

    The network is OPEN's with fewer inputs and without the output for noise. Sources:
    Goldie et al. (2024), B.4 (recurrent); Goldie et al., "How Should We Meta-Learn RL
    Algorithms?" (2025), Table 8 (feed-forward).
    """
    kind = "feed_forward" if architecture.carry is None else "recurrent"
    return _network_shapes(NO_FEATURES_INPUTS[kind], architecture, NO_FEATURES_OUTPUTS)


def _network_shapes(inputs: int, architecture: Architecture, outputs: int) -> Shapes:
    carry, width = architecture.carry, architecture.width
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
    """Return the shapes of Flax's ``GRUCell``, under a dotted name."""
    shapes: Shapes = {f"{name}.hn.bias": (carry,)}
    shapes |= {f"{name}.h{gate}.kernel": (carry, carry) for gate in "nrz"}
    for gate in "nrz":
        shapes[f"{name}.i{gate}.bias"] = (carry,)
        shapes[f"{name}.i{gate}.kernel"] = (inputs, carry)
    return shapes


def _momenta() -> list[str]:
    # Imported here: features needs jax, and only writing a card asks for the names.
    from learned_opt_rl.features import DECAYS

    return [f"momentum {decay:g}" for decay in DECAYS]


def _signs_and_logs() -> tuple[str, ...]:
    momenta = _momenta()
    return (
        *(f"sign of {name}" for name in momenta),
        *(f"log of {name}" for name in momenta),
        "sign of gradient",
        "log of gradient",
    )


def _open_inputs(architecture: Architecture) -> tuple[str, ...]:
    proportions = ("training proportion", "layer proportion", "batch proportion")
    return ("parameter", *_signs_and_logs(), *proportions, "dormancy")


def _no_features_inputs(architecture: Architecture) -> tuple[str, ...]:
    if architecture.carry is None:
        return ("parameter", *_momenta(), "gradient")
    return _signs_and_logs()


_OPEN_2024 = Citation(
    "A. D. Goldie, C. Lu, M. T. Jackson, S. Whiteson and J. N. Foerster, "
    '"Can Learned Optimization Make Reinforcement Learning Less Difficult?", 2024 '
    "(architecture); weights by this project.",
    "https://arxiv.org/abs/2407.07082",
)
META_2025 = Citation(
    "A. D. Goldie, Z. Wang, J. Cohen, J. N. Foerster and S. Whiteson, "
    '"How Should We Meta-Learn Reinforcement Learning Algorithms?", 2025 '
    "(architecture and method); weights by this project.",
    "https://arxiv.org/abs/2507.17668",
)
"""The paper that No Features, LPO and expressions share."""

OPEN = Family(
    algorithm="open",
    kind="optimizer",
    title="OPEN",
    citation=_OPEN_2024,
    architecture=Architecture,
    shapes=open_shapes,
    inputs=_open_inputs,
    module="learned_opt_rl.rules.open_rl",
    uses_horizon=True,
    distillable=True,
)
OPEN_SEPARATED = dataclasses.replace(
    OPEN,
    algorithm="open_separated",
    title="Separated OPEN",
    shapes=open_separated_shapes,
    init="init_separated",
    distillable=False,
)
NO_FEATURES = Family(
    algorithm="no_features",
    kind="optimizer",
    title="No Features",
    citation=META_2025,
    architecture=Architecture,
    shapes=no_features_shapes,
    inputs=_no_features_inputs,
    module="learned_opt_rl.rules.no_features",
    distillable=True,
)
