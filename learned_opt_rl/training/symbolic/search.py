"""Symbolic distillation: turn a trained network into a formula.

1. A backend fits expressions to the teacher several times, each time with another seed.
2. Every expression becomes a rule whose constants are tuned and which is measured on
   all data (`selection`). Rules that are not valid, not finite, or independent of the
   gradient are refused.
3. Of the rules that are better than all simpler ones, those with the lowest loss train
   agents with the same seeds. The result is the simplest one whose fitness is within
   one standard error of the highest.

The folder holds ``config.json``, the events and the ledger (`proposal.journal`), and
``best.txt``. A killed distillation resumes and loses at most one fit or training.

References:
    Goldie et al. 2025, "How Should We Meta-Learn Reinforcement Learning Algorithms?",
    section 4.4. Breiman et al. 1984, "Classification and Regression Trees" (the rule of
    one standard error).
"""

import dataclasses
import pathlib
import shlex
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

import numpy as np

from learned_opt_rl.artifacts import registry
from learned_opt_rl.errors import ExpressionError, UnknownArtifactError
from learned_opt_rl.rundir import settings
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.rundir.jsonl import Record, number
from learned_opt_rl.rundir.progress import Progress
from learned_opt_rl.training.distillation.teachers import Teacher
from learned_opt_rl.training.proposal.conversation import BEST_TEXT
from learned_opt_rl.training.proposal.journal import Limits
from learned_opt_rl.training.proposal.reply import RefusedReplyError
from learned_opt_rl.training.proposal.scoring import evaluation
from learned_opt_rl.training.proposal.scoring.evaluation import (
    Candidate,
    Evaluation,
    MakeCandidate,
)
from learned_opt_rl.training.proposal.scoring.worker import WorkerError
from learned_opt_rl.training.proposal.search import Scorer, Search
from learned_opt_rl.training.proposal.session import Session
from learned_opt_rl.training.symbolic.backends import Row, backend
from learned_opt_rl.training.symbolic.config import SymbolicConfig
from learned_opt_rl.training.symbolic.problem import (
    Problem,
    make_problem,
    require_symbolic,
)
from learned_opt_rl.training.symbolic.selection import Judge, Judged, front

METHOD = "symbolic distillation"

# Rows from which a backend draws.
_ROWS = 1 << 16
# Loss from which on an expression is the teacher's own, and further fits find nothing.
# Large approximations of another form reach 1e-9.
_EXACT = 1e-12


