"""One conversation that proposes algorithms, each scored before the next.

The folder holds ``config.json``, the events and the ledger (`journal`), and
``best.txt``, the best proposal as an expression.

References:
    Goldie et al., "How Should We Meta-Learn Reinforcement Learning Algorithms?", 2025,
    supplement D. Lu et al., "Discovering Preference Optimization Algorithms with and
    for Large Language Models", 2024 (DiscoPOP).
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

from learned_opt_rl import checks
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.rundir.progress import Progress
from learned_opt_rl.training.proposal import prompts
from learned_opt_rl.training.proposal.journal import Session, usable
from learned_opt_rl.training.proposal.prompts import Scored, Target
from learned_opt_rl.training.proposal.providers import Message
from learned_opt_rl.training.proposal.reply import (
    RefusedReplyError,
    clean_name,
    read_code,
    shown,
)
from learned_opt_rl.training.proposal.scoring import evaluation
from learned_opt_rl.training.proposal.scoring.evaluation import EvaluationConfig
from learned_opt_rl.training.proposal.scoring.worker import WorkerError
from learned_opt_rl.training.proposal.search import Scorer, Search

METHOD = "proposal"
BEST_TEXT = "best.txt"
FIELDS = ("thought", "name", "code")
"""The texts of a reply."""


@dataclasses.dataclass(frozen=True)
class ConversationConfig:
    """A conversation.

    Attributes:
        target: What is looked for, one of `prompts.TARGETS`.
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

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "ConversationConfig":
        """Build a configuration from the fields in a ``config.json``."""
        evaluation = EvaluationConfig.from_json(fields["evaluation"])
        return cls(**{**fields, "evaluation": evaluation})

    @property
    def scoring(self) -> EvaluationConfig:
        """How proposals are scored, with the learning rates of the warm start."""
        rates = prompts.rates(self.target)
        return dataclasses.replace(self.evaluation, rates=rates)

    @property
    def kind(self) -> str:
        """The kind of the expressions."""
        return "drift" if self.target == "drift" else "optimizer"


class Conversation(Search):
    """A conversation in a folder; see `Search` for the arguments."""

    config: ConversationConfig
    messages: list[Message]
    """The whole conversation, after `run`."""

    def run(self) -> Record:
        """Make the missing proposals; return the outcome of the best.

        Raises:
            ProviderError: There is no reply. Repeat the command to continue.
            LimitReachedError: A limit is reached. Raise it and repeat the command.
            ValueError: The folder holds another run.
            FolderInUseError: Another process uses the folder.
        """
        recall, scoring = self._provider is None, self.config.scoring
        with self._opened(METHOD, scoring, recall=recall) as (session, scorer):
            scored = [self._warm_start(session, scorer)]
            self._begin(scored[0])
            total = self.config.generations
            with Progress("proposal", total, self._stream) as progress:
                for done in range(1, total + 1):
                    outcome = self._turn(session, scorer, scored)
                    if outcome["fitness"] is not None:
                        scored.append(outcome)
                    text = best_of(scored)["text"]
                    if not recall:
                        write_atomically(self.path / BEST_TEXT, text.encode())
                    progress.show(done, _shown(outcome, best_of(scored)))
        return best_of(scored)

    def _begin(self, warm: Record) -> None:
        request = prompts.first([Scored(warm["code"], warm["fitness"])])
        self.messages = [
            Message(role="system", content=prompts.system(self.config.target)),
            Message(role="user", content=request),
        ]

    def _turn(self, session: Session, scorer: Scorer, scored: list[Record]) -> Record:
        """Ask for a proposal and judge it."""
        history, turns = self.config.history, self.messages[2:]
        latest = turns if history is None else turns[-2 * history :]
        messages = [*self.messages[:2], *latest]
        self._journal.proposal = str(len(turns) // 2 + 1)
        reply = session.ask(messages, self.config.temperature, role="proposer")
        found = session.read(reply, FIELDS, self.config.kind)
        made = self._outcome(scorer, found, scored)
        outcome = session.remember("outcome", lambda: made)
        self.messages += [
            Message(role="assistant", content=shown(reply["text"])),
            Message(role="user", content=outcome["feedback"]),
        ]
        return outcome

    def _warm_start(self, session: Session, scorer: Scorer) -> Record:
        start = prompts.warm_start(self.config.target)
        self._journal.proposal = start.name
        text = read_code(start.code, self.config.kind).to_text()
        try:
            found = scorer.evaluate(text)
        except (RefusedReplyError, WorkerError) as error:
            raise ValueError(
                f"{self.config.evaluation.limits}: {start.name}, which the "
                f"conversation starts from, has no score ({error}); give another "
                "folder and larger limits or other environments"
            ) from error
        scorer.enter(text, start.name)
        references = self.config.evaluation.references(found)
        made = {
            "name": start.name,
            "code": start.code,
            "text": text,
            "scores": found.scores,
            "references": references,
            "fitness": evaluation.fitness(found, references),
        }
        return session.remember("warm", lambda: made)

    def _outcome(
        self, scorer: Scorer, found: Record, scored: list[Record]
    ) -> Mapping[str, Any]:
        """Judge a reply: refuse it, or score it."""
        made: Record = {n: found.get(n) for n in ("name", "thought", "code", "text")}
        made |= {"category": "scored", "fitness": None, "scores": None}
        if made["name"] is not None:
            made["name"] = clean_name(made["name"])
        try:
            usable(found)
            made |= self._score(scorer, made, scored[0]["references"])
        except RefusedReplyError as error:
            feedback = prompts.invalid(str(error))
            made |= {"category": error.category, "feedback": feedback}
        except WorkerError as error:
            feedback = prompts.failed(str(error))
            made |= {"category": "training_failed", "feedback": feedback}
        return made

    def _score(
        self, scorer: Scorer, made: Record, references: Mapping[str, float]
    ) -> Mapping[str, Any]:
        found = scorer.evaluate(made["text"], new=True)
        value = evaluation.fitness(found, references)
        if not math.isfinite(value):
            raise WorkerError("its fitness is not finite")
        scorer.enter(made["text"], f"{made['name']}, whose fitness is {value:.6g}")
        feedback = prompts.fitness(value, evaluation.described(found))
        return {"fitness": value, "scores": found.scores, "feedback": feedback}


def best_of(scored: list[Record]) -> Record:
    """Return the event with the highest fitness, the earliest of equals."""
    return max(scored, key=lambda event: event["fitness"])


def _shown(outcome: Record, best: Record) -> str:
    value = outcome["fitness"]
    text = outcome["category"] if value is None else f"fitness {value:.4g}"
    return f"{text}  best {best['fitness']:.4g} {best['name']}"
