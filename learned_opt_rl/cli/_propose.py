"""The command that lets a language model propose algorithms."""

import dataclasses
import pathlib
import sys
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from learned_opt_rl.cli._common import Settings, optional, stopping

if TYPE_CHECKING:
    from learned_opt_rl.training.proposal import Provider
    from learned_opt_rl.training.proposal.conversation import ConversationConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Propose:
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
    environments: Annotated[tuple[str, ...], optional("NAME ...")] = (
        "Breakout-MinAtar",
    )
    """Where proposals are trained."""
    steps: float = 1e6
    """Environment steps of each run."""
    seeds: int = 8
    """Agents in each environment, trained together."""
    generations: int = 30
    """Proposals, valid or not."""
    provider: Literal["files", "openai", "replay"] = "files"
    """Who answers: files in FOLDER/prompts that you or a web chat fill in; an endpoint
    with OpenAI's protocol (OPENAI_API_KEY, OPENAI_BASE_URL); or a recorded run."""
    model: Annotated[str | None, optional("NAME")] = None
    """Model of the endpoint, or the name to record for whoever fills in the files."""
    record: Annotated[pathlib.Path | None, optional("FOLDER")] = None
    """The recorded run, for --provider replay."""
    wait: float = 0.0
    """Seconds to wait for each file; by default the command stops and is repeated."""
    temperature: Annotated[float | None, optional("NUMBER")] = None
    """The model's temperature."""
    history: Annotated[int | None, optional("INT")] = None
    """Latest proposals in a prompt; all by default."""
    allow_invalid: bool = False
    """Only warn about drifts that violate the conditions of mirror learning."""
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

    def run(self) -> int:
        from learned_opt_rl.training.proposal import Conversation, Limits, prompts
        from learned_opt_rl.training.proposal.journal import LimitReachedError

        if self.show_prompt:
            print(prompts.system(self.target))
            return 0
        config = self._config()
        if self.dry_run:
            print(_bill(config))
            return 0
        limits = Limits(self.max_cost, self.max_steps, self.max_hours, self.prices)
        run = Conversation(config, self.out, self._provider(), limits)
        with stopping(f"{self.out} keeps all replies and scores; repeat to resume"):
            try:
                best = run.run()
            except LimitReachedError as reached:
                print(f"stopped: {reached}", file=sys.stderr)
                return 1
        print(f"best: {best['name']}, fitness {best['fitness']:.4g}; see {self.out}")
        return 0

    def _config(self) -> "ConversationConfig":
        from learned_opt_rl.agents.config import PPOConfig
        from learned_opt_rl.rundir import settings
        from learned_opt_rl.training.proposal import (
            ConversationConfig,
            EvaluationConfig,
        )

        evaluation = EvaluationConfig(
            environments=self.environments,
            steps=self.steps,
            seeds=self.seeds,
            strict=not self.allow_invalid,
            settings=settings.parse(self.settings, PPOConfig),
        )
        return ConversationConfig(
            target=self.target,
            evaluation=evaluation,
            generations=self.generations,
            temperature=self.temperature,
            history=self.history,
        )

    def _provider(self) -> "Provider":
        from learned_opt_rl.training.proposal import Files, providers
        from learned_opt_rl.training.proposal.journal import EVENTS

        if self.provider == "files":
            return Files(self.out / "prompts", self.wait, self.model or "files")
        if self.provider == "replay":
            if self.record is None:
                raise ValueError("--provider replay needs --record FOLDER")
            return providers.Replay(providers.recorded(self.record / EVENTS))
        if self.model is None:
            raise ValueError("--provider openai needs --model NAME")
        from learned_opt_rl.training.proposal.openai_api import OpenAI

        return OpenAI(self.model)


def _bill(config: "ConversationConfig") -> str:
    one = config.evaluation
    runs = (config.generations + 1) * len(one.environments) * one.seeds
    return (
        f"at most {config.generations} replies and {runs:,} runs of {one.steps:,.0f} "
        f"environment steps, with the warm start: {runs * one.steps:,.0f} steps"
    )
