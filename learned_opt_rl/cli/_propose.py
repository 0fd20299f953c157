"""Commands that let a language model propose algorithms: propose, discover, refine."""

import collections
import contextlib
import dataclasses
import functools
import math
import os
import pathlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any, Literal

from tyro.conf import Positional, arg

from learned_opt_rl.cli._bill import Conversations, dollars, runs
from learned_opt_rl.cli._common import (
    ClusterOption,
    QuietOption,
    Settings,
    on_cluster,
    optional,
    print_table,
    stopping,
)

if TYPE_CHECKING:
    from learned_opt_rl.training.proposal import (
        DiscoveryConfig,
        EvaluationConfig,
        Limits,
        Provider,
    )
    from learned_opt_rl.training.proposal.discovery import Discovery


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training(QuietOption):
    """Options of all commands that train agents with expressions."""

    max_steps: Annotated[float | None, optional("STEPS")] = None
    """Stop after this number of environment steps."""
    max_hours: Annotated[float | None, optional("HOURS")] = None
    """Stop after this time, for replies and training together."""
    check_seconds: float = 90.0
    """Time limit for checking an expression; beyond it, the expression is refused."""
    train_seconds: float = 7200.0
    """Time limit for training with an expression in one environment; beyond it, the
    expression has no score."""
    memory: float = 32.0
    """Memory limit of the process that evaluates expressions on a CPU, in GiB; 0 for
    none."""
    dry_run: bool = False
    """Print the maximum cost, and exit."""
    settings: Settings = ()
    """Settings of the agent, for example hidden=32x32."""

    def evaluation(
        self, base: "EvaluationConfig | None", **given: Any
    ) -> "EvaluationConfig":
        """Return how expressions are scored: as ``base``, with other fields."""
        from learned_opt_rl import checks
        from learned_opt_rl.agents.config import PPOConfig
        from learned_opt_rl.rundir import settings
        from learned_opt_rl.training.proposal import EvaluationConfig

        given["settings"] = {} if base is None else dict(base.settings)
        given["settings"] |= settings.parse(self.settings, PPOConfig)
        given |= {n: getattr(self, n) for n in ("check_seconds", "train_seconds")}
        fix = "give GiB, or 0 for no limit"
        memory = checks.finite("memory", self.memory, fix, least=0)
        given["memory"] = math.ceil(memory * 2**30) or None
        if base is None:
            return EvaluationConfig(**given)
        return dataclasses.replace(base, **given)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Options(Training, ClusterOption):
    """Options of the commands that ask a model."""

    out: Annotated[pathlib.Path | None, optional("FOLDER")] = None
    """Folder of the run."""
    environments: Annotated[tuple[str, ...], optional("NAME ...")] = (
        "Breakout-MinAtar",
    )
    """Environments in which agents are trained with the proposals."""
    steps: float = 1e6
    """Environment steps of each run."""
    seeds: int = 8
    """Number of agents in each environment, trained together."""
    provider: Literal["files", "openai", "replay"] = "files"
    """Source of the replies: files in FOLDER/prompts, which you write, for example from
    a web chat; an endpoint with OpenAI's protocol (OPENAI_API_KEY, OPENAI_BASE_URL); or
    a recorded run."""
    model: Annotated[str | None, optional("NAME")] = None
    """Model of the endpoint; for files, the name to record as their author."""
    record: Annotated[pathlib.Path | None, optional("FOLDER")] = None
    """Folder of the recorded run, for --provider replay."""
    wait: float = 0.0
    """Seconds to wait for each file. By default, the command stops; repeat it when the
    file is there."""
    max_cost: Annotated[float | None, optional("DOLLARS")] = None
    """Stop when the replies have cost this much."""
    prices: Annotated[tuple[float, float] | None, optional("PROMPT REPLY")] = None
    """Dollars per million tokens; by default from a dated table."""
    json_mode: bool = True
    """Request JSON mode."""
    max_tokens: Annotated[int | None, optional("INT")] = None
    """Maximum number of tokens of a reply of the endpoint."""
    timeout: float = 600.0
    """Seconds to wait for a reply of the endpoint."""
    retries: int = 8
    """Number of tries after the first if the endpoint fails."""
    show_prompt: bool = False
    """Print the system prompt, and exit."""

    def scoring(self, **options: Any) -> "EvaluationConfig":
        """Return how proposals are scored."""
        where = {n: getattr(self, n) for n in ("environments", "steps", "seeds")}
        return self.evaluation(None, **where, **options)

    def limits(self) -> "Limits":
        """Return the bounds on the costs."""
        from learned_opt_rl.training.proposal import Limits

        return Limits(self.max_cost, self.max_steps, self.max_hours, self.prices)

    def answering(self, out: pathlib.Path) -> "Provider":
        """Return the provider."""
        from learned_opt_rl.training.proposal import Files, providers
        from learned_opt_rl.training.proposal.journal import EVENTS

        if self.provider == "files":
            return Files(out / "prompts", self.wait, self.model or "files")
        if self.provider == "replay":
            if self.record is None:
                raise ValueError("--provider replay needs --record FOLDER")
            return providers.Replay(providers.recorded(self.record / EVENTS))
        from learned_opt_rl.training.proposal.providers import OpenAI

        options = {name: getattr(self, name) for name in _ENDPOINT}
        return OpenAI(self._endpoint_model(), **options)

    def folder(self) -> pathlib.Path:
        """Return the folder of the run, which must be given."""
        if self.out is None:
            raise ValueError("give --out FOLDER")
        return self.out

    @contextlib.contextmanager
    def search(self, make: Any, config: Any) -> "Iterator[Any]":
        """Open a search in the folder; ``make`` is its class."""
        from learned_opt_rl.training.proposal.scoring.evaluation import Candidate

        out, candidate = self.folder(), Candidate
        with on_cluster(self.address) as cluster:
            if cluster is not None:
                from learned_opt_rl.training.proposal.scoring import remote

                candidate = functools.partial(remote.RemoteCandidate, cluster=cluster)
            yield make(config, out, self.answering(out), self.limits(), candidate)

    def _endpoint_model(self) -> str:
        if self.model is None:
            raise ValueError("--provider openai needs --model NAME")
        return self.model

    def bill(
        self, config: "EvaluationConfig", expressions: int, *held: Conversations
    ) -> str:
        """Return the largest cost of training, and the cost of the replies."""
        from learned_opt_rl.training.proposal.providers import check_bounds

        check_bounds(self.timeout, self.retries, self.max_tokens)
        model = self._endpoint_model() if self.provider == "openai" else ""
        replies = sum(one.number * one.turns for one in held)
        price = dollars(held, self.limits(), model, self.max_tokens)
        return "\n".join(filter(None, (runs(config, expressions, replies), price)))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Propose(_Options):
    """Let a language model propose drifts or optimizers, in one conversation.

    Agents are trained with each proposal before the model makes the next one. Proposed
    code is translated to an expression and never executed. To resume an interrupted
    run, repeat the command.
    """

    target: Annotated[
        Positional[Literal["drift", "no_features", "open", "open_recurrent"]],
        arg(metavar="TARGET"),
    ]
    """Kind of rule to search for: drift, or an optimizer that reads the gradient and
    its momenta (no_features), OPEN's inputs (open), or OPEN's inputs and memory
    (open_recurrent)."""
    generations: int = 30
    """Number of proposals, valid or not."""
    temperature: Annotated[float | None, optional("NUMBER")] = None
    """Temperature of the model."""
    history: Annotated[int | None, optional("INT")] = None
    """Number of latest proposals in a prompt; by default all."""
    allow_invalid: bool = False
    """Only warn about drifts that violate the conditions of mirror learning."""

    def run(self) -> int:
        leave_gpu_memory()
        from learned_opt_rl.training.proposal import (
            Conversation,
            ConversationConfig,
            prompts,
        )

        if self.show_prompt:
            print(prompts.system(self.target))
            return 0
        config = ConversationConfig(
            target=self.target,
            evaluation=self.scoring(strict=not self.allow_invalid),
            generations=self.generations,
            temperature=self.temperature,
            history=self.history,
        )
        if self.dry_run:
            start = len(prompts.system(self.target))
            held = Conversations(1, self.generations, start, 1, 1, self.history)
            print(self.bill(config.evaluation, self.generations + 1, held))
            return 0
        out = self.folder()
        with stopping_search(out) as finished, self.search(Conversation, config) as run:
            best = run.run()
            finished.append(best)
            print(f"best: {best['name']}, fitness {best['fitness']:.4g}; see {out}")
        return 0 if finished else 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Discover(_Options):
    """Let a language model refine an archive of optimizers without hyperparameters.

    The model plays two roles: a thinker suggests changes and a coder writes them.
    Proposed code is translated to an expression and never executed. To resume an
    interrupted run, repeat the command.
    """

    generations: int = 80
    """Number of generations; each refines one optimizer."""
    refinements: int = 8
    """Number of suggestions in a generation."""
    ranked: Annotated[tuple[str, ...], optional("RULE ...")] = ("adam:1e-3", "minatar")
    """Rules to rank with the members of the archive: handcrafted optimizers,
    optax.NAME:RATE or installed artifacts."""
    refine_from: Literal["latest", "best"] = "latest"
    """Optimizer of the generation from which a refinement starts."""
    islands: int = 1
    """Number of archives that evolve separately."""
    migrate: int = 10
    """Number of generations between exchanges of the islands' best members."""
    cells: bool = False
    """Pick the members to explore from the best of each size and set of inputs."""
    screen_steps: Annotated[float | None, optional("STEPS")] = None
    """Length of a first run in one environment; a candidate must not be last in it."""
    stop_hopeless: bool = False
    """Stop training candidates that cannot reach the better half of the archive."""
    temperatures: tuple[float | Literal["none"], float | Literal["none"]] = (0.7, 0.3)
    """Temperatures of thinker and coder; none for models without a temperature."""
    seed: int = 0
    """Seed of all random draws."""
    replay: Annotated[pathlib.Path | None, optional("FOLDER")] = None
    """Print the archive of a recorded run, rebuilt from its events, and exit."""

    def run(self) -> int:
        leave_gpu_memory()
        from learned_opt_rl.training.proposal import (
            Discovery,
            DiscoveryConfig,
            prompts,
        )

        if self.show_prompt:
            print(prompts.thinker(), prompts.coder(), sep="\n\n")
            return 0
        if self.replay is not None:
            _print_archive(Discovery.recorded(self.replay))
            return 0
        given = [None if t == "none" else t for t in self.temperatures]
        config = DiscoveryConfig(
            evaluation=self.scoring(),
            thinker_temperature=given[0],
            coder_temperature=given[1],
            **{name: getattr(self, name) for name in _SHARED},
        )
        if self.dry_run:
            print(self._largest(config))
            return 0
        out = self.folder()
        with stopping_search(out) as finished, self.search(Discovery, config) as run:
            finished += run.run()
            _print_archive(run)
        return 0 if finished else 1

    def _largest(self, config: "DiscoveryConfig") -> str:
        """Return the text of --dry-run."""
        from learned_opt_rl.training.proposal import prompts

        made = self.generations * self.refinements
        first = len(prompts.initial())
        trained = made * config.attempts + first + len(self.ranked)
        # The thinker gets an optimizer, one more per environment, and what was written,
        # with the best one if refinements start from it.
        thinker = Conversations(
            number=self.generations,
            turns=self.refinements * config.attempts,
            start=len(prompts.thinker()),
            codes=1 + len(self.environments),
            added=3 if self.refine_from == "best" else 2,
        )
        start = len(prompts.coder())
        # Both unusable replies and failed trainings may be one short of too many.
        coder = Conversations(made, 2 * config.attempts - 1, start, codes=2)
        text = self.bill(config.evaluation, trained, thinker, coder)
        if self.screen_steps is not None:
            screened = (made * config.attempts + first) * self.seeds
            text += (
                f"\nbefore that, at most {screened:,} runs of {self.screen_steps:,.0f} "
                f"steps to screen: {screened * self.screen_steps:,.0f} steps"
            )
        return text


