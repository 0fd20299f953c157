"""What all searches share: a folder, and scores that are recorded or recalled."""

import contextlib
import dataclasses
import json
import pathlib
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TextIO

from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.rundir.lock import locked
from learned_opt_rl.rundir.progress import output
from learned_opt_rl.rundir.provenance import provenance
from learned_opt_rl.training.proposal.journal import (
    EVENTS,
    LEDGER,
    Journal,
    Limits,
    Session,
)
from learned_opt_rl.training.proposal.providers import Provider
from learned_opt_rl.training.proposal.reply import RefusedReplyError
from learned_opt_rl.training.proposal.scoring.evaluation import (
    Candidate,
    Evaluation,
    EvaluationConfig,
    MakeCandidate,
)
from learned_opt_rl.training.proposal.scoring.worker import DivergedError, WorkerError
from learned_opt_rl.training.run_folder import (
    CONFIG,
    read_config,
    refuse_foreign,
    refuse_other,
)


class Search:
    """A search in a folder; its `run` starts or resumes it.

    Args:
        config: The configuration.
        folder: Its folder; created if it does not exist.
        provider: The model. With None, only recorded replies are used.
        limits: Bounds on its costs.
        candidate: Makes what checks and trains an expression; tests replace it.
        stream: Receives the progress and the costs; by default, progress goes to
            standard error and costs to standard output.
    """

    def __init__(
        self,
        config: Any,
        folder: pathlib.Path,
        provider: Provider | None,
        limits: Limits | None = None,
        candidate: MakeCandidate = Candidate,
        stream: TextIO | None = None,
    ) -> None:
        self.config, self.path = config, folder
        self._provider, self._limits = provider, limits or Limits()
        self._candidate, self._stream = candidate, stream

    @contextlib.contextmanager
    def _opened(
        self,
        kind: str,
        scoring: EvaluationConfig,
        *,
        recall: bool = False,
        may_grow: str = "generations",
        **more: Any,
    ) -> Iterator[tuple[Session, "Scorer"]]:
        """Open the folder. One field of the configuration may be increased.

        ``more`` is part of the configuration. With ``recall``, nothing is written.

        Raises:
            ValueError: The folder holds another run, or the field is smaller there.
            FolderInUseError: Another process uses the folder.
        """
        fields = dataclasses.asdict(self.config) | more
        config = json.loads(json.dumps(fields))
        if not recall:
            self.path.mkdir(parents=True, exist_ok=True)
        # Reading takes no lock, so that a search that still runs can be read.
        with contextlib.nullcontext() if recall else locked(self.path):
            refuse_other(self.path, kind, config, may_grow=may_grow)
            refuse_foreign(self.path, (EVENTS, LEDGER))
            if not recall:
                self._claim(kind, config, may_grow)
            journal = Journal(self.path, self._limits)
            self._journal = journal
            session = Session(journal, self._provider, self._limits, recall)
            try:
                yield session, Scorer(session, scoring, self._candidate)
            finally:
                if not recall:
                    print(journal.summary(), file=output(self._stream or sys.stderr))

    def _claim(self, kind: str, config: Record, may_grow: str) -> None:
        """Write the configuration, or raise ValueError if the field has shrunk."""
        path = self.path / CONFIG
        if path.exists():
            made = read_config(self.path)
        else:
            made = {"kind": kind, **provenance(), "config": config}
        before = made["config"].get(may_grow, 0)
        if config[may_grow] < before:
            raise ValueError(
                f"{may_grow}={config[may_grow]} is less than the {before} of "
                f"{self.path}; give {before} or more, or another folder"
            )
        # Rewritten when the field grows, because replay reads it.
        content = json.dumps(made | {"config": config}, indent=2)
        write_atomically(path, f"{content}\n".encode())


