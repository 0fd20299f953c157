"""A discovery: a thinker and a coder refine the members of an archive.

Each generation refines one member several times. The thinker suggests a change, the
coder writes it, agents are trained with it, and the thinker sees the result. All
evaluated optimizers enter the archive, in which they are ranked by environment.

References:
    Goldie et al., "Do Symbolic or Black-Box Representations Generalise Better in
    Learned Optimisation?", 2025, section 4 and table 2.
"""

import contextlib
import dataclasses
import io
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple, TextIO

import numpy as np

from learned_opt_rl import checks
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.rundir.progress import Progress
from learned_opt_rl.training.proposal import archive, prompts
from learned_opt_rl.training.proposal.archive import Member
from learned_opt_rl.training.proposal.journal import Limits, usable
from learned_opt_rl.training.proposal.providers import (
    Message,
    Provider,
    ProviderError,
)
from learned_opt_rl.training.proposal.reply import (
    RefusedReplyError,
    read_code,
    shown,
)
from learned_opt_rl.training.proposal.scoring.evaluation import (
    Candidate,
    Evaluation,
    EvaluationConfig,
    MakeCandidate,
    check_ranked,
)
from learned_opt_rl.training.proposal.scoring.worker import DivergedError, WorkerError
from learned_opt_rl.training.proposal.search import Search, readable
from learned_opt_rl.training.run_folder import read_config
from learned_opt_rl.warn import warn_user

METHOD = "discovery"
KIND = "optimizer"


@dataclasses.dataclass(frozen=True)
class DiscoveryConfig:
    """A discovery; the defaults are those of the paper.

    Attributes:
        evaluation: How candidates are scored.
        generations: May be raised later.
        refinements: Suggestions per generation.
        attempts: Tries of the thinker, of the coder, and of an evaluation.
        thinker_temperature: None where the model takes none.
        coder_temperature: None where the model takes none.
        exploit: Probability of refining one of the best.
        top: How many count as the best.
        refine_from: Whether a refinement starts from the ``"latest"`` optimizer of its
            generation or from the ``"best"``.
        ranked: Rules that are ranked as members, and not refined: handcrafted
            optimizers, ``optax.NAME:RATE`` and installed artifacts.
        islands: Archives that evolve separately; each generation uses the next one.
        migrate: Generations between two migrations of the best of each island.
        cells: Whether exploration draws from the best of each cell: those of similar
            size that read the same inputs.
        screen_steps: Environment steps of a short run in the first environment. A
            candidate that is worse there than all members is not trained further. None
            for no such run.
        stop_hopeless: Whether to stop a candidate that cannot reach the better half.
        seed: Seed of all draws.

    Raises:
        ValueError: A value is out of range.
    """

    evaluation: EvaluationConfig
    generations: int = 80
    refinements: int = 8
    attempts: int = 3
    thinker_temperature: float | None = 0.7
    coder_temperature: float | None = 0.3
    exploit: float = 0.8
    top: int = 5
    refine_from: Literal["latest", "best"] = "latest"
    ranked: tuple[str, ...] = ("adam:1e-3",)
    islands: int = 1
    migrate: int = 10
    cells: bool = False
    screen_steps: float | None = None
    stop_hopeless: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        whole = ("generations", "refinements", "attempts", "top", "islands", "migrate")
        for name in whole:
            checks.positive_int(name, getattr(self, name))
        checks.finite("exploit", self.exploit, "give 0 to 1", least=0, most=1)
        for name in ("thinker_temperature", "coder_temperature"):
            if getattr(self, name) is not None:
                checks.finite(name, getattr(self, name), "give 0 to 2", least=0, most=2)
        if self.screen_steps is not None:
            checks.finite("screen_steps", self.screen_steps, "give steps", above=0)
        if self.refine_from not in ("latest", "best"):
            raise ValueError(
                f"refine_from={self.refine_from!r} must be 'latest' or 'best'"
            )

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> "DiscoveryConfig":
        """Build a configuration from the fields in a ``config.json``."""
        evaluation = EvaluationConfig.from_json(fields["evaluation"])
        ranked = tuple(fields["ranked"])
        return cls(**{**fields, "evaluation": evaluation, "ranked": ranked})