@dataclasses.dataclass(frozen=True, kw_only=True)
class Refine(Training):
    """Tune the constants of an expression and remove operations that it does not need.

    CMA-ES tunes the constants. Then the command removes each operation in turn, and
    keeps the shorter expression if the fitness on the same seeds does not fall. To
    resume an interrupted run, repeat the command.
    """

    source: Annotated[Positional[pathlib.Path], arg(metavar="SOURCE")]
    """Folder of `train propose`, `discover`, `symbolic` or `refine`, or file of an
    expression."""
    proposal: Annotated[str | None, optional("NAME")] = None
    """Name of the proposal to refine; by default the best."""
    out: Annotated[pathlib.Path, arg(metavar="FOLDER")]
    """Folder of the run."""
    environments: Annotated[tuple[str, ...], optional("NAME ...")] = ()
    """Environments in which to train agents; by default those of the search."""
    steps: Annotated[float | None, optional("STEPS")] = None
    """Environment steps of each run; by default those of the search."""
    seeds: Annotated[int | None, optional("INT")] = None
    """Number of agents in each environment; by default as in the search. Their seeds
    are not those of the search."""
    generations: int = 10
    """Number of generations of CMA-ES; 0 to tune nothing."""
    population: int = 8
    """Number of expressions in a generation."""
    sigma: float = 0.1
    """Initial step size of CMA-ES; relative for small constants."""
    drops: int = 30
    """Maximum number of shorter expressions to try; 0 for none."""
    seed: int = 0
    """Seed of CMA-ES."""

    def run(self) -> int:
        leave_gpu_memory()
        from learned_opt_rl import expressions
        from learned_opt_rl.training.promotion import origin
        from learned_opt_rl.training.proposal import (
            Limits,
            Refinement,
            RefinementConfig,
        )

        found = origin.found(self.source, self.proposal)
        scoring = self._scoring(found.evaluation)
        known = found.references or {}
        config = RefinementConfig(
            text=found.text,
            evaluation=scoring,
            references=known if known.keys() >= {*scoring.environments} else None,
            **{name: getattr(self, name) for name in _TUNING},
        )
        if self.dry_run:
            print(runs(config.evaluation, config.trainings))
            return 0
        limits = Limits(None, self.max_steps, self.max_hours)
        run = Refinement(config, self.out, limits, origin=found.stages)
        with stopping_search(self.out) as finished:
            best = run.run()
            finished.append(best)
            sizes = [
                expressions.size(expressions.parse(text))
                for text in (found.text, best["text"])
            ]
            print(
                f"fitness {best['start_fitness']:.4g} -> {best['fitness']:.4g}, "
                f"{sizes[0]} -> {sizes[1]} operations and operands; see {self.out}"
            )
        return 0 if finished else 1

    def _scoring(self, base: "EvaluationConfig | None") -> "EvaluationConfig":
        given = {n: getattr(self, n) for n in ("environments", "steps", "seeds")}
        given = {n: value for n, value in given.items() if value not in (None, ())}
        if base is not None:
            given["first_seed"] = base.next_seed
        elif not self.environments:
            raise ValueError(
                f"{self.source} names no environments; give --environments"
            )
        return self.evaluation(base, **given)


