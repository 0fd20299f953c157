"""The configuration of a distillation: everything that its numbers depend on."""

import dataclasses
import json
from collections.abc import Iterable, Mapping
from typing import Any, Literal, get_args, get_type_hints

import optax

from learned_opt_rl import checks, families
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.evaluation.report.normalization import published
from learned_opt_rl.rundir import settings
from learned_opt_rl.training import presets
from learned_opt_rl.training.distillation.teachers import Teacher, teacher
from learned_opt_rl.training.learned import Learned, distillable
from learned_opt_rl.training.lifetimes import AgentSettings, LifeConfig, agent_run

Inputs = Literal["correlated", "paper", "scaled", "visited", "runs"]
Select = Literal["error", "return"]

PRESETS = tuple(presets.table("distillation"))
"""Names of the presets; ``presets.json`` describes each."""

_MAX_NORM = 1.0  # of the gradient, which explodes when 100 steps are unrolled
_DEFAULTS = {"optimizer": "open:32", "drift": "lpo:128"}  # students of expressions
_LIVES = {
    **{"inputs": "visited", "horizon": None, "seeds": 32, "rounds": 2},
    **{"size": 32, "learning_rate": 2e-3},
}
"""Settings of LPG that differ from the defaults."""

_CONVENTIONS = [
    "target_width",
    "prediction",
    "policy_sign",
    "gamma_input",
    "lifetime_inputs",
]
"""What a target means and what a rule sees; both rules must have the same."""

_UNROLLED = ("sequence", "tensors", "size", "steps", "every")  # set by preset "short"
_COUNTS = (*_UNROLLED, "starts", "horizon", "seeds", "rounds", "refresh")


