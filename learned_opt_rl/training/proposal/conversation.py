"""One conversation that proposes algorithms, each scored before the next.

The folder holds ``config.json``, the events and the ledger (`journal`), and
``best.txt``, the best proposal as an expression. A killed run resumes from its events:
it never asks again for a reply that it has, nor trains again with a scored proposal.

References:
    Goldie et al., "How Should We Meta-Learn Reinforcement Learning Algorithms?", 2025,
    supplement D. Lu et al., "Discovering Preference Optimization Algorithms with and
    for Large Language Models", 2024 (DiscoPOP).
"""

import dataclasses
import json
import math
import pathlib
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from learned_opt_rl import checks
from learned_opt_rl.expressions import Function
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.rundir.checkpoint import differences
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.rundir.lock import locked
from learned_opt_rl.rundir.progress import Progress
from learned_opt_rl.rundir.provenance import provenance
from learned_opt_rl.training.proposal import evaluation, prompts
from learned_opt_rl.training.proposal.evaluation import Evaluation, EvaluationConfig
from learned_opt_rl.training.proposal.journal import EVENTS, LEDGER, Journal, Limits
from learned_opt_rl.training.proposal.prompts import Scored, Target
from learned_opt_rl.training.proposal.providers import (
    Message,
    Provider,
    Reply,
    fingerprint,
)
from learned_opt_rl.training.proposal.reply import (
    RefusedReplyError,
    clean_name,
    read_code,
    read_object,
)
from learned_opt_rl.training.proposal.worker import WorkerError
from learned_opt_rl.training.run_folder import CONFIG, read_config, refuse_foreign

METHOD = "proposal"
BEST_TEXT = "best.txt"
FIELDS = ("thought", "name", "code")
"""The texts of a reply."""

