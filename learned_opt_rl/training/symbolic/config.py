"""The configuration of a symbolic distillation: all that its numbers depend on."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal

from learned_opt_rl import agents, checks
from learned_opt_rl.training.distillation.teachers import Teacher
from learned_opt_rl.training.proposal.scoring.evaluation import EvaluationConfig
from learned_opt_rl.training.symbolic.backends import BACKENDS, Settings

TEMPLATES = ("relu", "softplus", "free")
INPUTS = ("correlated", "scaled", "paper", "visited")
Loss = Literal["value", "slope"]
Normalization = Literal["tensor", "joint"]

_DRIFTS: dict[str, Any] = {
    **{"unary": ("square", "neg", "tanh", "abs"), "max_size": 40, "max_depth": 8},
    "populations": 31,
}
"""The published search of drifts; the defaults of `Settings` are that of optimizers."""


@dataclasses.dataclass(frozen=True)
class SymbolicConfig:
    """A symbolic distillation; `configure` fills in what depends on the teacher.

    Attributes:
        teacher: Name of the rule, as `distillation.teachers.teacher` takes it.
        evaluation: How the best expressions are scored.
        search: What is searched; its seed is the first fit's.
        backend: ``"operon"`` or ``"pysr"``.
        inputs: Tensors of an optimizer: ``"correlated"``, ``"scaled"`` or ``"paper"``,
            see `distillation.inputs`; or ``"visited"``, those of agents that the
            teacher trains.
        normalization: ``"tensor"`` divides every column by its rms in each tensor, as
            the optimizer does. ``"joint"`` divides all columns by one number, as the
            released script does.
        templates: Forms of drifts, each with ``fits`` fits.
        loss: ``"value"``, or ``"slope"`` for the derivative by the ratio. Constants
            and the choice follow it; a backend fits values.
        fits: Fits, each with a seed of its own.
        candidates: Expressions with the lowest loss to train agents with; 0 to choose
            the one with the lowest loss. May be raised later.
        seed: Seed of the data; `configure` gives it to the search, too.

    Raises:
        ValueError: A value is out of range.
    """

    teacher: str
    evaluation: EvaluationConfig
    search: Settings = dataclasses.field(default_factory=Settings)
    backend: str = "operon"
    inputs: str = "correlated"
    normalization: Normalization = "tensor"
    templates: tuple[str, ...] = TEMPLATES
    loss: Loss = "value"
    fits: int = 3
    candidates: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        checks.one_of("backend", self.backend, BACKENDS)
        checks.one_of("inputs", self.inputs, INPUTS)
        checks.one_of("normalization", self.normalization, ("tensor", "joint"))
        checks.one_of("loss", self.loss, ("value", "slope"))
        for name in self.templates:
            checks.one_of("templates", name, TEMPLATES)
        if not self.templates:
            raise ValueError(f"templates=() is empty; give {' or '.join(TEMPLATES)}")
        checks.positive_int("fits", self.fits)
        if self.candidates != 0:
            checks.positive_int("candidates", self.candidates, "or give 0 for none")

    def runs(self) -> Mapping[str, Any]:
        """Return the configurations of the agents of visited inputs."""
        scoring = self.evaluation
        return {
            name: agents.preset(name, scoring.steps, **scoring.settings)
            for name in scoring.environments
        }


def configure(
    teacher: Teacher,
    evaluation: EvaluationConfig,
    search: Mapping[str, Any] | None = None,
    **fields: Any,
) -> SymbolicConfig:
    """Return the configuration for a teacher.

    Drifts have the published search of drifts, optimizers that of optimizers.

    Args:
        teacher: The rule.
        evaluation: How the best expressions are scored.
        search: Fields of `backends.Settings` that differ.
        **fields: Fields of `SymbolicConfig` that differ.

    Raises:
        ValueError: A value is out of range.

    Example:
        >>> from learned_opt_rl.training.distillation.teachers import teacher
        >>> scoring = EvaluationConfig(("Breakout-MinAtar",))
        >>> configure(teacher("discovered/dpo"), scoring).search.max_size
        40
    """
    base = _DRIFTS if teacher.drift is not None else {}
    if teacher.zero_mean:
        evaluation = dataclasses.replace(evaluation, zero_mean=True)
    settings = Settings(**{**base, "seed": fields.get("seed", 0), **(search or {})})
    return SymbolicConfig(teacher.name, evaluation, settings, **fields)
