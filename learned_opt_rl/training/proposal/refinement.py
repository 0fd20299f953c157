"""After a search: tune the constants of an expression, then drop what it does not need.

All expressions are trained with the same seeds, so that they are compared in pairs:

1. The numbers of the expression become constants (`expressions.lift`). CMA-ES moves
   them on a scale that keeps their signs, and numbers below 1 below 1. A generation is
   ``population`` expressions. The one with the highest fitness, among all of them and
   the start, is trained again with other seeds, and so is the start. The better one is
   kept; of equals, the start.
2. With these other seeds, each operation in turn is left out (`expressions.simpler`),
   beginning with what leaves the smallest expression. A simpler one whose fitness is
   not lower replaces the expression, and its own simpler ones follow.

An expression without a score, because it is refused, diverges or takes too long, is
never kept. The folder holds ``config.json``, the events and the ledger (`journal`), and
``best.txt``.

References:
    Goldie et al. 2025 (the fitness). Li et al., AlphaEvolve for multi-agent learning,
    2026, arXiv 2602.16928 (reduced to its core, a discovery generalizes better).
"""

import dataclasses
import pathlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TextIO

import jax
import jax.numpy as jnp
import numpy as np
from scipy import special

from learned_opt_rl import checks, expressions
from learned_opt_rl.families.expression import Form
from learned_opt_rl.rundir.atomic import write_atomically
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.rundir.progress import Progress
from learned_opt_rl.training.evolution.strategy import EvosaxStrategy
from learned_opt_rl.training.proposal.conversation import BEST_TEXT
from learned_opt_rl.training.proposal.journal import Limits, Session
from learned_opt_rl.training.proposal.reply import RefusedReplyError
from learned_opt_rl.training.proposal.scoring import evaluation
from learned_opt_rl.training.proposal.scoring.evaluation import (
    Candidate,
    EvaluationConfig,
    MakeCandidate,
)
from learned_opt_rl.training.proposal.scoring.worker import DivergedError, WorkerError
from learned_opt_rl.training.proposal.search import Search

METHOD = "refinement"

_LARGEST = expressions.Limits.MAGNITUDE


@dataclasses.dataclass(frozen=True)
class RefinementConfig:
    """A refinement.

    Attributes:
        text: The expression.
        evaluation: How expressions are scored. Tuning has its seeds; the choice of the
            constants and the simpler expressions have as many seeds after these.
        references: What returns are divided by; as in a conversation by default.
        generations: Generations of CMA-ES; 0 to tune nothing.
        population: Expressions in a generation, an even number from 4.
        sigma: Standard deviation of the first generation. For numbers far below 1, the
            change is relative.
        drops: Maximum number of simpler expressions to train; 0 for none. May be raised
            later.
        seed: Seed of CMA-ES.

    Raises:
        ExpressionError: The text is not an expression.
        ValueError: A value is out of range, or there is nothing to do.
    """

    text: str
    evaluation: EvaluationConfig
    references: Mapping[str, float] | None = None
    generations: int = 10
    population: int = 8
    sigma: float = 0.1
    drops: int = 30
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("generations", "drops"):
            if getattr(self, name) != 0:
                checks.positive_int(name, getattr(self, name), "or give 0 for none")
        if not self.generations and not self.drops:
            raise ValueError(
                "generations=0 and drops=0: there is nothing to do; raise one of them"
            )
        function = expressions.parse(self.text)
        if self.generations and not expressions.lift(function).constants:
            raise ValueError(
                f"generations={self.generations}: the expression has no constants to "
                "tune; give 0 generations, to only leave out what it does not need"
            )
        if self.generations:
            EvosaxStrategy("cma_es", self.population, self.sigma)

    @property
    def trainings(self) -> int:
        """The largest number of expressions that are trained with."""
        tuned = 2 + self.generations * self.population if self.generations else 0
        return 1 + tuned + self.drops


class _Outcome(NamedTuple):
    """The fitness of an expression, or why it has none."""

    fitness: float | None
    problem: str = ""
    trained: bool = True
    diverged: bool = False


_Score = Callable[[str], _Outcome]