class Symbolic(Search):
    """A symbolic distillation in a folder; `run` starts or resumes it.

    Args:
        config: The configuration, from `config.configure`.
        teacher: The rule of its name.
        folder: Its folder; created if it does not exist.
        limits: Bounds on its costs.
        candidate: Makes what trains agents; tests replace it.
        stream: Receives the progress; standard error by default.

    Raises:
        ValueError: The teacher has no formula over the inputs of one step.
    """

    config: SymbolicConfig

    def __init__(
        self,
        config: SymbolicConfig,
        teacher: Teacher,
        folder: pathlib.Path,
        limits: Limits | None = None,
        candidate: MakeCandidate = Candidate,
        stream: TextIO | None = None,
    ) -> None:
        super().__init__(config, folder, None, limits, candidate, stream)
        require_symbolic(teacher)
        self._teacher = teacher

    def run(self) -> Record:
        """Do what remains; return ``text``, ``size``, ``loss`` and ``fitness``.

        Raises:
            LimitReachedError: A limit is reached. Raise it and repeat the command.
            MissingExtraError: The backend is not installed.
            BackendError: The backend cannot run.
            ValueError: The folder holds another run, the teacher's values cannot be
                fitted, or no expression is usable.
            FolderInUseError: Another process uses the folder.
        """
        scoring, digest = self.config.evaluation, self._teacher.sha256
        with self._opened(
            METHOD, scoring, may_grow="candidates", teacher_sha256=digest
        ) as (session, scorer):
            kept = self._kept(session)
            scored = self._scored(session, scorer, kept)
            best = best_of(scored)
            write_atomically(self.path / BEST_TEXT, best["text"].encode())
            return best

    def _kept(self, session: Session) -> list[Record]:
        """Return the usable expressions, lowest loss first."""
        config, found = self.config, list[Judged]()
        work = _Fitting(config, self._teacher)
        places = work.places()
        with Progress("fit", len(places), self._stream) as progress:
            for index, (template, fit) in enumerate(places):
                event = self._fitted(session, work, template, fit)
                work.known += [expression for *_, expression in event["table"]]
                found += [Judged(**one) for one in event["judged"]]
                least = min((one.loss for one in found), default=np.inf)
                progress.show(index + 1, f"loss {least:.3g}")
                if event["exact"]:
                    break

        def judged() -> Record:
            rows = front(found, work.judge)
            return {"rows": [dataclasses.asdict(one) for one in rows]}

        rows = session.remember("front", judged)["rows"]
        usable = [row for row in rows if not row["problem"]]
        if not usable:
            problems = "; ".join(dict.fromkeys(row["problem"] for row in rows[:3]))
            raise ValueError(
                f"{self.path}: none of {len(rows)} expressions can be used "
                f"({problems}); give another folder and more fits, other templates or "
                "other inputs"
            )
        return usable

    def _fitted(
        self, session: Session, work: "_Fitting", template: str | None, fit: int
    ) -> Record:
        def made() -> Record:
            self._journal.check_limits()
            started = time.perf_counter()
            event = work.fit(template, fit)
            self._journal.spend("fit", time.perf_counter() - started)
            return event

        return session.remember("fit", made, template=template, number=fit)

    def _scored(
        self, session: Session, scorer: Scorer, kept: Sequence[Record]
    ) -> list[Record]:
        """Train agents with the expressions of the lowest loss; return those scored.

        Without candidates, the expression with the lowest loss has fitness 0.
        """
        count = self.config.candidates
        if not count:
            return [{**kept[0], "fitness": 0.0, "scores": [0.0]}]
        tried = kept[:count]
        self._references: dict[str, float] = {}
        with Progress("candidate", len(tried), self._stream) as progress:
            for rule in self._rules():
                self._reference(session, scorer, rule)
            for index, row in enumerate(tried):
                fitness = self._outcome(session, scorer, row)["fitness"]
                shown = "no score" if fitness is None else f"fitness {fitness:.4g}"
                progress.show(index + 1, shown)
        scored = [row for row in tried if row.get("fitness") is not None]
        if not scored:
            raise ValueError(
                f"{self.path}: no expression has a score; the events name the "
                "problems. Give more candidates, or longer limits in another folder"
            )
        return scored

    def _rules(self) -> Iterator[str]:
        """Yield the rules to compare with: tuned Adam, and a teacher with a name."""
        yield "adam"
        try:
            yield registry.find(self.config.teacher).card.name
        except UnknownArtifactError:
            return

    def _reference(self, session: Session, scorer: Scorer, rule: str) -> None:
        self._journal.proposal = rule
        names = self.config.evaluation.environments
        try:
            with scorer.candidate(rule=rule) as candidate:
                scores = {n: scorer.train(candidate, rule, n) for n in names}
        except WorkerError as error:
            problem = f"{rule} is not compared with, because it has no score: {error}"
            warnings.warn(problem, stacklevel=2)
            return
        made = {"fitness": self._fitness(Evaluation(scores))}
        session.remember("reference", lambda: made, rule=rule)

    def _outcome(self, session: Session, scorer: Scorer, row: Record) -> Record:
        self._journal.proposal = f"size {row['size']}"
        made: Record = {"fitness": None, "scores": [], "problem": ""}
        try:
            found = scorer.evaluate(row["text"])
            made["fitness"] = self._fitness(found)
            made["scores"] = evaluation.by_seed(found, self._references)
        except (RefusedReplyError, WorkerError) as error:
            made["problem"] = str(error)
        event = session.remember("outcome", lambda: made, text=row["text"])
        row |= {name: event[name] for name in ("fitness", "scores")}
        return row

    def _fitness(self, found: Evaluation) -> float:
        if not self._references:
            self._references = self.config.evaluation.references(found)
        return evaluation.fitness(found, self._references)


