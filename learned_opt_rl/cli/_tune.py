"""The command that tunes the settings of a rule."""

import dataclasses
import pathlib
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from learned_opt_rl.cli._common import (
    ClusterOption,
    Repeated,
    RunOptions,
    on_cluster,
    optional,
    print_table,
    stopping,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tune(ClusterOption, RunOptions):
    """Tune the settings of a rule with a fixed budget (extras train and tune).

    The command searches learning rates, other settings of optimizers and the constants
    of expressions. It writes a file that compare accepts as a rule. Tuning and
    comparisons use different seeds. To resume an interrupted command, repeat it; --runs
    may be larger.
    """

    rule: Annotated[Positional[str], arg(metavar="RULE")]
    """Name of an optimizer (adam, lion, rmsprop, sgd), a drift or another artifact."""
    runs: int = 20
    """Budget: the number of runs of --steps steps in each environment."""
    seeds: int = 1
    """Runs per setting; must divide --runs."""
    first_seed: int = 10_000
    """The first seed, at least 10000."""
    total_timesteps: Annotated[float, arg(name="steps")] = 1e6
    """Environment steps of each run."""
    each: bool = False
    """Tune for each environment separately. By default, one setting is chosen for all
    environments, by its mean return, scaled in each environment from the lowest (0) to
    the highest (1) return of all settings."""
    only: Annotated[Repeated, optional("NAME")] = ()
    """Setting to search, for example learning_rate; may be repeated; by default all."""
    agent: Literal["ppo", "a2c"] = "ppo"
    """Agent that the rule trains."""
    out: Annotated[pathlib.Path | None, optional("FOLDER")] = None
    """Folder for the results; tuned/RULE/ENVIRONMENTS by default."""

    def run(self) -> int:
        from learned_opt_rl.evaluation.tuning import search

        comparison = self.comparison((self.rule,))
        where = self.suite or "+".join(comparison.environments)
        names = (name.replace("/", "_") for name in (self.rule, where))
        out = self.out or pathlib.Path("tuned", *names)
        choices = {"each": self.each, "only": self.only}
        try:
            advice = f"{out} keeps finished runs. Repeat the command to resume"
            with stopping(advice), on_cluster(self.address) as cluster:
                choices["cluster"] = cluster
                found = search.tune(comparison, self.runs, out, **choices)
        except TypeError as error:  # An environment of another package.
            raise ValueError(str(error)) from error
        for trials in found.values():
            print_table(search.table(trials))
        print(out / search.TUNED)
        return 0