@dataclasses.dataclass(frozen=True)
class DistillationConfig:
    """The training of a distilled network (the student).

    Attributes:
        teacher: Name of the rule to imitate; see `teachers.teacher`. Specialists label
            the recorded runs in the environments of their training.
        algorithm: The student's: ``"open"``, ``"no_features"``, ``"lpo"`` or ``"lpg"``.
        architecture: The student's sizes.
        teacher_rate: Learning rate of an expression that takes one; ``None`` for the
            one on its card.
        inputs: Synthetic inputs ``"correlated"``, ``"scaled"`` or ``"paper"``, see
            `inputs`; or ``"visited"``: half of the tensors come from agents that the
            teacher trains, half are ``"correlated"``; or ``"runs"``: windows of whole
            runs of such agents, with the memory that the networks have there, see
            `windows`. LPG has ``"visited"`` inputs only: rollouts of whole lifetimes.
        sequence: Steps over which teacher and student are unrolled; in windows, those
            of truncated backpropagation.
        steps: Adam steps.
        starts: Number of initializations that are fitted one after another; the best
            one counts. Some end in a local minimum.
        tensors: Tensors per step, or rollouts of LPG agents. With runs, the windows in
            a step have about so many leaves together, and at least one window all of
            its own.
        size: Entries per tensor. A drift is matched on ``tensors * size`` points. Of
            each life of an LPG agent so many rollouts are kept.
        target_weight: Weight of D_KL(teacher's y_hat || student's) in the loss of LPG,
            in which the squared error of pi_hat over the teacher's mean square has 1.
        learning_rate: Adam's peak learning rate; a cosine anneals it to 0.
        b2: Adam's decay of squared gradients.
        every: Steps between two validations.
        select: Keep the student with the smallest ``"error"``, or with the highest
            ``"return"`` of agents that it trains.
        environments: Where agents are trained, for visited inputs, runs and returns.
        horizon: Environment steps of these agents; ``None`` for LPG agents that live as
            long as the environment's mode says.
        horizons: Environment steps of recorded runs; ``()`` for ``horizon``, which the
            runs have in any case that are held out, one per environment and round.
        seeds: Agents per environment and validation, always the same seeds; recorded
            runs per environment, length and round; lives of LPG agents per environment
            and round.
        rounds: How often visited inputs or runs are collected: first under the teacher,
            then, after equal shares of the steps, under the student.
        refresh: Steps between two computations of the carries before all windows.
        start: Where a student of recorded runs starts, see
            `training.learned.Learned.start`.
        agent: PPO settings that differ from `agents.preset`, or for LPG those of
            `training.lifetimes.AgentSettings`.
        seed: Seed of everything.

    Raises:
        ValueError: A value is out of range, or two values do not fit together.

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
    target_weight: float = 1.0
    learning_rate: float = 5e-3
    b2: float = 0.999
    every: int = 1000
    select: Select = "error"
    environments: tuple[str, ...] = ()
    horizon: int | None = 100_000
    horizons: tuple[int, ...] = ()
    seeds: int = 2
    rounds: int = 1
    refresh: int = 250
    start: str = "random"
    agent: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    seed: int = 0

    def __post_init__(self) -> None:
        lpg = self.algorithm == "lpg"
        for name in _COUNTS:
            if not (lpg and name == "horizon" and self.horizon is None):
                checks.positive_int(name, getattr(self, name))
        for length in self.horizons:
            checks.positive_int("horizons", length)
        for name in ("learning_rate", "teacher_rate"):
            if getattr(self, name) is not None:
                fix = "give for example 5e-3"
                checks.finite(name, getattr(self, name), fix, above=0)
        checks.finite("b2", self.b2, "give for example 0.95", least=0, below=1)
        fix = "give 0 to leave the targets out"
        checks.finite("target_weight", self.target_weight, fix, least=0)
        if self.rounds > self.steps:
            raise ValueError(f"rounds={self.rounds} must be at most steps={self.steps}")
        checks.one_of("algorithm", self.algorithm, distillable())
        self.learned  # noqa: B018
        checks.one_of("inputs", self.inputs, get_args(Inputs))
        checks.one_of("select", self.select, get_args(Select))
        if lpg and self.inputs != "visited":
            raise ValueError(
                f"inputs={self.inputs!r} are those of optimizers; an LPG is distilled "
                "on rollouts of lifetimes. Give inputs='visited'"
            )
        if lpg and self.sequence != 1:
            raise ValueError(
                f"sequence={self.sequence} has no effect on LPG, which reads whole "
                "rollouts; leave sequence out, or set agent.rollout"
            )
        self._check_runs()
        self.runs()
        self.normalizers()

    def _check_runs(self) -> None:
        agents_ = self.inputs in ("visited", "runs")
        shown = f"inputs={self.inputs!r}"
        if not self.environments and (agents_ or self.select == "return"):
            field = shown if agents_ else "select='return'"
            raise ValueError(
                f"{field} trains agents, but environments is empty; give for example "
                "--environments Breakout-MinAtar"
            )
        if agents_ and self.algorithm == "lpo":
            raise ValueError(
                f"{shown} requires an optimizer; a drift is matched on a grid "
                "of ratios and advantages. Leave inputs out"
            )
        if self.rounds > 1 and not agents_:
            raise ValueError(
                f"rounds={self.rounds} requires inputs='visited' or 'runs'; pass it as "
                "well"
            )
        if self.rounds > 1 < self.starts and self.select == "error":
            raise ValueError(
                f"starts={self.starts} with rounds={self.rounds} measure errors on "
                "different inputs, which are not comparable; give select='return', or "
                "one start"
            )
        recorded = self.inputs == "runs"
        for name in ("starts",) if recorded else ("horizons", "start"):
            if (value := getattr(self, name)) != getattr(type(self), name):
                raise ValueError(
                    f"{name}={value!r} has no effect with {shown}; leave {name} out, "
                    "or give other inputs"
                )
        if self.inputs == "visited" and self.tensors < 2:
            raise ValueError(
                f"tensors={self.tensors} must be at least 2 with inputs='visited'"
            )
        windows = 10 if recorded else 1  # the report has deciles
        part = f"sequence={self.sequence}"
        part = f"{windows} windows of {part}" if recorded else part
        lengths = (self.horizon, *self.horizons) if agents_ else ()
        for length in lengths if self.algorithm != "lpg" else ():
            for name, run in self.runs(length).items():
                if run.num_updates < self.sequence * windows:
                    raise ValueError(
                        f"horizon={length} is {run.num_updates} updates on {name}, "
                        f"fewer than {part}; raise the horizon"
                    )

    @property
    def learned(self) -> Learned:
        """The student."""
        return Learned(self.algorithm, self.architecture)

    def runs(self, length: int | None = None) -> dict[str, PPOConfig | LifeConfig]:
        """Return the configuration of the agents in each environment.

        A run has ``length`` environment steps, by default ``horizon``.
        """
        return {
            name: agent_run(self.learned, name, length or self.horizon, self.agent)
            for name in self.environments
        }

    def normalizers(self) -> dict[str, float]:
        """Return the divisor of each environment's returns.

        The divisors are published Adam's returns; a single environment without a
        published return has 1, as all have for LPG, whose agents live in levels.
        """
        known = published("adam")
        missing = [name for name in self.environments if name not in known]
        if missing and len(self.environments) > 1 and self.algorithm != "lpg":
            raise ValueError(
                f"environments={self.environments}: no return of {', '.join(missing)} "
                "is published to normalize by; give one such environment alone"
            )
        return {name: known.get(name, 1.0) for name in self.environments}

    def adam(self) -> optax.GradientTransformation:
        """Return the optimizer of the fit."""
        schedule = optax.cosine_decay_schedule(self.learning_rate, self.steps)
        return optax.chain(
            optax.clip_by_global_norm(_MAX_NORM), optax.adam(schedule, b2=self.b2)
        )

    def as_json(self) -> dict[str, Any]:
        """Return the fields as JSON has them."""
        return json.loads(json.dumps(dataclasses.asdict(self)))


def configure(
    preset: str = "same", **overrides: Any
) -> tuple[DistillationConfig, Teacher]:
    """Build the configuration of a distillation and its teacher.

    Args:
        preset: One of `PRESETS`.
        **overrides: Fields of `DistillationConfig`, with ``student`` instead of
            algorithm and architecture: ``"same"`` sizes as the teacher, ``"half"`` of
            its sizes, ``"open:32"`` (feed-forward, with this width), or all sizes as in
            ``"open:carry=16,width=32"``. ``"lpg:width=64"`` differs from its teacher in
            this width alone. The default is ``"same"``, and ``"open:32"``
            or ``"lpo:128"`` for an expression.

    Raises:
        ValueError: The preset, the teacher or the student does not exist, the student
            cannot imitate the teacher, or `DistillationConfig` refuses a value.

    Example:
        >>> configure("half", teacher="distilled/sign_mixture")[0].architecture
        {'carry': None, 'width': 16}
    """
    fields = {field.name for field in dataclasses.fields(DistillationConfig)}
    known = fields - {"algorithm", "architecture"} | {"student"}
    values = presets.settings("distillation", preset, overrides, known)
    name = values.pop("teacher", None)
    if name is None:
        raise ValueError(f"preset={preset!r} has no teacher; give for example minatar")
    student, rate = values.pop("student", "same"), values.get("teacher_rate")
    explicit = _explicit(student)
    try:
        found = teacher(name, learning_rate=rate, like=explicit)
    except ArtifactError as error:
        raise ValueError(f"teacher={name!r}: {error}") from error
    algorithm, sizes = explicit or _relative(student, found, "student" in overrides)
    if algorithm == "lpg" or found.kind == "update rule":
        sizes = _of_targets(student, found, algorithm, sizes)
        given = {"environments": found.environments, **_LIVES, **values}
        return DistillationConfig(name, algorithm, sizes, **given), found
    if (algorithm == "lpo") != (found.drift is not None):
        kind = "an optimizer" if found.drift is None else "a drift"
        raise ValueError(
            f"student={student!r} cannot imitate teacher={name!r}, which is {kind}; "
            "give lpo for a drift, open or no_features for an optimizer"
        )
    stateful = found.unrolled is not None and found.unrolled.stateful
    remembers = bool(sizes.get("carry")) or stateful
    if remembers and "sequence" not in values:
        short = presets.table("distillation")["short"]
        values = {k: short[k] for k in _UNROLLED} | values
    config = DistillationConfig(name, algorithm, sizes, **values)
    if remembers and config.sequence == 1:
        raise ValueError(
            "sequence=1 is too short for a recurrent teacher or student; give 20 or "
            "100 steps"
        )
    if found.specialists and config.inputs != "runs":
        raise ValueError(
            f"teacher={name!r}: specialists label recorded runs only; give "
            "inputs='runs', or one teacher"
        )
    for environment in config.environments:
        found.of(environment)
    seen = _features(found.algorithm, found.sizes)
    if config.inputs == "runs" and seen != _features(algorithm, sizes):
        raise ValueError(
            f"teacher={name!r} ({seen}) does not see the features that inputs='runs' "
            f"records for the student ({_features(algorithm, sizes)}); give a teacher "
            "and a student of one kind, open or no_features, or inputs='visited'"
        )
    return config, found


def parse_settings(texts: Iterable[str]) -> dict[str, Any]:
    """Return the values of fields from ``NAME=VALUE`` texts; see `settings.parse`."""
    # The teacher, which may be given otherwise, decides whose agents these are.
    hints = get_type_hints(PPOConfig) | get_type_hints(AgentSettings)
    agent = dataclasses.make_dataclass("Agent", hints.items())
    return settings.parse(texts, DistillationConfig, agent=agent)


def _of_targets(
    student: str, found: Teacher, algorithm: str, sizes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return all sizes of an LPG that imitates an LPG, or raise ValueError."""
    if algorithm != found.algorithm:
        raise ValueError(
            f"student={student!r} cannot imitate teacher={found.name!r}, whose kind is "
            f"{found.kind}; only an LPG can imitate an LPG"
        )
    own = dict(found.sizes or {})
    for field in _CONVENTIONS:
        if sizes.get(field, own[field]) != own[field]:
            raise ValueError(
                f"student={student!r}: {field}={sizes[field]}, but targets of "
                f"teacher={found.name!r} have {field}={own[field]}; leave {field} out "
                "of student"
            )
    return own | dict(sizes)


