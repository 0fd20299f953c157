"""The command that tunes the settings of a rule."""

import dataclasses
import pathlib
from typing import Annotated, Literal

from tyro.conf import Positional, arg

from learned_opt_rl.cli._common import RunOptions, optional, print_table, stopping


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tune(RunOptions):
    """Tune the settings of a rule with a stated budget (needs the extras train, tune).

    Learning rates, other settings of optimizers and constants of expressions. The
    result is a file that compare takes as a rule. Its agents have other seeds than
    comparisons. To resume an interrupted command, repeat it; --runs may be larger.
    """

    rule: Annotated[Positional[str], arg(metavar="RULE")]
    """Name of an optimizer (adam, lion, rmsprop, sgd), a drift or another artifact."""
    runs: int = 20
    """Runs in each environment: the budget, together with --steps."""
    seeds: int = 1
    """Runs of each of the settings tried; a divisor of --runs."""
    first_seed: int = 10_000
    """Seeds are numbered from this one, which must be at least 10000."""
    total_timesteps: Annotated[float, arg(name="steps")] = 1e6
    """Environment steps of each run."""
    each: bool = False
    """Tune for each environment by itself. By default one setting is for all: the best
    mean of their returns, each scaled from the lowest (0) to the highest (1) tried."""
    only: Annotated[tuple[str, ...], optional("NAME ...")] = ()
    """Settings to search, for example learning_rate; all by default."""
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
            with stopping(f"{out} keeps finished runs. Repeat the command to resume"):
                found = search.tune(comparison, self.runs, out, **choices)
        except TypeError as error:  # An environment of another package.
            raise ValueError(str(error)) from error
        for trials in found.values():
            print_table(search.table(trials))
        print(out / search.TUNED)
        return 0