class Refinement(Search):
    """A refinement in a folder; `run` starts or resumes it.

    The arguments are those of `Search` without provider, plus ``origin``, the stages
    that produced the expression, for the card; see `origin.Found`.
    """

    config: RefinementConfig

    def __init__(
        self,
        config: RefinementConfig,
        folder: pathlib.Path,
        limits: Limits | None = None,
        candidate: MakeCandidate = Candidate,
        origin: Sequence[Record] = (),
        stream: TextIO | None = None,
    ) -> None:
        super().__init__(config, folder, None, limits, candidate, stream)
        self._origin = list(origin)

    def run(self) -> Record:
        """Run the remaining steps; return ``text``, ``fitness`` and ``start_fitness``.

        Both are measured on seeds not used for tuning.

        Raises:
            LimitReachedError: A limit is reached. Raise it and repeat the command.
            ValueError: The folder holds another run, or the expression has no score.
            FolderInUseError: Another process uses the folder.
        """
        config = self.config
        with (
            self._opened(METHOD, config.evaluation, may_grow="drops") as opened,
            Progress("expression", config.trainings, self._stream) as self._progress,
        ):
            session, self._scorer = opened
            self._references, self._done = config.references, 0
            session.remember("origin", lambda: {"stages": self._origin})
            start = expressions.parse(config.text).to_text()
            tuned = self._tune(session, start) if config.generations else start
            chosen = self._choose(session, start, tuned)
            return self._simplify(session, chosen)

    def _tune(self, session: Session, start: str) -> str:
        """Return the expression with the best constants, by CMA-ES."""
        config = self.config
        score = self._scoring(config.evaluation.first_seed)
        best, value = start, self._required(score(start))
        form = Form(expressions.lift(expressions.parse(start)).to_text())
        numbers = form.function.init_constants()
        strategy = EvosaxStrategy("cma_es", config.population, config.sigma)
        key = jax.random.key(config.seed)
        state = strategy.init(jnp.zeros(len(numbers)), key)
        for generation in range(config.generations):
            steps = np.asarray(strategy.ask(state), float)
            moved = _moved(np.array([*numbers.values()]), steps)
            texts = [
                form.evolved(dict(zip(numbers, one, strict=True))).to_text()
                for one in moved
            ]
            # Another version or machine may draw numbers that differ in their last bit.
            made = {"texts": texts}
            members = _remember(session, "population", made, number=generation)["texts"]
            found = [score(text) for text in members]
            for text, (fitness, *_) in zip(members, found, strict=True):
                if fitness is not None and fitness > value:
                    best, value = text, fitness
            _remember(session, "generation", {"best": value}, number=generation)
            state = strategy.tell(state, jnp.asarray(_ranked(found)))
        return best

    def _choose(self, session: Session, start: str, tuned: str) -> Record:
        """Compare the tuned expression with the start on seeds that did not tune."""
        score = self._scoring(self.config.evaluation.next_seed)
        before = self._required(score(start))
        after = score(tuned).fitness if tuned != start else None
        better = after is not None and after > before
        made = {
            "fitness": after if better else before,
            "start_fitness": before,
        }
        text = tuned if better else start
        self._keep(text)
        return _remember(session, "tuned", made, text=text)

    def _simplify(self, session: Session, chosen: Record) -> Record:
        """Leave out operations while the fitness does not fall."""
        score = self._scoring(self.config.evaluation.next_seed)
        tried: set[str] = set()
        left = self.config.drops
        rest = _simpler(chosen["text"])
        while rest and left:
            text = rest.pop(0)
            if text in tried:
                continue
            tried.add(text)
            one = score(text)
            left -= one.trained
            kept = one.fitness is not None and one.fitness >= chosen["fitness"]
            made = {"fitness": one.fitness, "problem": one.problem, "kept": kept}
            _remember(session, "drop", made, text=text)
            if kept:
                chosen = {**chosen, "text": text, "fitness": one.fitness}
                rest = _simpler(text)
                self._keep(text)
        return chosen

    def _scoring(self, first_seed: int) -> _Score:
        """Return what scores an expression with these seeds, each expression once."""
        known: dict[str, _Outcome] = {}

        def score(text: str) -> _Outcome:
            if text not in known:
                self._journal.proposal = f"expression {self._done + 1}"
                known[text] = self._outcome(text, first_seed)
                self._done += known[text].trained
                value = known[text].fitness
                shown = "no score" if value is None else f"fitness {value:.4g}"
                self._progress.show(self._done, shown)
            return known[text]

        return score

    def _outcome(self, text: str, first_seed: int) -> _Outcome:
        try:
            found = self._scorer.evaluate(text, first_seed=first_seed)
        except RefusedReplyError as error:
            # A check that took too long is not evidence against the expression.
            bad = error.category != "check_failed"
            return _Outcome(None, str(error), trained=False, diverged=bad)
        except WorkerError as error:
            diverged = isinstance(error, DivergedError)
            return _Outcome(None, str(error), diverged=diverged)
        if self._references is None:
            self._references = self.config.evaluation.references(found)
        return _Outcome(evaluation.fitness(found, self._references))

    def _required(self, outcome: _Outcome) -> float:
        if outcome.fitness is None:
            raise ValueError(
                f"{self.config.evaluation.limits}: the expression to refine has no "
                f"score ({outcome.problem}); give another folder and larger limits, "
                "other environments or another expression"
            )
        return outcome.fitness

    def _keep(self, text: str) -> None:
        write_atomically(self.path / BEST_TEXT, text.encode())


def _remember(session: Session, event: str, made: Record, **key: Any) -> Record:
    """Recall or record an event that follows from those before."""
    return session.remember(event, lambda: made, **key)


def _simpler(text: str) -> list[str]:
    return [one.to_text() for one in expressions.simpler(expressions.parse(text))]


def _moved(values: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """Move numbers ``[n]`` by steps ``[m, n]``, float32, on a scale that keeps signs.

    The scale is logit for magnitudes below 1, so that a decay stays a decay and a step
    of 0.1 is relative for small ones; logarithmic from 1 on; and linear for 0.
    """
    sizes = np.abs(values)
    small = (sizes > 0) & (sizes < 1)
    inner = special.expit(special.logit(np.where(small, sizes, 0.5)) + steps)
    inner = np.minimum(inner, np.nextafter(np.float32(1), np.float32(0)))
    # Steps above the bound would overflow; every result is at most _LARGEST anyway.
    outer = sizes * np.exp(np.minimum(steps, np.log(_LARGEST)))
    # A magnitude that becomes 0 would lose its sign.
    moved = np.maximum(np.where(small, inner, outer), np.finfo(np.float32).tiny)
    moved = np.where(sizes == 0, steps, np.sign(values) * moved)
    return np.clip(moved, -_LARGEST, _LARGEST).astype(np.float32)


def _ranked(found: Sequence[_Outcome]) -> list[float]:
    """Return the fitness of a generation with a number for every expression.

    One that diverges or is refused is the worst. One that took too long is not evidence
    against its constants, and gets the median.
    """
    known = [one.fitness for one in found if one.fitness is not None] or [0.0]
    middle, worst = float(np.median(known)), min(known) - 1
    return [
        one.fitness if one.fitness is not None else (worst if one.diverged else middle)
        for one in found
    ]
