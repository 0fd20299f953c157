"""Commands that let a language model propose algorithms: propose and discover."""

import contextlib
import dataclasses
import pathlib
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from learned_opt_rl.cli._common import Settings, optional, print_table, stopping

if TYPE_CHECKING:
    from learned_opt_rl.training.proposal import EvaluationConfig, Limits, Provider
    from learned_opt_rl.training.proposal.archive import Member


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Options:
    """Options of both commands."""

    environments: Annotated[tuple[str, ...], optional("NAME ...")] = (
        "Breakout-MinAtar",
    )
    """Where proposals are trained."""
    steps: float = 1e6
    """Environment steps of each run."""
    seeds: int = 8
    """Agents in each environment, trained together."""
    provider: Literal["files", "openai", "replay"] = "files"
    """Who answers: files in FOLDER/prompts that you or a web chat fill in; an endpoint
    with OpenAI's protocol (OPENAI_API_KEY, OPENAI_BASE_URL); or a recorded run."""
    model: Annotated[str | None, optional("NAME")] = None
    """Model of the endpoint, or the name to record for whoever fills in the files."""
    record: Annotated[pathlib.Path | None, optional("FOLDER")] = None
    """The recorded run, for --provider replay."""
    wait: float = 0.0
    """Seconds to wait for each file; by default the command stops and is repeated."""
    max_cost: Annotated[float | None, optional("DOLLARS")] = None
    """Stop at this cost of replies."""
    max_steps: Annotated[float | None, optional("STEPS")] = None
    """Stop at this number of environment steps."""
    max_hours: Annotated[float | None, optional("HOURS")] = None
    """Stop after this time of replies and training."""
    prices: Annotated[tuple[float, float] | None, optional("PROMPT REPLY")] = None
    """Dollars per million tokens; by default from a dated table."""
    show_prompt: bool = False
    """Print the system prompt, and exit."""
    dry_run: bool = False
    """Print the largest cost in steps, and exit."""
    settings: Settings = ()
    """Settings of the agent, for example hidden=32x32."""

    def evaluation(self, **options: bool) -> "EvaluationConfig":
        """Return how proposals are scored."""
        from learned_opt_rl.agents.config import PPOConfig
        from learned_opt_rl.rundir import settings
        from learned_opt_rl.training.proposal import EvaluationConfig

        return EvaluationConfig(
            environments=self.environments,
            steps=self.steps,
            seeds=self.seeds,
            settings=settings.parse(self.settings, PPOConfig),
            **options,
        )

    def limits(self) -> "Limits":
        """Return the bounds on the costs."""
        from learned_opt_rl.training.proposal import Limits

        return Limits(self.max_cost, self.max_steps, self.max_hours, self.prices)

    def answering(self, out: pathlib.Path) -> "Provider":
        """Return who answers."""
        from learned_opt_rl.training.proposal import Files, providers
        from learned_opt_rl.training.proposal.journal import EVENTS

        if self.provider == "files":
            return Files(out / "prompts", self.wait, self.model or "files")
        if self.provider == "replay":
            if self.record is None:
                raise ValueError("--provider replay needs --record FOLDER")
            return providers.Replay(providers.recorded(self.record / EVENTS))
        if self.model is None:
            raise ValueError("--provider openai needs --model NAME")
        from learned_opt_rl.training.proposal.openai_api import OpenAI

        return OpenAI(self.model)

    def bill(self, replies: int, candidates: int) -> str:
        """Return the largest cost of a run."""
        runs = candidates * len(self.environments) * self.seeds
        return (
            f"at most {replies:,} replies and {runs:,} runs of {self.steps:,.0f} "
            f"environment steps: {runs * self.steps:,.0f} steps"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Propose(_Options):
    """Let a language model propose drifts or optimizers, in one conversation.

    Each proposal is trained with before the next. Its code is translated to a formula
    and never executed. To resume an interrupted run, repeat the command.
    """

    target: Annotated[
        Positional[Literal["drift", "no_features", "open"]], arg(metavar="TARGET")
    ]
    """What to look for: a drift, or an optimizer (no_features; open: OPEN's inputs)."""
    out: Annotated[pathlib.Path, arg(metavar="FOLDER")]
    """Folder of the run."""
    generations: int = 30
    """Proposals, valid or not."""
    temperature: Annotated[float | None, optional("NUMBER")] = None
    """The model's temperature."""
    history: Annotated[int | None, optional("INT")] = None
    """Latest proposals in a prompt; all by default."""
    allow_invalid: bool = False
    """Only warn about drifts that violate the conditions of mirror learning."""

    def run(self) -> int:
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
            evaluation=self.evaluation(strict=not self.allow_invalid),
            generations=self.generations,
            temperature=self.temperature,
            history=self.history,
        )
        if self.dry_run:
            print(self.bill(self.generations, self.generations + 1))
            return 0
        run = Conversation(config, self.out, self.answering(self.out), self.limits())
        with _stopping(self.out) as finished:
            best = run.run()
            finished.append(best)
            print(
                f"best: {best['name']}, fitness {best['fitness']:.4g}; see {self.out}"
            )
        return 0 if finished else 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Discover(_Options):
    """Let a thinker and a coder refine an archive of optimizers without settings.

    Both roles are played by one language model. Its code is translated to a formula and
    never executed. To resume an interrupted run, repeat the command.
    """

    out: Annotated[pathlib.Path | None, optional("FOLDER")] = None
    """Folder of the run."""
    generations: int = 80
    """Generations; each refines one optimizer."""
    refinements: int = 8
    """Suggestions in a generation."""
    ranked: Annotated[tuple[str, ...], optional("RULE ...")] = ("adam:1e-3", "minatar")
    """Rules that are ranked in the archive, as for compare."""
    refine_from: Literal["latest", "best"] = "latest"
    """Optimizer of its generation that a refinement starts from."""
    islands: int = 1
    """Archives that evolve apart."""
    migrate: int = 10
    """Generations between two exchanges of the islands' best."""
    cells: bool = False
    """Explore among the best of similar size that read the same inputs."""
    screen_steps: Annotated[float | None, optional("STEPS")] = None
    """Length of a first run in one environment that a candidate must not be last in."""
    stop_hopeless: bool = False
    """Stop candidates that cannot reach the better half."""
    temperatures: tuple[float, float] = (0.7, 0.3)
    """Temperatures of the thinker and the coder."""
    seed: int = 0
    """Seed of all draws."""
    replay: Annotated[pathlib.Path | None, optional("FOLDER")] = None
    """Print the archive of a recorded run, rebuilt from its events, and exit."""

    def run(self) -> int:
        from learned_opt_rl.training.proposal import (
            Discovery,
            DiscoveryConfig,
            prompts,
        )

        if self.show_prompt:
            print(prompts.thinker(), prompts.coder(), sep="\n\n")
            return 0
        if self.replay is not None:
            print_table(_table(Discovery.recorded(self.replay)))
            return 0
        config = DiscoveryConfig(
            evaluation=self.evaluation(),
            thinker_temperature=self.temperatures[0],
            coder_temperature=self.temperatures[1],
            **{name: getattr(self, name) for name in _SHARED},
        )
        if self.dry_run:
            made = self.generations * self.refinements
            replies = made * config.attempts * 3
            first = len(prompts.initial()) + len(self.ranked)
            print(self.bill(replies, made * config.attempts + first))
            return 0
        if self.out is None:
            raise ValueError("give --out FOLDER")
        run = Discovery(config, self.out, self.answering(self.out), self.limits())
        with _stopping(self.out) as finished:
            finished += run.run()
            print_table(_table(run.members))
        return 0 if finished else 1


_SHARED = (
    *("generations", "refinements", "ranked", "refine_from", "islands", "migrate"),
    *("cells", "screen_steps", "stop_hopeless", "seed"),
)


@contextlib.contextmanager
def _stopping(out: pathlib.Path) -> Iterator[list[object]]:
    """Explain a stop; what is yielded stays empty if a limit was reached."""
    from learned_opt_rl.training.proposal.journal import LimitReachedError

    finished: list[object] = []
    with stopping(f"{out} keeps all replies and scores; repeat to resume"):
        try:
            yield finished
        except LimitReachedError as reached:
            print(f"stopped: {reached}", file=sys.stderr)


def _table(members: "list[Member]") -> list[list[str]]:
    """Return the archive as a table, the best first."""
    from learned_opt_rl.training.proposal import archive

    ranks = archive.average_ranks(members)
    names = list(members[0].returns)
    lines = [["name", "parent", "average rank", *names]]
    for i in sorted(range(len(members)), key=lambda i: ranks[i]):
        one = members[i]
        values = (one.returns[name] for name in names)
        shown = ["none" if value is None else f"{value:.4g}" for value in values]
        lines.append([one.name, one.parent or "", f"{ranks[i]:.2f}", *shown])
    return lines
