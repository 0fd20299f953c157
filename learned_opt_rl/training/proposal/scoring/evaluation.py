"""The evaluation of proposals: checks, training in every environment, and fitness."""

import dataclasses
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Self

import numpy as np

from learned_opt_rl import agents, checks, envs
from learned_opt_rl.artifacts import registry
from learned_opt_rl.errors import UnknownArtifactError
from learned_opt_rl.evaluation.report.normalization import published
from learned_opt_rl.evaluation.runs.rules import artifact_name, is_handcrafted, parts
from learned_opt_rl.training.proposal.reply import RefusedReplyError
from learned_opt_rl.training.proposal.scoring.worker import (
    DivergedError,
    Worker,
    WorkerError,
)

Spend = Callable[..., None]
"""``(stage, seconds, **costs)``, as `Journal.spend`."""


class Evaluation(NamedTuple):
    """The results of a proposal.

    Attributes:
        scores: By environment: ``returns`` and ``auc`` of the seeds, the mean ``curve``
            at eight times, and ``steps``.
        warnings: What the checks noticed.
    """

    scores: Mapping[str, Mapping[str, Any]]
    warnings: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How proposals are evaluated.

    Attributes:
        environments: Where agents are trained.
        steps: Environment steps of each run.
        seeds: Agents in each environment, trained together.
        first_seed: The first seed.
        strict: Whether a drift must satisfy the conditions of mirror learning.
        check_seconds: Limit of the checks, with their compilation.
        train_seconds: Limit of the training in one environment.
        memory: Bytes of address space of the worker; None for no limit. The limit
            applies on a CPU only, because a GPU maps more than it uses.
        settings: Fields of the agent that differ from `agents.preset`.
        rates: The rule of `tuned` whose learning rate is the input ``lr``.
        zero_mean: Whether optimizers subtract the mean of their updates.

    Raises:
        ValueError: An environment is unknown, or a number is not positive.
    """

    environments: tuple[str, ...]
    steps: float = 1e6
    seeds: int = 8
    first_seed: int = 0
    strict: bool = True
    check_seconds: float = 90.0
    train_seconds: float = 7200.0
    memory: int | None = 32 << 30
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    rates: str = "sgd"
    zero_mean: bool = False

    def __post_init__(self) -> None:
        if not self.environments:
            raise ValueError("environments=() is empty; give one or more names")
        checks.positive_int("seeds", self.seeds)
        for name in ("check_seconds", "train_seconds"):
            checks.finite(name, getattr(self, name), "give seconds", above=0)
        if self.memory is not None:
            checks.positive_int("memory", self.memory, "give bytes, or None")
        for name in self.environments:
            envs.make(name)
            agents.preset(name, self.steps, **self.settings)

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "EvaluationConfig":
        """Build a configuration from the fields in a ``config.json``."""
        return cls(**{**fields, "environments": tuple(fields["environments"])})

    @property
    def next_seed(self) -> int:
        """The first seed that these expressions are not trained with."""
        return self.first_seed + self.seeds

    @property
    def limits(self) -> str:
        """The limits of each expression, as error messages name them."""
        memory = f", memory={self.memory / 2**30:g} GiB" if self.memory else ""
        return (
            f"check_seconds={self.check_seconds:g}, "
            f"train_seconds={self.train_seconds:g}{memory}"
        )

    def references(self, start: Evaluation) -> dict[str, float]:
        """Return what returns are divided by: published Adam, else the warm start.

        An environment whose reference is not positive is not normalized.
        """
        known, own = published("adam"), mean_returns(start)
        found = {name: known.get(name, own[name]) for name in self.environments}
        return {name: value if value > 0 else 1.0 for name, value in found.items()}


def mean_returns(one: Evaluation) -> dict[str, float]:
    """Return the mean final return of the seeds by environment."""
    return {name: float(np.mean(s["returns"])) for name, s in one.scores.items()}


def fitness(one: Evaluation, references: Mapping[str, float]) -> float:
    """Return the mean over environments of the normalized mean final return."""
    means = mean_returns(one)
    return float(np.mean([means[name] / references[name] for name in means]))


def by_seed(one: Evaluation, references: Mapping[str, float]) -> list[float]:
    """Return the fitness of each seed, in order; their mean is `fitness`."""
    scaled = [
        np.divide(found["returns"], references[name])
        for name, found in one.scores.items()
    ]
    return np.mean(scaled, axis=0).tolist()


def described(one: Evaluation) -> str:
    """Return the results as text for a model, an environment a line, and warnings."""
    lines = [
        line(name, np.mean(found["returns"]), np.mean(found["auc"]), found["curve"])
        for name, found in one.scores.items()
    ]
    return "\n".join([*lines, *(f"Warning: {text}" for text in one.warnings)])


def line(environment: str, final: Any, area: Any, curve: Sequence[Any]) -> str:
    """Return the results in an environment as text; None is a number that is not."""
    shown = ["none" if x is None else f"{x:.4g}" for x in (final, area)]
    points = ", ".join("none" if x is None else f"{x:.3g}" for x in curve)
    return (
        f"{environment}: final return {shown[0]}, area under the curve {shown[1]}, "
        f"learning curve {points}"
    )


def check_ranked(rules: Sequence[str]) -> None:
    """Raise ValueError unless the process of a training finds the rules by name.

    That process has another current folder, so paths and modules are not found.
    """
    for rule in rules:
        for part in filter(None, parts(rule)):
            if is_handcrafted(part) or part.startswith("optax."):
                continue
            try:
                registry.find(artifact_name(part))
            except UnknownArtifactError as error:
                raise ValueError(
                    f"ranked={rule!r} must be a handcrafted optimizer, optax.NAME:RATE "
                    f"or an installed artifact; {error}"
                ) from error


class Candidate:
    """An expression or a rule under evaluation, in a process of its own.

    The process starts with the first question.

    Args:
        config: Limits, seeds and settings.
        spend: Receives the cost of each stage.
        text: The expression; None for a rule.
        rule: The name of a rule, as `compare` takes it.
    """

    def __init__(
        self,
        config: EvaluationConfig,
        spend: Spend,
        *,
        text: str | None = None,
        rule: str | None = None,
    ) -> None:
        self._config, self._spend = config, spend
        self._given = {"text": text, "rule": rule}
        self._worker: Worker | None = None

    def check(self) -> dict[str, Any]:
        """Return the fields of `checks.Checked`.

        Raises:
            RefusedReplyError: The checks refuse the expression, or cannot be done.
        """
        strict = {"do": "check", "strict": self._config.strict}
        try:
            found = self._ask(strict, self._config.check_seconds, "check")
        except WorkerError as error:
            problem = f"checking it failed: {error}"
            raise RefusedReplyError("check_failed", problem) from error
        if found["problem"]:
            raise RefusedReplyError(found["category"], found["problem"])
        return found

    def train(self, environment: str, steps: float | None = None) -> dict[str, Any]:
        """Return the scores in an environment, with the fields that `Evaluation` has.

        The argument ``steps`` is in environment steps of each agent (default: of the
        configuration), the field in those of all agents.

        Raises:
            DivergedError: An agent has no finite return.
            WorkerError: Training failed, took too long or too much memory.
        """
        config = self._config
        request = {
            "do": "train",
            "environment": environment,
            "steps": steps or config.steps,
            "seeds": list(range(config.first_seed, config.next_seed)),
            "settings": dict(config.settings),
            "rates": config.rates,
            "zero_mean": config.zero_mean,
        }
        # The steps of a training that gives no answer are not known: count them all.
        most = config.seeds * int(request["steps"])
        stage = "train" if steps is None else "screen"
        found = self._ask(request, config.train_seconds, stage, steps=most)
        if None in found["returns"]:
            raise DivergedError(f"an agent diverged in {environment}")
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        if self._worker is not None:
            self._worker.close()

    def _ask(
        self, request: dict[str, Any], seconds: float, stage: str, **most: int
    ) -> dict[str, Any]:
        """Ask the process. Record the cost even if it gives no answer."""
        started = time.perf_counter()
        answer: dict[str, Any] = {}
        try:
            answer = self._answer({**self._given, **request}, seconds)
        finally:
            costs = {name: answer.get(name, bound) for name, bound in most.items()}
            costs |= {n: request[n] for n in ("environment",) if n in request}
            self._spend(stage, time.perf_counter() - started, **costs)
        return answer

    def _answer(self, request: dict[str, Any], seconds: float) -> dict[str, Any]:
        if self._worker is None:
            self._worker = Worker(self._config.memory)
        return self._worker.ask(request, seconds)


MakeCandidate = Callable[..., Candidate]
"""What makes a `Candidate`, with its arguments."""