_ENDPOINT = ("json_mode", "max_tokens", "timeout", "retries")
_TUNING = ("generations", "population", "sigma", "drops", "seed")
_SHARED = (
    *("generations", "refinements", "ranked", "refine_from", "islands", "migrate"),
    *("cells", "screen_steps", "stop_hopeless", "seed"),
)


def leave_gpu_memory() -> None:
    """Leave GPU memory to the worker processes; JAX reads this when it starts."""
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")


@contextlib.contextmanager
def stopping_search(out: pathlib.Path) -> Iterator[list[object]]:
    """Explain a stop; the yielded list stays empty if a limit stops the search."""
    from learned_opt_rl.training.proposal.journal import LimitReachedError

    finished: list[object] = []
    with stopping(f"{out} keeps all replies and scores; repeat to resume"):
        try:
            yield finished
        except LimitReachedError as reached:
            print(f"stopped: {reached}", file=sys.stderr)


def _print_archive(run: "Discovery") -> None:
    """Print the archive of a discovery and the outcomes of its suggestions."""
    from learned_opt_rl.training.proposal import archive

    print_table(archive.table(run.members))
    counts = collections.Counter(step["outcome"] for step in run.steps)
    found = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
    print(f"{len(run.steps)} suggestions{': ' if found else ''}{found}")
