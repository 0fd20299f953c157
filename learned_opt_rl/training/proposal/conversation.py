"""One conversation that proposes algorithms, each scored before the next.

The folder holds ``config.json``, the events and the ledger (`journal`), and
``best.txt``, the best proposal as an expression.

References:
    Goldie et al., "How Should We Meta-Learn Reinforcement Learning Algorithms?", 2025,
    supplement D. Lu et al., "Discovering Preference Optimization Algorithms with and
    for Large Language Models", 2024 (DiscoPOP).
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Mapping
from typing import Any, TextIO

from learned_opt_rl import checks
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.rundir.progress import Progress
from learned_opt_rl.training.proposal import evaluation, prompts
from learned_opt_rl.training.proposal.evaluation import (
    Candidate,
    EvaluationConfig,
    MakeCandidate,
)
from learned_opt_rl.training.proposal.journal import Limits
from learned_opt_rl.training.proposal.prompts import Scored, Target
from learned_opt_rl.training.proposal.providers import Message, Provider
from learned_opt_rl.training.proposal.reply import (
    RefusedReplyError,
    clean_name,
    read_code,
    read_object,
    shown,
)
from learned_opt_rl.training.proposal.session import Session, opened
from learned_opt_rl.training.proposal.worker import WorkerError

METHOD = "proposal"
BEST_TEXT = "best.txt"
FIELDS = ("thought", "name", "code")
"""The texts of a reply."""


@dataclasses.dataclass(frozen=True)
class ConversationConfig:
    """A conversation.

    Attributes:
        target: What is looked for: ``"drift"``, ``"no_features"`` or ``"open"``.
        evaluation: How proposals are scored.
        generations: Proposals, valid or not; may be raised later.
        temperature: Of the model; None where it takes none.
        history: Latest proposals that a prompt shows besides the first request; None
            for all. Without a bound, prompts grow with every generation.

    Raises:
        ValueError: A value is out of range.
    """

    target: Target
    evaluation: EvaluationConfig
    generations: int = 30
    temperature: float | None = None
    history: int | None = None

    def __post_init__(self) -> None:
        if self.target not in prompts.TARGETS:
            known = ", ".join(prompts.TARGETS)
            raise ValueError(f"target={self.target!r} must be one of {known}")
        checks.positive_int("generations", self.generations)
        if self.history is not None:
            checks.positive_int("history", self.history, "give None for all")
        if self.temperature is not None:
            fix = "give 0 to 2"
            checks.finite("temperature", self.temperature, fix, least=0, most=2)

    def as_json(self) -> dict[str, Any]:
        """Return the configuration as JSON has it."""
        return json.loads(json.dumps(dataclasses.asdict(self)))

    @property
    def kind(self) -> str:
        """The kind of the expressions."""
        return "drift" if self.target == "drift" else "optimizer"


class Conversation:
    """A conversation in a folder; `run` starts or resumes it.

    Args:
        config: The configuration.
        folder: Its folder; created if it does not exist.
        provider: Who answers; None to only recall what is recorded.
        limits: Bounds on its costs.
        candidate: Makes what checks and trains a formula; tests replace it.
        stream: Receives the progress; standard error by default.
    """

    def __init__(
        self,
        config: ConversationConfig,
        folder: pathlib.Path,
        provider: Provider | None,
        limits: Limits | None = None,
        candidate: MakeCandidate = Candidate,
        stream: TextIO | None = None,
    ) -> None:
        self.config, self.path, self._provider = config, folder, provider
        self._limits, self._candidate = limits or Limits(), candidate
        self._stream = stream
        self.messages: list[Message] = []
        """The whole conversation, after `run`."""

    def run(self) -> Record:
        """Make the missing proposals; return the outcome of the best.

        Raises:
            ProviderError: There is no reply. Repeat the command to continue.
            LimitReachedError: A limit is reached. Raise it and repeat the command.
            ValueError: The folder holds another run.
            FolderInUseError: Another process uses the folder.
        """
        config = self.config.as_json()
        where = self.path, METHOD, config, self._provider, self._limits
        with opened(*where) as session:
            scored = [session.remember("warm", lambda: self._warm_start(session))]
            self._begin(scored[0])
            total = self.config.generations
            with Progress("proposal", total, self._stream) as progress:
                for done in range(1, total + 1):
                    outcome = self._turn(session, scored)
                    if outcome["fitness"] is not None:
                        scored.append(outcome)
                    text = best_of(scored)["text"]
                    write_atomically(self.path / BEST_TEXT, text.encode())
                    progress.show(done, _shown(outcome, best_of(scored)))
        return best_of(scored)

    def _begin(self, warm: Record) -> None:
        request = prompts.first([Scored(warm["code"], warm["fitness"])])
        self.messages = [
            Message(role="system", content=prompts.system(self.config.target)),
            Message(role="user", content=request),
        ]

    def _turn(self, session: Session, scored: list[Record]) -> Record:
        """Ask for a proposal and judge it."""
        history, turns = self.config.history, self.messages[2:]
        latest = turns if history is None else turns[-2 * history :]
        messages = [*self.messages[:2], *latest]
        reply = session.ask(messages, self.config.temperature)
        outcome = session.remember(
            "outcome", lambda: self._outcome(session, reply, scored)
        )
        self.messages += [
            Message(role="assistant", content=shown(reply["text"])),
            Message(role="user", content=outcome["feedback"]),
        ]
        return outcome

    def _warm_start(self, session: Session) -> Mapping[str, Any]:
        session.journal.check_limits()
        start = prompts.warm_start(self.config.target)
        function = read_code(start.code, self.config.kind)
        with self._made(session, function.to_text()) as candidate:
            found = evaluation.evaluate(candidate, self.config.evaluation)
        references = self.config.evaluation.references(found)
        return {
            "name": start.name,
            "code": start.code,
            "text": function.to_text(),
            "scores": found.scores,
            "references": references,
            "fitness": evaluation.fitness(found, references),
        }

    def _made(self, session: Session, text: str) -> Candidate:
        return self._candidate(self.config.evaluation, session.journal.spend, text=text)

    def _outcome(
        self, session: Session, reply: Record, scored: list[Record]
    ) -> Mapping[str, Any]:
        """Judge a reply: refuse it, or score it."""
        made: Record = {"name": None, "thought": None, "code": None, "text": None}
        made |= {"category": "scored", "fitness": None, "scores": None}
        try:
            found = read_object(reply["text"], FIELDS, cut=reply["cut"])
            made |= found | {"name": clean_name(found["name"])}
            made["text"] = read_code(found["code"], self.config.kind).to_text()
            made |= self._score(session, made["text"], scored)
        except RefusedReplyError as error:
            feedback = prompts.invalid(str(error))
            made |= {"category": error.category, "feedback": feedback}
        except WorkerError as error:
            feedback = prompts.failed(str(error))
            made |= {"category": "training_failed", "feedback": feedback}
        return made

    def _score(
        self, session: Session, text: str, scored: list[Record]
    ) -> Mapping[str, Any]:
        for one in scored:
            if one["text"] == text:
                raise RefusedReplyError(
                    "duplicate",
                    f"it computes the same as {one['name']}, whose fitness is "
                    f"{one['fitness']:.6g}",
                )
        session.journal.check_limits()
        with self._made(session, text) as candidate:
            found = evaluation.evaluate(candidate, self.config.evaluation)
        value = evaluation.fitness(found, scored[0]["references"])
        if not math.isfinite(value):
            raise WorkerError("its fitness is not finite")
        feedback = prompts.fitness(value, evaluation.described(found))
        return {"fitness": value, "scores": found.scores, "feedback": feedback}


def best_of(scored: list[Record]) -> Record:
    """Return the event with the highest fitness, the earliest of equals."""
    return max(scored, key=lambda event: event["fitness"])


def _shown(outcome: Record, best: Record) -> str:
    value = outcome["fitness"]
    text = outcome["category"] if value is None else f"fitness {value:.4g}"
    return f"{text}  best {best['fitness']:.4g} {best['name']}"
