"""Expressions: optimizers and drifts that are a small text."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from learned_opt_rl import expressions
from learned_opt_rl.errors import WeightsError
from learned_opt_rl.families import schema
from learned_opt_rl.families.family import Family, Kind, Shapes
from learned_opt_rl.families.open_network import META_2025

_WORDS = {
    "p": "parameter",
    "g": "gradient",
    "dorm": "dormancy",
    "rand": "noise",
    "t_p": "training proportion",
    "b_p": "batch proportion",
    "l_p": "layer proportion",
    "lr": "learning rate",
    "iteration": "iteration",
    "r": "probability ratio",
    "log_r": "log of probability ratio",
    "A": "advantage",
}


@dataclasses.dataclass(frozen=True)
class Architecture:
    """What is applied around an expression; a drift has only ``offset``.

    Attributes:
        offset: Subtracted from a drift before the relu.
        zero_mean: Whether an optimizer subtracts the mean over all parameters.
        learning_rate: The base of an optimizer's input ``lr``, if it has one.
        learning_rates: The rule in the table of tuned settings whose learning rate
            an optimizer takes for an environment, if it has the input ``lr``.

    Raises:
        ValueError: The fields of the kind are missing, or one is of the other kind.

    Example:
        >>> Architecture(offset=1e-6).offset
        1e-06
    """

    offset: float | None = None
    zero_mean: bool | None = None
    learning_rate: schema.Positive | None = None
    learning_rates: str | None = None

    def __post_init__(self) -> None:
        schema.check(self, "architecture")
        if self.offset is None and self.zero_mean is None:
            raise schema.MismatchError("architecture.zero_mean", "is missing", "add it")
        for name in ("zero_mean", "learning_rate", "learning_rates"):
            if self.offset is not None and getattr(self, name) is not None:
                problem = "is not a known field of a drift"
                fix = "a drift has offset alone"
                raise schema.MismatchError(f"architecture.{name}", problem, fix)


@dataclasses.dataclass(frozen=True)
class Form:
    """The text of an expression whose declared constants are searched like weights.

    Raises:
        ExpressionError: The text is not valid.
    """

    text: str

    def __post_init__(self) -> None:
        expressions.parse(self.text)

    @property
    def function(self) -> expressions.Function:
        """The text, parsed."""
        return expressions.parse(self.text)

    def to_architecture(self) -> Architecture:
        """Return what a card of the expression holds."""
        function = self.function
        if function.kind == "drift":
            return Architecture(offset=0.0)
        rates = "adam" if "lr" in function.inputs else None
        return Architecture(zero_mean=False, learning_rates=rates)

    def evolved(self, weights: Mapping[str, Any]) -> expressions.Function:
        """Return the function with other constants, exact to the bit as text.

        Args:
            weights: float32 scalars by name.

        Raises:
            WeightsError: The names are not those that the text declares.
        """
        function = self.function
        found = {name: np.shape(value) for name, value in weights.items()}
        if found != _shapes(self):
            raise WeightsError(
                f"the weights {sorted(weights)} are not the constants that the "
                f"function declares, {sorted(_shapes(self))}"
            )
        constants = tuple(
            dataclasses.replace(c, value=float(str(np.float32(weights[c.name]))))
            for c in function.constants
        )
        return dataclasses.replace(function, constants=constants)


def _kind(architecture: Architecture) -> Kind:
    return "optimizer" if architecture.offset is None else "drift"


def _shapes(form: Form) -> Shapes:
    return {constant.name: () for constant in form.function.constants}


def _inputs(form: Form) -> tuple[str, ...]:
    slots = (
        f"memory {slot.name}" if slot.decay is None else f"momentum {slot.decay:g}"
        for slot in form.function.memory
    )
    return (*(_WORDS[name] for name in form.function.inputs), *slots)


FAMILY = Family(
    algorithm="expression",
    kind=_kind,
    title="Expression",
    citation=META_2025,
    architecture=Architecture,
    sizes=Form,
    shapes=_shapes,
    inputs=_inputs,
    module="learned_opt_rl.rules.discovered",
    learning_rate_share=lambda form: 1.0 if "lr" in form.function.inputs else None,
    uses_horizon=True,
)
