"""Commands that analyze rules: diagnose and analyze-lpg."""

import dataclasses
import pathlib
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from learned_opt_rl.cli._common import Rules, Settings, optional


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnose:
    """Measure the updates of rules during a run (needs the extras eval and train).

    Plots, for each rollout, the cosine of the update with the gradient and its momenta,
    the sizes of the update and of its noise, and the share of dormant neurons.
    """

    rules: Rules
    """Rules, as for compare."""
    environment: Annotated[str, arg(metavar="NAME")]
    """Environment, for example Breakout-MinAtar."""
    steps: float = 1e6
    """Environment steps of each run."""
    seeds: int = 1
    """Number of seeds."""
    out: Annotated[pathlib.Path, arg(metavar="FOLDER")] = pathlib.Path("analysis")
    """Folder for the records and the figure."""

    def run(self) -> int:
        from learned_opt_rl.evaluation.diagnostics import diagnose

        seeds = range(self.seeds)
        paths = diagnose(self.rules, self.environment, self.steps, seeds, self.out)
        print(*paths, sep="\n")
        return 0


@dataclasses.dataclass(frozen=True, kw_only=True)
class AnalyzeLPG:
    """Analyze the predictions of an LPG (needs the extras eval and train).

    A near-optimal policy of a grid world stays fixed while the rule updates the
    predictions. The command reproduces the analyses in figures 4 to 6 of Oh et al.
    2020.
    """

    rule: Annotated[Positional[str | None], optional("RULE")] = None
    """Name of an artifact with algorithm lpg."""
    random_weights: Annotated[int | None, optional("SEED")] = None
    """Analyze an LPG with random weights instead, drawn with this seed."""
    mode: str = "all_shortlife"
    """Mode of the grid worlds; its observations must be tabular."""
    actions: Literal["five", "nine", "eighteen", "drawn"] | None = None
    """Set of actions; by default that of the mode."""
    grids: int = 128
    """Number of levels."""
    held_out: int = 10
    """Number of these levels held out to test the value regression."""
    seed: int = 0
    """Seed of all random numbers."""
    batch: int = 8
    """Levels evaluated together."""
    regression_steps: int = 5000
    """Adam steps of the value regression."""
    settings: Settings = ()
    """Settings of the evaluation, for example updates=500 every=10 gamma=0.99."""
    out: Annotated[pathlib.Path, arg(metavar="FOLDER")] = pathlib.Path("lpg")
    """Folder for the records, the arrays and the figures."""

    def run(self) -> int:
        from learned_opt_rl.envs.gridworld import get_mode
        from learned_opt_rl.evaluation.lpg import analysis
        from learned_opt_rl.rules import lpg
        from learned_opt_rl.rundir import settings

        if (self.rule is None) == (self.random_weights is None):
            raise ValueError("give either RULE or --random-weights SEED")
        mode = get_mode(self.mode)
        if self.actions is not None:
            mode = dataclasses.replace(mode, actions=self.actions)
        chosen = settings.parse(self.settings, analysis.EvaluationConfig)
        seed = self.random_weights or 0
        record, paths = analysis.run(
            lpg.pretrained(self.rule) if self.rule else analysis.untrained(seed),
            mode,
            self.out,
            config=analysis.EvaluationConfig(**chosen),
            grids=self.grids,
            held_out=self.held_out,
            seed=self.seed,
            batch=self.batch,
            regression_steps=self.regression_steps,
            name=self.rule or f"random:{self.random_weights}",
        )
        print(f"{record['rule']}: KL {record['kl'][0]} -> {record['kl'][-1]}")
        print(*paths, sep="\n")
        return 0


Commands = Diagnose | AnalyzeLPG
