"""The command that turns a trained network into a formula."""

import dataclasses
import pathlib
import sys
from typing import Annotated, Literal

from tyro.conf import arg

from learned_opt_rl.cli._bill import runs
from learned_opt_rl.cli._common import optional, print_table, shared
from learned_opt_rl.cli._propose import Training, leave_gpu_memory, stopping_search


@dataclasses.dataclass(frozen=True, kw_only=True)
class Symbolic(Training):
    """Turn a trained network into a formula, by symbolic regression.

    A backend fits formulas to a drift or to a feed-forward optimizer. Their constants
    are tuned, and agents are trained with the most accurate ones. The result is the
    simplest formula within one standard error of the best. To resume an interrupted
    run, repeat the command.
    """

    teacher: Annotated[str, arg(metavar="NAME")]
    """Name of an artifact, folder of a run, or path of an expression."""
    out: Annotated[pathlib.Path, arg(metavar="FOLDER")]
    """Folder of the run."""
    backend: Annotated[str, arg(metavar="NAME")] = "operon"
    """Library of symbolic regression: operon (extra symbolic), pysr (extra pysr, needs
    Julia), or the hall_of_fame.csv of PySR."""
    inputs: Literal["correlated", "scaled", "paper", "visited"] = "correlated"
    """Inputs of an optimizer, as in `train distill`; for a drift, always a grid."""
    normalization: Literal["tensor", "joint"] = "tensor"
    """Division of an optimizer's inputs: by their rms in each tensor, or all by one
    number, as in the released code."""
    templates: Annotated[tuple[str, ...], optional("NAME ...")] = ()
    """Forms of a drift: relu, softplus or free; by default all."""
    loss: Literal["value", "slope"] = "value"
    """Quantity of a drift to compare: its value or its derivative by the ratio."""
    fits: int = 3
    """Number of fits; for a drift, of each template."""
    candidates: int = 5
    """Number of formulas to train agents with; 0 for none."""
    environments: Annotated[tuple[str, ...], optional("NAME ...")] = (
        "Breakout-MinAtar",
    )
    """Environments in which agents are trained with the formulas."""
    steps: float = 1e6
    """Environment steps of each run."""
    seeds: int = 4
    """Number of agents in each environment, trained together."""
    seed: int = 0
    """Seed of inputs and fits."""
    search: Annotated[tuple[str, ...], optional("NAME=VALUE ...")] = ()
    """Settings of the backend, for example evaluations=200000 max_size=30."""

    def run(self) -> int:
        leave_gpu_memory()
        from learned_opt_rl.rundir import settings
        from learned_opt_rl.training.distillation.teachers import teacher
        from learned_opt_rl.training.proposal import Limits
        from learned_opt_rl.training.symbolic import Symbolic as Distillation
        from learned_opt_rl.training.symbolic import (
            SymbolicConfig,
            configure,
            report,
        )
        from learned_opt_rl.training.symbolic.backends import Settings

        where = {n: getattr(self, n) for n in ("environments", "steps", "seeds")}
        scoring = self.evaluation(None, **where)
        apart = ("teacher", "search", *(() if self.templates else ("templates",)))
        fields = shared(self, SymbolicConfig)
        fields = {name: value for name, value in fields.items() if name not in apart}
        search = settings.parse(self.search, Settings, "--search")
        found = teacher(self.teacher)
        config = configure(found, scoring, search, **fields)
        limits = Limits(None, self.max_steps, self.max_hours)
        run = Distillation(config, found, self.out, limits)
        if self.dry_run:
            print(runs(config.evaluation, self.candidates and self.candidates + 2))
            return 0
        with stopping_search(self.out) as finished:
            best = run.run()
            finished.append(best)
            print_table(report.table(self.out))
            print(
                f"best: {best['size']} operations and operands, loss {best['loss']:.3g}"
                f"; see {self.out}",
                file=sys.stderr,
            )
        return 0 if finished else 1