class _Judged(NamedTuple):
    """The outcome of a refinement."""

    outcome: str  # "evaluated", "failed_thinker", "failed_coder", "duplicate", ...
    problem: str = ""
    code: str | None = None
    text: str | None = None
    member: Member | None = None


class Discovery(Search):
    """A discovery in a folder; `run` starts or resumes it.

    The arguments are those of `Search`, whose provider answers both roles, and
    ``initial``: code of the first members by name; the paper's by default.
    """

    config: DiscoveryConfig
    members: list[Member]
    """The archive, after `run`, in order of entry."""
    steps: list[Record]
    """The refinements: ``generation``, ``step``, ``outcome``, ``name``, ``parent``,
    ``problem``, ``code``, its ``literals``, and whether these are more (``grown``)."""
    completed: int
    """Completed generations."""

    def __init__(
        self,
        config: DiscoveryConfig,
        folder: pathlib.Path,
        provider: Provider | None,
        limits: Limits | None = None,
        candidate: MakeCandidate = Candidate,
        initial: Mapping[str, str] | None = None,
        stream: TextIO | None = None,
    ) -> None:
        super().__init__(config, folder, provider, limits, candidate, stream)
        self._initial = prompts.initial() if initial is None else dict(initial)
        self._screened: list[float] = []

    @classmethod
    def recorded(cls, folder: pathlib.Path) -> "Discovery":
        """Rebuild a run, which may still run, from its events; write nothing.

        Generations that the events do not complete are left out.

        Raises:
            ValueError: The folder holds no discovery, or one without members.
        """
        made = read_config(folder)
        if made["kind"] != METHOD:
            raise ValueError(
                f"{folder} holds a run of kind {made['kind']}; give the folder of a "
                "discovery"
            )
        fields = dict(made["config"])
        with readable(folder):
            initial = fields.pop("initial")
            config = DiscoveryConfig.from_json(fields)
            run = cls(config, folder, None, initial=initial, stream=io.StringIO())
            with contextlib.suppress(ProviderError):
                run.run()
        if not run.members:
            raise ValueError(f"{folder} has no member yet; continue the search")
        return run

    def run(self) -> list[Member]:
        """Make the missing generations; return the archive, the best first.

        Raises:
            ProviderError: There is no reply. Repeat the command to continue.
            LimitReachedError: A limit is reached. Raise it and repeat the command.
            ValueError: The folder holds another run, a ranked rule is unknown, or no
                first member has a score.
            FolderInUseError: Another process uses the folder.
            MissingExtraError: filelock is not installed.
        """
        self.members, self.steps, self._screened = [], [], []
        self.completed = 0
        options = {"initial": self._initial, "recall": self._provider is None}
        with self._opened(METHOD, self.config.evaluation, **options) as opened:
            self._session, self._scorer = opened
            if self._provider is not None:
                check_ranked(self.config.ranked)
            self._first()
            self._rank(0)
            total = self.config.generations
            with Progress("generation", total, self._stream) as progress:
                for generation in range(total):
                    self._generation(generation)
                    self.completed = generation + 1
                    ranks = self._rank(self.completed)
                    best = min(self._written(), key=lambda m: ranks[m.name])
                    progress.show(
                        self.completed, f"{len(ranks)} members  best {best.name}"
                    )
        return archive.best_first(self.members)

    def _first(self) -> None:
        """Evaluate the first members and the rules that are only ranked."""
        for name, code in self._initial.items():
            self._enter(name, code, range(self.config.islands))
        if not self.members:
            raise ValueError(
                f"{self.config.evaluation.limits}: no first member has a score; give "
                "another folder and larger limits or other environments"
            )
        for rule in self.config.ranked:
            self._enter(rule, None, (0,))

    def _enter(self, name: str, code: str | None, islands: Iterable[int]) -> None:
        text = None if code is None else read_code(code, KIND).to_text()
        found = self._first_scores(name, text)
        made = {"name": name, "parent": None, "code": code, "text": text}
        if found is not None:
            self.members += [archive.member(made, found, i) for i in islands]

    def _first_scores(self, name: str, text: str | None) -> Evaluation | None:
        """Return the scores of a first member, or of a rule, which has no text.

        One that diverges has no returns, and ranks last. One that has no score for
        another reason, such as a time limit of the checks, does not enter.
        """
        names = self.config.evaluation.environments
        self._journal.proposal = name
        try:
            if text is not None:
                return self._scores(name, text, first=True)
            with self._scorer.candidate(rule=name) as one:
                return Evaluation({n: self._scorer.train(one, name, n) for n in names})
        except DivergedError:
            return Evaluation({n: {} for n in names})
        except (RefusedReplyError, WorkerError) as error:
            problem = f"{name} is not in the archive, because it has no score: {error}"
            warn_user(problem)
            return None

    def _written(self) -> list[Member]:
        return [m for m in self.members if m.code is not None]

    def _rank(self, completed: int) -> Mapping[str, float]:
        """Record the average ranks after so many generations, by name."""
        ranks = archive.rankings(self.members)
        self._session.remember(
            "ranks", lambda: {"ranks": ranks}, derived=True, completed=completed
        )
        return ranks

    def _generation(self, generation: int) -> None:
        config = self.config
        island = generation % config.islands
        if config.islands > 1 and generation and not generation % config.migrate:
            self._migrate()
        mine = [m for m in self.members if m.island == island or m.code is None]
        # The draws of a generation follow from its number, so resuming needs no state.
        rng = np.random.default_rng([config.seed, generation])
        base, exploited = archive.select(
            mine, rng, exploit=config.exploit, top=config.top, cells=config.cells
        )
        others = archive.context(mine, rng, top=config.top)
        ranks = archive.rankings(self.members)
        self._session.remember(
            "generation",
            lambda: {
                "exploited": exploited,
                "context": [m.name for m in others],
                "best_average_rank": min(ranks[m.name] for m in self._written()),
            },
            generation=generation,
            base=base.name,
        )
        messages = [
            Message(role="system", content=prompts.thinker()),
            Message(role="user", content=prompts.to_refine(base, others, ranks)),
        ]
        found = self._refine(generation, base, messages)
        self.members += [dataclasses.replace(m, island=island) for m in found]

    def _refine(
        self, generation: int, base: Member, messages: list[Message]
    ) -> list[Member]:
        """Make the refinements of a generation; return the new members."""
        current, found = base, []
        for step in range(self.config.refinements):
            name = self._journal.proposal = f"g{generation}_{step}"
            suggestion = self._think(messages)
            if suggestion is None:
                self._note(generation, step, current, _Judged("failed_thinker"))
                continue
            judged = self._code(name, current, suggestion)
            self._note(generation, step, current, judged)
            if judged.member is None:
                content = prompts.unused(judged.problem)
            else:
                found.append(judged.member)
                current = judged.member
                if self.config.refine_from == "best":
                    current = archive.best_first([base, *found])[0]
                ranks = archive.rankings([*self.members, *found])
                content = prompts.written(judged.member, current, ranks)
            messages.append(Message(role="user", content=content))
        return found

    def _think(self, messages: list[Message]) -> str | None:
        """Return the thinker's suggestion; None after too many tries."""
        temperature = self.config.thinker_temperature
        for attempt in range(1, self.config.attempts + 1):
            asked = {"role": "thinker", "attempt": attempt}
            reply = self._session.ask(messages, temperature, **asked)
            messages.append(Message(role="assistant", content=shown(reply["text"])))
            found = self._session.read(reply, ("thought", "suggestion"))
            if not found["problem"]:
                return found["suggestion"]
            content = prompts.invalid(found["problem"])
            messages.append(Message(role="user", content=content))
        return None

    def _code(self, name: str, current: Member, suggestion: str) -> _Judged:
        """Let the coder write a suggestion until it is evaluated, or tries are over."""
        request = f"The optimizer:\n\n{current.code}\nThe suggestion:\n\n{suggestion}"
        messages = [
            Message(role="system", content=prompts.coder()),
            Message(role="user", content=request),
        ]
        unread = failed = 0
        problem, code, text = "", None, None
        while max(unread, failed) < self.config.attempts:
            asked = {"role": "coder", "attempt": unread + failed + 1}
            temperature = self.config.coder_temperature
            reply = self._session.ask(messages, temperature, **asked)
            messages.append(Message(role="assistant", content=shown(reply["text"])))
            read = self._session.read(reply, ("code",), KIND)
            code, text = read.get("code"), read.get("text")
            try:
                found = self._scores(name, usable(read)["text"])
            except RefusedReplyError as error:
                problem = str(error)
                if error.category in ("duplicate", "screened", "hopeless"):
                    return _Judged(error.category, problem, code, text)
                unread, content = unread + 1, prompts.invalid(problem)
            except WorkerError as error:
                problem = str(error)
                failed, content = failed + 1, prompts.failed(problem)
            else:
                made = {"name": name, "parent": current.name, "code": code}
                member = archive.member(made | {"text": text}, found)
                return _Judged("evaluated", "", code, text, member)
            messages.append(Message(role="user", content=content))
        outcome = "failed_coder" if unread > failed else "failed_evaluation"
        return _Judged(outcome, f"the code was not usable: {problem}", code, text)

    def _scores(self, name: str, text: str, *, first: bool = False) -> Evaluation:
        """Check and train an expression, stage by stage; raise as `Scorer.evaluate`.

        What is not worth more training is refused.
        """

        def screen(candidate: Candidate) -> None:
            if self.config.screen_steps is not None:
                self._screen(candidate, text, first)

        def judge(scores: Mapping[str, Record]) -> None:
            if self.config.stop_hopeless and not first:
                self._stop(scores)

        found = self._scorer.evaluate(text, new=True, screen=screen, judge=judge)
        self._scorer.enter(text, name)
        return found

    def _screen(self, candidate: Candidate, text: str, first: bool) -> None:
        name = self.config.evaluation.environments[0]
        steps = self.config.screen_steps
        short = self._scorer.train(candidate, text, name, steps)
        value = float(np.mean(short["returns"]))
        if not first and value < min(self._screened, default=value):
            raise RefusedReplyError(
                "screened",
                f"after {steps:g} steps in {name} its return of {value:.4g} is below "
                "that of every optimizer so far",
            )
        self._screened.append(value)

    def _stop(self, scores: Mapping[str, Record]) -> None:
        means = {name: float(np.mean(s["returns"])) for name, s in scores.items()}
        names = self.config.evaluation.environments
        if archive.hopeless(self.members, means, len(names)):
            found = ", ".join(f"{value:.4g} in {name}" for name, value in means.items())
            raise RefusedReplyError(
                "hopeless",
                f"with returns of {found} it cannot reach the better half of the "
                "archive",
            )

    def _migrate(self) -> None:
        """Copy the best of each island to the next one."""
        islands = range(self.config.islands)
        own = [[m for m in self.members if m.island == i and m.code] for i in islands]
        # Choose all before copying, so that no member moves twice.
        best = [archive.best_first(mine)[0] for mine in own]
        for island, member in zip(islands, best, strict=True):
            to = (island + 1) % self.config.islands
            if all(m.name != member.name or m.island != to for m in self.members):
                self.members.append(dataclasses.replace(member, island=to))

    def _note(
        self, generation: int, step: int, parent: Member, judged: _Judged
    ) -> None:
        """Record the outcome of a refinement."""
        numbers = archive.literals(judged.text)
        made = {
            "outcome": judged.outcome,
            "name": judged.member.name if judged.member else None,
            "parent": parent.name,
            "problem": judged.problem,
            "code": judged.code,
            "literals": numbers,
            "grown": len(numbers) > len(archive.literals(parent.text)),
        }
        place = {"generation": generation, "step": step}
        self.steps.append(
            self._session.remember("refinement", lambda: made, derived=True, **place)
        )
