"""The configuration of a symbolic distillation, and the forms that it searches."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple, get_args

import numpy as np

from learned_opt_rl import agents, checks, expressions
from learned_opt_rl.expressions import Function
from learned_opt_rl.training.distillation.inputs import SYNTHETIC
from learned_opt_rl.training.distillation.teachers import Teacher
from learned_opt_rl.training.proposal.scoring.evaluation import EvaluationConfig
from learned_opt_rl.training.symbolic.backends import Settings, backend

# Where a drift is 0, any negative h gives it; these rows count less than the others.
_OFF, _OFF_WEIGHT = -0.5, 0.1
# softplus is never 0; this is its h for a drift of 0.001 (r - 1)^2.
_LOWEST, _LOWEST_WEIGHT = -6.9, 0.01


class Template(NamedTuple):
    """A form of drifts; ``h`` is the expression that is searched."""

    text: str  # over r and {h}
    # (drift, r - 1) -> values of h for it, and weights of their squared errors
    inverse: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _relu(drift: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    on = (drift > 0) & (u != 0)
    h = np.where(on, drift / np.where(on, u, 1) ** 2, _OFF)
    return h, _weights(u**2, on, _OFF_WEIGHT)


def _softplus(drift: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    on = (drift > np.logaddexp(_LOWEST, 0) * u**2) & (u != 0)
    value = np.where(on, drift / np.where(on, u, 1) ** 2, 1.0)
    h = np.where(on, value + np.log(-np.expm1(-value)), _LOWEST)
    return h, _weights(u**2 / (1 + np.exp(-h)), on, _LOWEST_WEIGHT)


def _weights(slope: np.ndarray, on: np.ndarray, off: float) -> np.ndarray:
    """Weigh errors of h as those of the drift, whose derivative is ``slope``.

    At ratio 1, where the slope is 0, every h gives the drift.
    """
    moved = slope**2 * on
    return moved / max(moved.mean(), 1e-12) + off * (~on & (slope > 0))


TEMPLATES = {
    "relu": Template("(r - 1)**2 * relu({h})", _relu),
    "softplus": Template("(r - 1)**2 * softplus({h})", _softplus),
    "free": Template("relu({h})", lambda drift, u: (drift, np.ones_like(u))),
}
"""Forms of drifts. The first two are never negative, and 0 and flat at ratio 1 where h
and its slope are finite; the last need not be flat there."""


def filled(function: Function, template: str | None) -> Function:
    r"""Return a template with an expression as its ``h``.

    Without a template, return the expression unchanged.

    Example:
        >>> h = expressions.parse("drift\ninputs A, log_r\nreturn A - log_r")
        >>> print(filled(h, "relu").to_text(), end="")
        drift
        inputs r, A, log_r
        return (r - 1)**2 * relu(A - log_r)
    """
    if template is None:
        return function
    head, _, result = function.to_text().rpartition("return ")
    lines = head.splitlines()
    if "r" not in function.inputs and template != "free":
        read = [name for name in ("r", "A", "log_r") if name in {"r", *function.inputs}]
        lines[1 : 1 + bool(function.inputs)] = [f"inputs {', '.join(read)}"]
    whole = TEMPLATES[template].text.format(h=result.strip())
    return expressions.parse("\n".join([*lines, f"return {whole}", ""]))


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
