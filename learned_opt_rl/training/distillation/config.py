"""What a distillation is: everything its numbers depend on, and nothing else."""

from __future__ import annotations

import dataclasses
import functools
import importlib.resources
import json
import math
from collections.abc import Mapping
from typing import Any, Literal

from learned_opt_rl import agents
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.evaluation.report.normalization import published
from learned_opt_rl.training.distillation.inputs import SYNTHETIC
from learned_opt_rl.training.distillation.teachers import Teacher, distillable, teacher
from learned_opt_rl.training.evolution.learned import Learned

Inputs = Literal["correlated", "paper", "scaled", "visited"]
Select = Literal["error", "return"]
_DEFAULTS = {"optimizer": "open:32", "drift": "lpo:128"}
_UNROLLED = ("sequence", "tensors", "size", "steps", "every")
_COUNTS = (
    "sequence",
    "steps",
    "starts",
    "tensors",
    "size",
    "every",
    "horizon",
    "seeds",
    "rounds",
)


@dataclasses.dataclass(frozen=True)
class DistillationConfig:
    """A student's training.

    Attributes:
        teacher: See `teachers.teacher`.
        algorithm: The student's: ``"open"``, ``"no_features"`` or ``"lpo"``.
        architecture: Its sizes.
        teacher_rate: Learning rate of a closed form that has one; ``None`` for its
            card's.
        inputs: Made up as ``"correlated"``, ``"scaled"`` or ``"paper"``, see `inputs`;
            or ``"visited"``: half of the tensors are from agents that are trained by
            the teacher, half ``"correlated"``.
        sequence: Steps that teacher and student are unrolled over.
        steps: Adam steps.
        starts: Students that are fitted one after another, each from a draw of its
            own; the best of all counts. Some end in a local minimum.
        tensors: Tensors per step.
        size: Entries per tensor. A drift is matched on ``tensors * size`` points.
        learning_rate: Adam's peak learning rate, annealed to 0 by a cosine.
        b2: Adam's decay of squared gradients.
        every: Steps between two validations.
        select: The student with the least ``"error"`` counts, or that with the best
            ``"return"`` of agents trained by it.
        environments: Where agents are trained, for visited inputs and returns.
        horizon: Their environment steps.
        seeds: Agents per environment and validation; always the same seeds.
        rounds: How often visited inputs are gathered: first under the teacher, then,
            after equal shares of the steps, under the student.
        agent: Settings of PPO that differ from `agents.preset`.
        seed: Of everything.

    Raises:
        ValueError: A value is out of range, or two do not fit together.

    Example:
        >>> config = DistillationConfig("minatar", "open", {"carry": None, "width": 16})
        >>> config.learned.size
        707
    """

    teacher: str
    algorithm: str
    architecture: Mapping[str, Any]
    teacher_rate: float | None = None
    inputs: Inputs = "correlated"
    sequence: int = 1
    steps: int = 8000
    starts: int = 1
    tensors: int = 16
    size: int = 128
    learning_rate: float = 5e-3
    b2: float = 0.999
    every: int = 1000
    select: Select = "error"
    environments: tuple[str, ...] = ()
    horizon: int = 100_000
    seeds: int = 2
    rounds: int = 1
    agent: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        """Checks the values."""
        for name in _COUNTS:
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r} must be a positive whole number")
        for name in ("learning_rate", "teacher_rate"):
            value = getattr(self, name)
            if value is not None and not 0 < value < math.inf:
                raise ValueError(f"{name}={value!r} must be positive and finite")
        if not 0 <= self.b2 < 1:
            raise ValueError(f"b2={self.b2!r} must be in [0, 1)")
        if self.rounds > self.steps:
            raise ValueError(f"rounds={self.rounds} are more than steps={self.steps}")
        _one_of("algorithm", self.algorithm, distillable())
        self.learned  # noqa: B018
        _one_of("inputs", self.inputs, (*SYNTHETIC, "visited"))
        _one_of("select", self.select, ("error", "return"))
        self._check_runs()
        self.runs()
        self.normalisers()

    def _check_runs(self) -> None:
        visited = self.inputs == "visited"
        if not self.environments and (visited or self.select == "return"):
            field = "inputs='visited'" if visited else "select='return'"
            raise ValueError(
                f"{field} trains agents, but there are no environments; give some, as "
                "--environments Breakout-MinAtar"
            )
        if visited and self.algorithm == "lpo":
            raise ValueError(
                "inputs='visited' is for optimisers; a drift is matched on a grid of "
                "ratios and advantages, leave inputs out"
            )
        if self.rounds > 1 and not visited:
            raise ValueError(
                f"rounds={self.rounds} gather visited inputs; give inputs='visited'"
            )
        if self.rounds > 1 < self.starts and self.select == "error":
            raise ValueError(
                f"starts={self.starts} with rounds={self.rounds} have errors on inputs "
                "of their own, which do not compare; give select='return', or one start"
            )
        if visited and self.tensors < 2:
            raise ValueError(
                f"tensors={self.tensors} cannot be half visited; give at least 2"
            )
        for name, run in self.runs().items() if visited else ():
            if run.num_updates < self.sequence:
                raise ValueError(
                    f"horizon={self.horizon} is {run.num_updates} updates on {name}, "
                    f"less than sequence={self.sequence}; raise it"
                )

    @property
    def learned(self) -> Learned:
        """The student."""
        return Learned(self.algorithm, self.architecture)

    def runs(self) -> dict[str, PPOConfig]:
        """How an agent is trained in each environment."""
        return {
            name: agents.preset(name, self.horizon, **self.agent)
            for name in self.environments
        }

    def normalisers(self) -> dict[str, float]:
        """What returns are divided by: published Adam's, or 1 of a single game."""
        known = published("adam")
        missing = [name for name in self.environments if name not in known]
        if not missing:
            return {name: known[name] for name in self.environments}
        if len(self.environments) > 1:
            raise ValueError(
                f"environments={self.environments}: there is no published return to "
                f"normalise {', '.join(missing)} by; give it alone, or others"
            )
        return dict.fromkeys(self.environments, 1.0)

    def as_json(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def _one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ValueError(f"{name}={value!r} must be one of {', '.join(choices)}")


@functools.cache
def _presets() -> dict[str, dict[str, Any]]:
    file = importlib.resources.files("learned_opt_rl.training.distillation")
    return json.loads((file / "presets.json").read_text(encoding="utf-8"))["presets"]


PRESETS = tuple(_presets())
"""Names of settings; ``presets.json`` says what each is."""


def configure(
    preset: str = "same", **overrides: Any
) -> tuple[DistillationConfig, Teacher]:
    """A distillation, its student described by ``student``.

    Args:
        preset: One of `PRESETS`.
        **overrides: Fields of `DistillationConfig` that differ, and ``student``
            instead of algorithm and architecture: ``"same"`` as the teacher,
            ``"half"`` of its sizes, ``"open:32"`` (feed-forward, the width), or with
            all sizes as ``"open:carry=16,width=32"``; by default the same, and of a
            closed form ``"open:32"`` or ``"lpo:128"``.

    Returns:
        The configuration and its teacher.

    Raises:
        ValueError: There is no such preset, teacher or student, or one does not fit
            the other; or as `DistillationConfig`.

    Example:
        >>> configure("half", teacher="minatar")[0].architecture
        {'carry': None, 'width': 16}
    """
    _one_of("preset", preset, PRESETS)
    fields = {field.name for field in dataclasses.fields(DistillationConfig)}
    allowed = sorted(fields - {"algorithm", "architecture"} | {"student"})
    for field, value in overrides.items():
        if field not in allowed:
            raise ValueError(
                f"{field}={value!r} is no setting of a distillation; choose of "
                f"{', '.join(allowed)}"
            )
    values = {k: v for k, v in _presets()[preset].items() if k != "source"} | overrides
    name = values.pop("teacher", None)
    if name is None:
        raise ValueError(f"preset={preset!r} has no teacher; give one, as minatar")
    student, rate = values.pop("student", "same"), values.get("teacher_rate")
    explicit = _explicit(student)
    try:
        found = teacher(name, learning_rate=rate, like=explicit)
    except ArtifactError as error:
        raise ValueError(f"teacher={name!r}: {error}") from error
    algorithm, sizes = explicit or _relative(student, found, "student" in overrides)
    if (algorithm == "lpo") != (found.drift is not None):
        what = "an optimiser" if found.drift is None else "a drift"
        raise ValueError(
            f"student={student!r} cannot imitate teacher={name!r}, which is {what}; "
            "give lpo for a drift, open or no_features for an optimiser"
        )
    remembers = bool(sizes.get("carry")) or bool(
        found.unrolled and found.unrolled.stateful
    )
    if remembers and "sequence" not in values:
        values = {k: _presets()["short"][k] for k in _UNROLLED} | values
    config = DistillationConfig(name, algorithm, sizes, **values)
    if remembers and config.sequence == 1:
        raise ValueError(
            "sequence=1, but teacher or student remember; give 20 or 100 steps"
        )
    return config, found


def _explicit(student: str) -> tuple[str, dict[str, Any]] | None:
    """Algorithm and sizes, unless they follow from the teacher's."""
    algorithm, colon, text = student.partition(":")
    if not colon:
        _one_of("student", student, ("same", "half"))
        return None
    _one_of("student", algorithm, distillable())
    sizes = {} if algorithm == "lpo" else {"carry": None}
    try:
        if "=" not in text:
            return algorithm, {**sizes, "width": int(text)}
        for part in text.split(","):
            key, _, value = part.partition("=")
            sizes[key] = None if value == "none" else json.loads(value)
    except ValueError as error:
        raise ValueError(
            f"student={student!r} must be as open:32 or open:carry=16,width=32"
        ) from error
    return algorithm, sizes


def _relative(student: str, found: Teacher, asked: bool) -> tuple[str, dict[str, Any]]:
    if found.sizes is None:
        default = _DEFAULTS["optimizer" if found.drift is None else "drift"]
        if asked:
            raise ValueError(
                f"student={student!r}, but teacher={found.name!r} is a closed form and "
                f"has no sizes; give the student's, as {default}"
            )
        algorithm, sizes = _explicit(default) or ("", {})
        return algorithm, sizes
    sizes = dict(found.sizes)
    if student == "half":
        for name in ("carry", "width"):
            if sizes.get(name) is not None:
                sizes[name] = max(sizes[name] // 2, 1)
    return found.algorithm, sizes
