"""The configuration of a symbolic distillation: every setting that changes it."""

import dataclasses
from collections.abc import Mapping
from typing import Any, Literal, get_args

from learned_opt_rl import agents, checks
from learned_opt_rl.training.distillation.inputs import SYNTHETIC
from learned_opt_rl.training.distillation.teachers import Teacher
from learned_opt_rl.training.proposal.scoring.evaluation import EvaluationConfig
from learned_opt_rl.training.symbolic.backends import Settings, backend
from learned_opt_rl.training.symbolic.templates import TEMPLATES

INPUTS = (*SYNTHETIC, "visited")
Loss = Literal["value", "slope"]
Normalization = Literal["tensor", "joint"]

_DRIFTS: dict[str, Any] = {
    **{"unary": ("square", "neg", "tanh", "abs"), "max_size": 40, "max_depth": 8},
    "populations": 31,
}
"""The published search of drifts; `Settings` defaults to that of optimizers."""


@dataclasses.dataclass(frozen=True)
class SymbolicConfig:
    """A symbolic distillation; `configure` fills in what depends on the teacher.

    Attributes:
        teacher: Name of the rule, as `distillation.teachers.teacher` takes it.
        evaluation: How the best expressions are scored.
        search: What is searched; its seed is the first fit's.
        backend: ``"operon"``, ``"pysr"``, or the path of a ``hall_of_fame.csv``.
        inputs: Tensors of an optimizer: ``"correlated"``, ``"scaled"`` or ``"paper"``,
            see `distillation.inputs`; or ``"visited"``, those recorded while the
            teacher trains agents.
        normalization: ``"tensor"`` divides every column by its rms in each tensor, as
            the optimizer does. ``"joint"`` divides all columns by one number, as the
            released script does.
        templates: Forms of drifts, each with ``fits`` fits.
        loss: ``"value"``, or ``"slope"`` for a drift's derivative by the ratio.
            Tuning and selection use it; backends always fit values.
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
    templates: tuple[str, ...] = tuple(TEMPLATES)
    loss: Loss = "value"
    fits: int = 3
    candidates: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        backend(self.backend)
        checks.one_of("inputs", self.inputs, INPUTS)
        checks.one_of("normalization", self.normalization, get_args(Normalization))
        checks.one_of("loss", self.loss, get_args(Loss))
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

    The default search depends on the kind of the teacher.

    Args:
        teacher: The rule.
        evaluation: How the best expressions are scored.
        search: Fields of `backends.Settings` that differ.
        **fields: Fields of `SymbolicConfig` that differ.

    Raises:
        ValueError: A value is out of range, or has no effect with this teacher.

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
    config = SymbolicConfig(teacher.name, evaluation, settings, **fields)
    _refuse_idle(teacher, fields)
    return config


_OPTIMIZERS, _OF_DRIFTS = ("inputs", "normalization"), ("templates", "loss")
"""Settings of one kind of teacher only."""


def _refuse_idle(teacher: Teacher, fields: Mapping[str, Any]) -> None:
    """Raise ValueError for a setting that this teacher does not use."""
    kind, idle = teacher.kind, _OF_DRIFTS
    if teacher.drift is not None:
        idle = _OPTIMIZERS
    elif teacher.algorithm == "expression":
        idle = ("normalization", *_OF_DRIFTS)
    defaults = {f.name: f.default for f in dataclasses.fields(SymbolicConfig)}
    for name in idle:
        if name in fields and fields[name] != defaults[name]:
            raise ValueError(
                f"{name}={fields[name]!r} has no effect on the {kind} "
                f"{teacher.name!r}; leave it out"
            )
