"""Commands that analyze rules: diagnose, analyze-lpg and compare-levels."""

import dataclasses
import pathlib
from typing import Annotated, Any, Literal

from tyro.conf import Positional, arg

from learned_opt_rl.cli._common import (
    QuietOption,
    Rules,
    Settings,
    optional,
    print_table,
    shared,
    stopping,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Diagnose(QuietOption):
    """Measure the updates of rules during a run (extras train and eval).

    For each rollout, the command plots the cosine of the update with the gradient and
    its momenta, the sizes of the update and of its noise, and the share of dormant
    neurons.
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
    """Analyze the predictions of an LPG (extras train and eval).

    A near-optimal policy of a grid world stays fixed while the rule updates the
    predictions. The command repeats the analyses in figures 4 to 6 of Oh et al. (2020).
    """

    rule: Annotated[Positional[str | None], optional("RULE")] = None
    """Name of an LPG artifact."""
    random_weights: Annotated[int | None, optional("SEED")] = None
    """Analyze an LPG with random weights of this seed instead."""
    mode: str = "all_shortlife"
    """Mode of the grid worlds, with tabular observations."""
    actions: Literal["five", "nine", "eighteen", "drawn"] | None = None
    """Set of actions; by default the mode's."""
    grids: int = 128
    """Number of levels."""
    held_out: int = 10
    """Number of levels held out to test the value regression."""
    seed: int = 0
    """Seed of all random numbers."""
    batch: int = 8
    """Number of levels evaluated together."""
    regression_steps: int = 5000
    """Number of Adam steps of the value regression."""
    settings: Settings = ()
    """Settings of the evaluation, for example updates=500 every=10 gamma=0.99."""
    out: Annotated[pathlib.Path, arg(metavar="FOLDER")] = pathlib.Path("lpg")
    """Folder for the records, the arrays and the figures."""

    def run(self) -> int:
        from learned_opt_rl.envs.gridworld import get_mode
        from learned_opt_rl.evaluation.lpg import analysis, levels
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
            lpg.pretrained(self.rule)
            if self.rule
            else levels.untrained(lpg.Architecture(), seed),
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


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompareLevels(QuietOption):
    """Compare rules on held-out levels of grid worlds and chains (extras train, eval).

    Each rule trains agents from scratch on the same levels. The table shows their
    returns over the levels' optimal returns. To resume an interrupted command, repeat
    it.
    """

    rules: Rules
    """LPG artifacts or folders of train lpg; untrained:RULE for an LPG of the same
    sizes with random weights; random for agents that never learn; or optimizers, as for
    compare, which train A2C."""
    environment: Annotated[str, arg(metavar="NAME")] = "gridworld/all_shortlife"
    """Name of a grid world or chain."""
    levels: int = 64
    """Number of levels."""
    seeds: int = 5
    """Number of agents on each level."""
    updates: int | None = None
    """Updates of each agent; by default the lifetime of the environment's mode."""
    batch: int = 16
    """Number of levels on which agents train together."""
    baseline: Annotated[str | None, optional("RULE")] = None
    """One of the rules, by whose return the others' are divided."""
    out: Annotated[pathlib.Path, arg(metavar="FOLDER")] = pathlib.Path("levels")
    """Folder for the rows."""

    def run(self) -> int:
        from learned_opt_rl.evaluation.lpg import levels

        if not self.rules or self.baseline not in (None, *self.rules):
            raise ValueError(
                f"baseline={self.baseline!r} must be one of the rules "
                f"{', '.join(self.rules) or '(none given)'}"
            )
        chosen = levels.Levels(**shared(self, levels.Levels))
        contestants = [_contestant(name, chosen) for name in self.rules]
        with stopping(
            f"{self.out} keeps finished levels. Repeat the command to resume"
        ):
            found = levels.run(contestants, chosen, self.out)
        print_table(levels.table(found, self.baseline))
        print(self.out / levels.ROWS)
        return 0


def _contestant(name: str, chosen: Any) -> Any:
    """Return the contestant of a rule that may be a folder or untrained."""
    from learned_opt_rl.evaluation.lpg import levels

    prefix, _, rest = name.partition(":")
    if prefix == "untrained":
        rule = levels.untrained(_trained(rest)[0].architecture)
        return levels.of_rule(name, rule, chosen)
    if pathlib.Path(name).is_dir():
        rule, digest = _trained(name)
        return levels.of_rule(name, rule, chosen, digest)
    return levels.contestant(name, chosen)


def _trained(name: str) -> tuple[Any, str | None]:
    """Return the LPG of an artifact or a folder of train, and its digest."""
    from learned_opt_rl.rules import lpg
    from learned_opt_rl.training.run_folder import read_run

    if not pathlib.Path(name).is_dir():
        return lpg.pretrained(name), None
    run = read_run(pathlib.Path(name))
    if run.algorithm != "lpg":
        raise ValueError(f"rule={name!r} trained {run.algorithm}, not lpg")
    architecture = lpg.Architecture(**run.architecture)
    return lpg.UpdateRule(run.weights, architecture), run.sha256


Commands = Diagnose | AnalyzeLPG | CompareLevels