Evaluate = Callable[[Function, EvaluationConfig, evaluation.Spend], Evaluation]
"""How a proposal is scored; `evaluation.evaluate`, or recorded scores in tests."""


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
        known = ("drift", "no_features", "open")
        if self.target not in known:
            raise ValueError(
                f"target={self.target!r} must be one of {', '.join(known)}"
            )
        checks.positive_int("generations", self.generations)
        if self.history is not None:
            checks.positive_int("history", self.history, "give None for all")
        if self.temperature is not None:
            checks.finite(
                "temperature", self.temperature, "give 0 to 2", least=0, most=2
            )

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
        provider: Who answers.
        limits: Bounds on its costs.
        evaluate: How a proposal is scored.
        stream: Receives the progress; standard error by default.
    """

    def __init__(
        self,
        config: ConversationConfig,
        folder: pathlib.Path,
        provider: Provider,
        limits: Limits | None = None,
        evaluate: Evaluate = evaluation.evaluate,
        stream: TextIO | None = None,
    ) -> None:
        self.config, self.path, self._provider = config, folder, provider
        self._limits, self._evaluate = limits or Limits(), evaluate
        self._stream = stream
        identity = config.as_json()
        del identity["generations"]
        self._identity = identity

    def run(self) -> Record:
        """Make the missing proposals; return the outcome of the best.

        Raises:
            ProviderError: There is no reply; repeat to go on.
            LimitReachedError: A limit is reached; raise it and repeat to go on.
            ValueError: The folder holds another run.
            FolderInUseError: Another process uses the folder.
        """
        self._check_folder()
        self.path.mkdir(parents=True, exist_ok=True)
        with locked(self.path):
            refuse_foreign(self.path, (EVENTS, LEDGER))
            if not (self.path / CONFIG).exists():
                made = {"kind": METHOD, "config": self.config.as_json(), **provenance()}
                content = f"{json.dumps(made, indent=2)}\n".encode()
                write_atomically(self.path / CONFIG, content)
            journal = Journal(self.path, self._limits)
            self._generations(journal)
            best = best_of(journal.events)
            write_atomically(self.path / BEST_TEXT, best["text"].encode())
        return best

    def messages(self, events: list[Record]) -> list[Message]:
        """Return the conversation after these events, to which a reply is next."""
        warm, turns = _warm(events), _turns(events)
        start = prompts.first([Scored(warm["code"], warm["fitness"])])
        found = [
            Message(role="system", content=prompts.system(self.config.target)),
            Message(role="user", content=start),
        ]
        shown = turns if self.config.history is None else turns[-self.config.history :]
        for reply, outcome in shown:
            found.append(Message(role="assistant", content=reply["reply"]["text"]))
            found.append(Message(role="user", content=outcome["feedback"]))
        return found

    def _check_folder(self) -> None:
        if not (self.path / CONFIG).exists():
            return
        there = read_config(self.path)
        changed = [f"it is of kind {there['kind']}"]
        if there["kind"] == METHOD:
            before = {n: v for n, v in there["config"].items() if n != "generations"}
            changed = differences(before, self._identity)
        if changed:
            raise ValueError(
                f"{self.path} holds another run ({'; '.join(changed)}); give another "
                "folder, or repeat that run's command to resume it"
            )

    def _generations(self, journal: Journal) -> None:
        total = self.config.generations
        journal.check_limits()
        if not journal.events:
            self._warm_start(journal)
        done = len(_turns(journal.events))
        with Progress("proposal", total, self._stream, done=done) as progress:
            while done < total:
                reply = self._reply(journal)
                outcome = self._outcome(journal, reply)
                done += 1
                best = best_of(journal.events)
                value = outcome["fitness"]
                text = outcome["category"] if value is None else f"fitness {value:.4g}"
                progress.show(
                    done, f"{text}  best {best['fitness']:.4g} {best['name']}"
                )

    def _warm_start(self, journal: Journal) -> None:
        start = prompts.warm_start(self.config.target)
        function = read_code(start.code, self.config.kind)
        found = self._evaluate(function, self.config.evaluation, journal.spend)
        references = self.config.evaluation.references(found)
        journal.add(
            "warm",
            name=start.name,
            code=start.code,
            text=function.to_text(),
            scores=found.scores,
            references=references,
            fitness=evaluation.fitness(found, references),
        )

    def _reply(self, journal: Journal) -> Record:
        """Return the reply that has no outcome yet, or ask for the next."""
        if journal.events[-1]["event"] == "reply":
            return journal.events[-1]
        journal.check_limits()
        messages = self.messages(journal.events)
        started = time.perf_counter()
        # Each turn has a seed of its own, for providers that take one.
        seed = len(journal.events)
        reply = self._provider.complete(
            messages, temperature=self.config.temperature, seed=seed
        )
        journal.spend(
            "reply",
            time.perf_counter() - started,
            model=reply.model,
            prompt_tokens=reply.prompt_tokens,
            completion_tokens=reply.completion_tokens,
            price=self._limits.price(reply),
        )
        text = reply.text.encode("utf-8", "replace").decode()
        fields = reply._replace(text=text)._asdict()
        return journal.add("reply", conversation=fingerprint(messages), reply=fields)

    def _outcome(self, journal: Journal, reply: Record) -> Record:
        """Judge a reply: refuse it, or score it."""
        made: Record = {"name": None, "thought": None, "code": None, "text": None}
        made |= {"category": "scored", "fitness": None, "scores": None}
        try:
            found = read_object(
                Reply(**reply["reply"]).text, FIELDS, cut=reply["reply"]["cut"]
            )
            made |= found | {"name": clean_name(found["name"])}
            function = read_code(found["code"], self.config.kind)
            made["text"] = function.to_text()
            self._score(journal, function, made)
        except RefusedReplyError as error:
            made |= {
                "category": error.category,
                "feedback": prompts.invalid(str(error)),
            }
        except WorkerError as error:
            made |= {
                "category": "training_failed",
                "feedback": prompts.failed(str(error)),
            }
        return journal.add("outcome", **made)

    def _score(self, journal: Journal, function: Function, made: Record) -> None:
        for event in journal.events:
            if event.get("text") == made["text"] and event["fitness"] is not None:
                raise RefusedReplyError(
                    "duplicate",
                    f"it computes the same as {event['name']}, whose fitness is "
                    f"{event['fitness']:.6g}",
                )
        found = self._evaluate(function, self.config.evaluation, journal.spend)
        value = evaluation.fitness(found, _warm(journal.events)["references"])
        if not math.isfinite(value):
            raise WorkerError("its fitness is not finite")
        feedback = prompts.fitness(value, evaluation.described(found))
        made |= {"fitness": value, "scores": found.scores, "feedback": feedback}


def best_of(events: list[Record]) -> Record:
    """Return the event with the highest fitness, the earliest of equals."""
    scored = [event for event in events if event.get("fitness") is not None]
    return max(scored, key=lambda event: event["fitness"])


def _warm(events: list[Record]) -> Mapping[str, Any]:
    return next(event for event in events if event["event"] == "warm")


def _turns(events: list[Record]) -> list[tuple[Record, Record]]:
    """Return the replies that have outcomes, with them."""
    replies = [event for event in events if event["event"] == "reply"]
    outcomes = [event for event in events if event["event"] == "outcome"]
    return list(zip(replies, outcomes, strict=False))