def _features(algorithm: str, sizes: Mapping[str, Any] | None) -> str:
    """Name the features of a rule; No Features has others with memory than without."""
    recurrent = algorithm == "no_features" and (sizes or {}).get("carry") is not None
    return f"recurrent {algorithm}" if recurrent else algorithm


def _explicit(student: str) -> tuple[str, dict[str, Any]] | None:
    """Return algorithm and sizes, or None if they follow from the teacher's."""
    algorithm, colon, text = student.partition(":")
    if not colon:
        checks.one_of("student", student, ("same", "half"))
        return None
    checks.one_of("student", algorithm, distillable())
    default = {} if algorithm in ("lpo", "lpg") else {"carry": None}
    architecture = families.find(algorithm).architecture
    texts = text.split(",") if "=" in text else [f"width={text}"]
    try:
        return algorithm, default | settings.parse(texts, architecture)
    except ValueError as error:
        raise ValueError(
            f"student={student!r} must have the form open:32 or open:carry=16,width=32"
            f"; the sizes of {algorithm} are {', '.join(get_type_hints(architecture))} "
            f"({str(error).removeprefix('--set ')})"
        ) from error


def _relative(student: str, found: Teacher, asked: bool) -> tuple[str, dict[str, Any]]:
    if found.sizes is None:
        default = _DEFAULTS["optimizer" if found.drift is None else "drift"]
        if asked:
            raise ValueError(
                f"student={student!r}, but teacher={found.name!r} is an expression "
                f"without sizes; give the student's sizes, for example {default}"
            )
        return _explicit(default) or ("", {})
    halved = ("carry", "width", "embedding") if student == "half" else ()
    return found.algorithm, {
        name: max(value // 2, 1) if name in halved and value is not None else value
        for name, value in found.sizes.items()
    }