@contextlib.contextmanager
def readable(folder: pathlib.Path) -> Iterator[None]:
    """Turn errors about the fields of an edited or older folder into ValueError."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        raise ValueError(
            f"{folder} does not have the fields that a search of this version writes "
            f"({type(error).__name__}: {error}); restore its files, or give another "
            "folder"
        ) from error


class Scorer:
    """Checks and trains expressions, unless the events already have the result.

    Args:
        session: Recalls and records.
        config: How expressions are scored.
        make: Makes the process of each expression.
    """

    def __init__(
        self, session: Session, config: EvaluationConfig, make: MakeCandidate
    ) -> None:
        self._session, self._config, self._make = session, config, make
        self._checked: dict[str, Record] = {}
        self._failed: dict[str, WorkerError] = {}
        self._known: dict[str | tuple[float, ...], str] = {}

    def candidate(self, first_seed: int | None = None, **what: str) -> Candidate:
        """Return the process of an expression (``text=``) or of a rule (``rule=``)."""
        config = self._config
        if first_seed is not None:
            config = dataclasses.replace(config, first_seed=first_seed)
        return self._make(config, self._session.journal.spend, **what)

    def check(self, candidate: Candidate, text: str) -> Record:
        """Return ``response`` and ``warnings`` of `checks.Checked`.

        Raises:
            RefusedReplyError: The checks refuse the expression, or its training has
                failed before.
        """
        if text in self._failed:
            problem = f"training with it has failed before: {self._failed[text]}"
            raise RefusedReplyError("failed_before", problem)

        def checked() -> Mapping[str, Any]:
            self._session.journal.check_limits()
            try:
                found = candidate.check()
            except RefusedReplyError as error:
                return {"category": error.category, "problem": str(error)}
            kept = {"response": list(found["response"])}
            return kept | {"problem": "", "warnings": [*found.get("warnings", ())]}

        if text not in self._checked:
            self._checked[text] = self._session.remember("check", checked, text=text)
        event = self._checked[text]
        if event["problem"]:
            raise RefusedReplyError(event["category"], event["problem"])
        return event

    def refuse_known(self, text: str) -> None:
        """Raise RefusedReplyError if an expression that computes the same has a score.

        What an expression computes is known only after its check.
        """
        response = self._checked.get(text, {}).get("response")
        for key in (text, tuple(response or ())):
            if key in self._known:
                problem = f"it computes the same as {self._known[key]}"
                raise RefusedReplyError("duplicate", problem)

    def enter(self, text: str, name: str) -> None:
        """Remember an expression that was scored, for `refuse_known`."""
        self._known.setdefault(text, name)
        self._known.setdefault(tuple(self._checked[text]["response"]), name)

    def train(
        self,
        candidate: Candidate,
        what: str,
        environment: str,
        steps: float | None = None,
        **key: Any,
    ) -> Record:
        """Return the scores of an expression or rule in an environment.

        ``steps`` are those of the configuration by default. ``key``
        distinguishes otherwise identical trainings.

        Raises:
            WorkerError: Training gave no scores, now or when it was recorded.
            LimitReachedError: A limit is reached.
        """

        def trained() -> Mapping[str, Any]:
            self._session.journal.check_limits()
            try:
                return {"scores": candidate.train(environment, steps), "problem": ""}
            except WorkerError as error:
                diverged = isinstance(error, DivergedError)
                return {"scores": None, "problem": str(error), "diverged": diverged}

        key |= {"of": what, "environment": environment, "steps": steps}
        event = self._session.remember("train", trained, **key)
        if event["problem"]:
            kind = DivergedError if event["diverged"] else WorkerError
            self._failed[what] = kind(event["problem"])
            raise self._failed[what]
        return event["scores"]

    def evaluate(
        self,
        text: str,
        *,
        new: bool = False,
        first_seed: int | None = None,
        screen: Callable[[Candidate], None] = lambda _: None,
        judge: Callable[[Mapping[str, Record]], None] = lambda _: None,
    ) -> Evaluation:
        """Check an expression and train agents with it in every environment.

        Args:
            text: The expression.
            new: Whether to refuse one that was entered, or computes the same.
            first_seed: First seed of the agents. Default: the configuration's.
            screen: Called before training; raises what ends the evaluation.
            judge: Likewise, with the scores so far after each environment.

        Raises as `check`, `refuse_known` and `train`.
        """
        if new:
            self.refuse_known(text)
        key = {} if first_seed is None else {"first_seed": first_seed}
        with self.candidate(first_seed, text=text) as candidate:
            warnings = self.check(candidate, text).get("warnings", ())
            if new:
                self.refuse_known(text)
            screen(candidate)
            scores: dict[str, Record] = {}
            for name in self._config.environments:
                scores[name] = self.train(candidate, text, name, **key)
                judge(scores)
        return Evaluation(scores, tuple(warnings))
