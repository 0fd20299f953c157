"""Commands that evaluate rules: compare, evaluate, generalize and report."""

import dataclasses
import pathlib
import sys
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from learned_opt_rl.artifacts.card import Card
from learned_opt_rl.cli._common import (
    ClusterOption,
    Repeated,
    Rules,
    RunOptions,
    on_cluster,
    optional,
    print_failures,
    shared,
    stopping,
    terminal_width,
)

if TYPE_CHECKING:
    from learned_opt_rl.evaluation.runs.plan import Comparison, Plan


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ReportOptions:
    normalization: Annotated[str, arg(name="normalize", metavar="METHOD")] = "auto"
    """Reference by which returns are divided: adam, rule:NAME, published,
    published-sgd or optimal; raw divides by nothing. auto uses the baseline if it was
    run, else published returns, else raw returns."""
    baseline: Annotated[str | None, optional("RULE")] = None
    """Rule with which the other rules are compared; adam by default."""
    title: Annotated[str | None, optional("TEXT")] = None
    """Heading of the report."""
    only: Annotated[Repeated, optional("NAME")] = ()
    """Rule or environment that the report shows; may be repeated; by default all that
    the command ran, or for `report` all in the folder except earlier versions."""

    def print_report(
        self, folder: pathlib.Path, *sources: pathlib.Path, plan: "Plan | None" = None
    ) -> None:
        """Write a report into a folder, and print it, its files and its subfolders."""
        from learned_opt_rl.evaluation.report.write import write

        options = {**shared(self, _ReportOptions), "plan": plan}
        text, paths = write(folder, *sources, width=terminal_width(), **options)
        places = dict.fromkeys(p if p.parent == folder else p.parent for p in paths)
        print(text, *places, sep="\n")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Options(ClusterOption, _ReportOptions, RunOptions):
    agent: Literal["ppo", "a2c", "lpg"] = "ppo"
    """Agent that the rule trains."""
    sinks: Annotated[Repeated, optional("NAME")] = ()
    """tensorboard or wandb, which also get each learning curve when its run ends; may
    be repeated."""
    dry_run: bool = False
    """Print the cost in steps, time and memory, and exit."""

    def run_rules(self, rules: tuple[str, ...], out: pathlib.Path) -> int:
        """Make the runs that are missing and the report; return the exit status."""
        from learned_opt_rl.evaluation.runs import compare
        from learned_opt_rl.evaluation.runs.row import read_rows

        plan = self._prepare(rules, out)
        if self.dry_run:
            from learned_opt_rl.evaluation.runs import cost

            print(cost.estimate(plan, out) or f"{out} has all runs")
            return 0
        advice = f"{out} keeps all finished work. Repeat the command to resume"
        with stopping(advice), on_cluster(self.address) as cluster:
            failures = compare.execute(plan, out, sinks=self.sinks, cluster=cluster)
        try:
            if not failures or plan.has_results(read_rows(out / compare.ROWS)):
                self.print_report(out, plan=plan)
        finally:  # An error in the report must not hide the failed runs.
            print_failures(failures)
            if failures:
                print(f"see {out / compare.FAILURES}", file=sys.stderr)
        return int(bool(failures))

    def plan(self, comparison: "Comparison") -> "Plan":
        """Return the runs of a comparison."""
        from learned_opt_rl.evaluation.runs.plan import prepare

        return prepare(comparison)

    def _prepare(self, rules: tuple[str, ...], out: pathlib.Path) -> "Plan":
        """Check the whole request, since its runs may take hours."""
        from learned_opt_rl.evaluation.report.write import check_request

        comparison = self.comparison(rules)
        if self.address is not None and comparison.at_once is None:
            # The default follows from this machine's device, not from the workers'.
            comparison = dataclasses.replace(comparison, at_once=1)
        _check_folder(out)
        try:
            plan = self.plan(comparison)
        except TypeError as error:  # An environment of another package.
            raise ValueError(str(error)) from error
        check_request(out, plan, self.normalization, self.baseline)
        return plan


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare(_Options):
    """Train agents with several rules and write a report (extras train and eval).

    Every rule runs on every environment with the same seeds. To resume an interrupted
    comparison, repeat the command: it skips the runs that are already in the folder.
    """

    rules: Rules
    """Names of artifacts or of tuned optimizers (adam, lion, rmsprop, sgd). adam:1e-3
    has a fixed learning rate, OPTIMIZER+DRIFT also changes the loss, and
    ARTIFACT@no-dormancy omits an input. A rule can also be a file written by tune
    (tuned.json), an optax optimizer (optax.adamw:3e-4), an expression (mine.txt), the
    folder of an artifact (./folder) or your own code (module:name)."""
    out: Annotated[pathlib.Path, arg(metavar="FOLDER")] = pathlib.Path("comparison")
    """Folder for rows and the report."""

    def run(self) -> int:
        return self.run_rules(self.rules, self.out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate(_Options):
    """Train agents with one rule and write a report (extras train and eval).

    To resume an interrupted evaluation, repeat the command.
    """

    rule: Annotated[Positional[str], arg(metavar="RULE")]
    """A rule, as for compare."""
    out: Annotated[pathlib.Path, arg(metavar="FOLDER")] = pathlib.Path("evaluation")
    """Folder for rows and the report."""
    card: Annotated[pathlib.Path | None, optional("FOLDER")] = None
    """Folder of the rule's artifact; the results are written to its card.json."""

    def run(self) -> int:
        if self.card is not None:
            name = Card.load(self.card / "card.json").name
            if name != self.rule:
                raise ValueError(
                    f"--card {self.card} is the card of {name!r}, not of "
                    f"{self.rule!r}; name the rule as its card does"
                )
        status = self.run_rules((self.rule,), self.out)
        if status == 0 and self.card is not None:
            from learned_opt_rl.evaluation.report import cards
            from learned_opt_rl.evaluation.runs import compare

            cards.fill_results(self.card, self.out / compare.ROWS)
            print(self.card / "card.json")
        return status


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generalize(_Options):
    """Compare rules while one property of the training varies (extras train and eval).

    The property is, for example, the width of the layers. The report plots the returns
    over its values. To resume an interrupted command, repeat it. To compare rules
    across environments, use compare --suite.
    """

    axis: Positional[Literal["length", "width", "depth", "activation", "features"]]
    """The property that varies."""
    rules: Rules
    """Rules, as for compare."""
    values: Annotated[Repeated, optional("VALUE")] = ()
    """Value of the property, instead of the defaults; may be repeated. length:
    environment steps; width: units of each of two hidden layers; depth: number of
    hidden layers of 64 units; activation: relu or tanh; features: all, no-dormancy,
    no-batch-proportion, no-horizon or no-actor-mask."""
    out: Annotated[pathlib.Path, arg(metavar="FOLDER")] = pathlib.Path("generalization")
    """Folder for rows and the report."""

    def run(self) -> int:
        return self.run_rules(self.rules, self.out)

    def plan(self, comparison: "Comparison") -> "Plan":
        """Return the runs of one comparison for each value of the axis."""
        from learned_opt_rl.evaluation.runs import generalize, plan

        along = generalize.comparisons(self.axis, comparison, self.values or None)
        return plan.together([plan.prepare(one) for one in along])


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report(_ReportOptions):
    """Write one report of one or more comparisons (needs the extra eval).

    The comparisons may have different lengths and agents. If there are several agents,
    the name of a rule includes its agent, as in "adam (a2c)".
    """

    results: Annotated[Positional[tuple[pathlib.Path, ...]], optional("RESULTS")]
    """Output folders of compare, evaluate or generalize, or their files of rows
    (.jsonl)."""
    out: Annotated[pathlib.Path | None, optional("FOLDER")] = None
    """Folder for the report; by default the folder of results, if there is only one."""

    def run(self) -> int:
        self.print_report(self._folder(), *self.results)
        return 0

    def _folder(self) -> pathlib.Path:
        if not self.results:
            raise ValueError(
                "results=(): must name at least one folder or file of rows. Pass FOLDER"
            )
        if self.out is not None:
            _check_folder(self.out)
            return self.out
        only = self.results[0]
        if len(self.results) == 1 and not (only.is_file() or only.suffix == ".jsonl"):
            return only
        given = " ".join(map(str, self.results))
        raise ValueError(
            f"results={given}: need a folder for the report. Pass --out FOLDER"
        )


def _check_folder(out: pathlib.Path) -> None:
    for path in (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise ValueError(f"out={out}: {path} is a file. Pass a folder")


Commands = Compare | Evaluate | Generalize | Report