def best_of(scored: Sequence[Record]) -> Record:
    """Return the simplest expression within one standard error of the best.

    The error is that of the mean difference of their ``scores``, which have one number
    per seed.

    Example:
        >>> rows = [(9, [1.0, 1.4]), (5, [1.1, 1.2]), (3, [0.5, 0.6])]
        >>> made = [{"size": n, "fitness": sum(s), "scores": s} for n, s in rows]
        >>> best_of(made)["size"]
        5
    """
    best = max(scored, key=lambda one: one["fitness"])

    def is_level(one: Record) -> bool:
        gap = np.subtract(best["scores"], one["scores"])
        error = np.std(gap, ddof=1) / np.sqrt(len(gap)) if len(gap) > 1 else 0.0
        return bool(np.mean(gap) <= error)

    return min(filter(is_level, scored), key=lambda one: one["size"])


def command(fields: Mapping[str, Any]) -> str:
    """Return the command that repeats a distillation, from its configuration."""
    scoring = fields["evaluation"]
    words = ["symbolic", "--teacher", fields["teacher"], "--out", "FOLDER"]
    for name in ("backend", "inputs", "normalization", "loss", "fits", "candidates"):
        words += [f"--{name}", str(fields[name])]
    words += ["--templates", *fields["templates"], "--seed", str(fields["seed"])]
    words += ["--environments", *scoring["environments"]]
    words += ["--steps", f"{scoring['steps']:g}", "--seeds", str(scoring["seeds"])]
    if scoring["settings"]:
        words += ["--set", *settings.format(scoring["settings"])]
    words += ["--search", *settings.format(fields["search"])]
    return shlex.join(["learned-opt-rl", "train", *words])


class _Fitting:
    """The data of a teacher, made when the first fit needs it."""

    def __init__(self, config: SymbolicConfig, teacher: Teacher) -> None:
        self._config, self._teacher = config, teacher
        self._problem: Problem | None = None
        self.known: list[str] = []  # expressions of the fits so far

    @property
    def judge(self) -> Judge:
        return Judge(self._data(), self._config.loss)

    def places(self) -> list[tuple[str | None, int]]:
        """Return template and number of every fit."""
        forms = self._config.templates if self._teacher.drift is not None else (None,)
        return [(form, fit) for fit in range(self._config.fits) for form in forms]

    def fit(self, template: str | None, fit: int) -> Record:
        """Return the table of a fit and the rules that it became."""
        config, problem, judge = self._config, self._data(), self.judge
        columns, target, weights = problem.table(template)
        rng = np.random.default_rng([config.seed, fit])
        rows = rng.choice(len(target), min(len(target), _ROWS), replace=False)
        search = dataclasses.replace(config.search, seed=config.search.seed + fit)
        given = columns[rows], target[rows], weights[rows]
        table = backend(config.backend).fit(*given, search, tuple(self.known))
        judged, refused, exact = list[Judged](), list[Record](), False
        for index, row in enumerate(table):
            try:
                found = judge.judged(problem.function(row.expression), template)
            except ExpressionError as error:
                refused.append({"row": index + 1, "problem": str(error)})
                continue
            judged += found
            exact = any(o.loss < _EXACT and not judge.checked(o).problem for o in found)
            if exact:  # all further rows are larger
                break
        return {
            "table": [_plain(row) for row in table],
            "refused": refused,
            "judged": [dataclasses.asdict(one) for one in judged if one.finite],
            "exact": exact,
        }

    def _data(self) -> Problem:
        if self._problem is None:
            self._problem = make_problem(self._config, self._teacher)
        return self._problem


def _plain(row: Row) -> list[Any]:
    return [row.complexity, number(row.loss), row.expression]
