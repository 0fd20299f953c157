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

import collections
import dataclasses
import functools
import io
import pathlib
import shlex
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TextIO

import jax.numpy as jnp
import numpy as np

from learned_opt_rl.artifacts import registry
from learned_opt_rl.errors import ExpressionError, UnknownArtifactError
from learned_opt_rl.rundir import settings
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.rundir.jsonl import Record, number
from learned_opt_rl.rundir.progress import Progress
from learned_opt_rl.training.distillation.inputs import Tensors
from learned_opt_rl.training.distillation.teachers import Teacher
from learned_opt_rl.training.proposal.conversation import BEST_TEXT
from learned_opt_rl.training.proposal.journal import Limits, Session
from learned_opt_rl.training.proposal.reply import RefusedReplyError
from learned_opt_rl.training.proposal.scoring import evaluation
from learned_opt_rl.training.proposal.scoring.evaluation import (
    Candidate,
    Evaluation,
    MakeCandidate,
)
from learned_opt_rl.training.proposal.scoring.worker import WorkerError
from learned_opt_rl.training.proposal.search import Scorer, Search
from learned_opt_rl.training.symbolic.backends import Row, backend, is_table
from learned_opt_rl.training.symbolic.config import SymbolicConfig
from learned_opt_rl.training.symbolic.problem import (
    Problem,
    make_problem,
    require_symbolic,
    tensors_of,
)
from learned_opt_rl.training.symbolic.selection import Judge, Judged, front

METHOD = "symbolic distillation"

_TENSORS = "inputs.npz"

# Rows from which a backend draws.
_ROWS = 1 << 16
# Loss from which on an expression is the teacher's own, and further fits find nothing.
# Large approximations of another form reach 1e-9.
_EXACT = 1e-12


class Symbolic(Search):
    """A symbolic distillation in a folder; `run` starts or resumes it.

    Args:
        config: The configuration, from `config.configure`.
        teacher: The rule that ``config.teacher`` names.
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
        self._references: dict[str, float] = {}

    def run(self) -> Record:
        """Run the remaining steps; return ``text``, ``size``, ``loss``, ``fitness``.

        The fitness is None if no agents are trained.

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
            best: Record = kept[0] | {"fitness": None}
            if self.config.candidates:
                best = best_of(self._scored(session, scorer, kept))
            write_atomically(self.path / BEST_TEXT, best["text"].encode())
            return best

    def _kept(self, session: Session) -> list[Record]:
        """Return the usable expressions, lowest loss first."""
        config, found = self.config, list[Judged]()
        work = _Fitting(config, self._teacher, self.path / _TENSORS)
        places = work.places()
        with Progress("fit", len(places), self._stream) as progress:
            for index, (template, fit) in enumerate(places):
                event = self._fitted(session, work, template, fit)
                bad = {one["row"] for one in event["refused"]}
                work.known[template] += [
                    expression
                    for index, (*_, expression) in enumerate(event["table"])
                    if index + 1 not in bad
                ]
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
                f"({problems}); raise fits, or choose other templates or inputs, and "
                "use another folder"
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
        """Train agents with the expressions of the lowest loss; return those scored."""
        tried = kept[: self.config.candidates]
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
            problem = f"rule={rule!r} has no score and is not compared: {error}"
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


_OPTIONS = (
    *("backend", "inputs", "normalization", "loss"),
    *("fits", "candidates", "seed"),
)


def command(fields: Mapping[str, Any]) -> str:
    """Return the command that repeats a distillation, from its configuration."""
    scoring = fields["evaluation"]
    words = ["symbolic", "--teacher", fields["teacher"], "--out", "FOLDER"]
    usual = {f.name: f.default for f in dataclasses.fields(SymbolicConfig)}
    for name in _OPTIONS:
        if fields[name] != usual[name]:
            words += [f"--{name}", str(fields[name])]
    if tuple(fields["templates"]) != usual["templates"]:
        words += ["--templates", *fields["templates"]]
    words += ["--environments", *scoring["environments"]]
    words += ["--steps", f"{scoring['steps']:g}", "--seeds", str(scoring["seeds"])]
    if scoring["settings"]:
        words += ["--set", *settings.format(scoring["settings"])]
    words += ["--search", *settings.format(fields["search"])]
    return shlex.join(["learned-opt-rl", "train", *words])


class _Fitting:
    """The data of a teacher, made when the first fit needs it.

    Visited inputs are kept in a file, so that a killed run does not gather them again.
    """

    def __init__(
        self, config: SymbolicConfig, teacher: Teacher, file: pathlib.Path
    ) -> None:
        self._config, self._teacher, self._file = config, teacher, file
        # Converted expressions of the fits so far, by template.
        self.known = collections.defaultdict[str | None, list[str]](list)

    @functools.cached_property
    def judge(self) -> Judge:
        return Judge(self._problem, self._config.loss)

    def places(self) -> list[tuple[str | None, int]]:
        """Return template and number of every fit."""
        forms = self._config.templates if self._teacher.drift is not None else (None,)
        # Every fit of a recorded table returns the same.
        fits = 1 if is_table(self._config.backend) else self._config.fits
        return [(form, fit) for fit in range(fits) for form in forms]

    def fit(self, template: str | None, fit: int) -> Record:
        """Return the table of a fit and the rules that it became."""
        config, library = self._config, backend(self._config.backend)
        library.require()  # before the data are made
        problem, judge = self._problem, self.judge
        columns, target, weights = problem.table(template)
        rng = np.random.default_rng([config.seed, fit])
        rows = rng.choice(len(target), min(len(target), _ROWS), replace=False)
        search = dataclasses.replace(config.search, seed=config.search.seed + fit)
        given = columns[rows], target[rows], weights[rows]
        table = library.fit(*given, search, tuple(self.known[template]))
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
            "table": [_record(row) for row in table],
            "refused": refused,
            "judged": [dataclasses.asdict(one) for one in judged if one.finite],
            "exact": exact,
        }

    @functools.cached_property
    def _problem(self) -> Problem:
        teacher = self._teacher
        tensors = None if teacher.drift is not None else self._tensors()
        return make_problem(self._config, teacher, tensors)

    def _tensors(self) -> Tensors:
        if self._file.exists():
            with np.load(self._file, allow_pickle=False) as file:
                return Tensors(**{n: jnp.asarray(x) for n, x in file.items()})
        tensors = tensors_of(self._config, self._teacher)
        if self._config.inputs == "visited":
            stream = io.BytesIO()
            arrays = {n: np.asarray(x) for n, x in tensors._asdict().items()}
            np.savez(stream, allow_pickle=False, **arrays)
            write_atomically(self._file, stream.getvalue())
        return tensors


def _record(row: Row) -> list[Any]:
    return [row.complexity, number(row.loss), row.expression]
