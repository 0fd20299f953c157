"""Commands that evaluate rules: compare, evaluate, generalize and report."""

import dataclasses
import pathlib
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg, create_mutex_group

from learned_opt_rl.cli._errors import RefusedError, refusals, warnings_as_lines

if TYPE_CHECKING:
    from learned_opt_rl.evaluation.runs.compare import Comparison, Failure, Plan

Settings = Annotated[tuple[str, ...], arg(name="set", metavar="NAME=VALUE ...")]
_Rules = Annotated[Positional[tuple[str, ...]], arg(metavar="RULE")]
_Where = create_mutex_group(required=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _ReportOptions:
    normalization: Annotated[str, arg(name="normalize", metavar="METHOD")] = "auto"
    """Divide returns by: adam, rule:NAME, published, published-sgd, optimal or raw.
    The default is the baseline if it was run, else published."""
    baseline: Annotated[str | None, arg(metavar="RULE")] = None
    """Rule that the report compares the others with; adam by default."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _RunOptions(_ReportOptions):
    suite: Annotated[str | None, _Where, arg(metavar="NAME")] = None
    """Suite of environments, for example minatar, brax or gridworld."""
    environments: Annotated[tuple[str, ...], _Where, arg(metavar="NAME ...")] = ()
    """Environments by name."""
    seeds: int = 16
    """Number of seeds."""
    first_seed: int = 0
    """The first seed."""
    steps: float = 1e7
    """Environment steps of each run."""
    agent: Literal["ppo", "a2c", "lpg"] = "ppo"
    """Agent that the rule trains."""
    settings: Settings = ()
    """Settings of the agent, for example hidden=256x256 activation=tanh."""
    at_once: Annotated[int | None, arg(metavar="SEEDS")] = None
    """Seeds trained together; by default all of them, on a CPU one per device."""
    devices: int = 1
    """Number of devices that share these seeds."""

    def comparison(self, rules: tuple[str, ...]) -> "Comparison":
        """Return the comparison that the options describe."""
        from learned_opt_rl import envs
        from learned_opt_rl.evaluation.runs.compare import Comparison

        names = self.environments or envs.suite(self.suite or "")
        return Comparison(
            rules=rules,
            environments=tuple(names),
            seeds=self.seeds,
            total_timesteps=self.steps,
            first_seed=self.first_seed,
            agent=self.agent,
            at_once=self.at_once,
            devices=self.devices,
            settings=self.settings,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare(_RunOptions):
    """Train agents with several rules and report (needs the extra train).

    Every rule is run on every environment with the same seeds. Runs that the folder
    already holds are not repeated. A killed comparison resumes when the same command is
    given again.
    """

    rules: _Rules
    """An artifact; adam, lion, rmsprop or sgd with the settings tuned for the
    environment; adam:1e-3 with a fixed rate; ARTIFACT@no-dormancy without a feature."""
    out: Annotated[pathlib.Path, arg(metavar="FOLDER")] = pathlib.Path("comparison")
    """Folder for rows and the report."""

    def run(self) -> int:
        """Run the comparison and print its report."""
        return _run(self, self.rules, self.out)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate(_RunOptions):
    """Train agents with one rule and report (needs the extra train).

    An interrupted evaluation resumes when the same command is given again.
    """

    rule: Annotated[Positional[str], arg(metavar="RULE")]
    """A rule, as for compare."""
    out: Annotated[pathlib.Path, arg(metavar="FOLDER")] = pathlib.Path("evaluation")
    """Folder for rows and the report."""
    card: Annotated[pathlib.Path | None, arg(metavar="FOLDER")] = None
    """The rule's own folder: write the results into its card.json."""

    def run(self) -> int:
        """Run the evaluation, print its report and fill the card if asked."""
        if self.card is not None:
            self._check_card(self.card)
        status = _run(self, (self.rule,), self.out)
        if status == 0 and self.card is not None:
            from learned_opt_rl.evaluation.report import cards
            from learned_opt_rl.evaluation.runs import compare

            cards.fill_results(self.card, self.out / compare.ROWS)
            print(self.card / "card.json")
        return status

    def _check_card(self, folder: pathlib.Path) -> None:
        from learned_opt_rl.artifacts.card import Card

        name = Card.load(folder / "card.json").name
        if name != self.rule:
            raise RefusedError(
                f"--card {folder} is the card of {name!r}, not of {self.rule!r}; name "
                "the rule as its card does"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Generalize(_RunOptions):
    """Compare rules along an axis, for example the width of layers.

    Rules are compared at several values of something that a learned rule was trained
    with, and the results are drawn. An interrupted run resumes like compare. To compare
    over environments, use compare --suite. Needs the extra train.
    """

    axis: Positional[Literal["length", "width", "activation", "features"]]
    """What varies."""
    rules: _Rules
    """Rules, as for compare."""
    values: Annotated[tuple[str, ...], arg(metavar="VALUE ...")] = ()
    """Values of the axis. length: environment steps; width: of both hidden layers;
    activation: relu or tanh; features: all, no-dormancy, no-batch-proportion,
    no-horizon or no-actor-mask. The default is some or all of these."""
    out: Annotated[pathlib.Path, arg(metavar="FOLDER")] = pathlib.Path("generalization")
    """Folder for rows and the report."""

    def run(self) -> int:
        """Run all comparisons along the axis and print the report."""

        def plan(comparison: "Comparison") -> "Plan":
            from learned_opt_rl.evaluation.runs import compare, generalize

            values = self.values or None
            along = generalize.comparisons(self.axis, comparison, values)
            return compare.together([compare.prepare(one) for one in along])

        return _run(self, self.rules, self.out, plan)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report(_ReportOptions):
    """Write the report of a comparison's folder again."""

    folder: Annotated[Positional[pathlib.Path], arg(metavar="FOLDER")]
    """Folder of compare, evaluate or generalize."""

    def run(self) -> int:
        """Write the report and print its table."""
        with warnings_as_lines():
            _print_report(self, self.folder)
        return 0


def _run(
    options: _RunOptions,
    rules: tuple[str, ...],
    out: pathlib.Path,
    plan_of: Callable[["Comparison"], "Plan"] | None = None,
) -> int:
    """Make the runs that are missing and the report; return the exit status."""
    with warnings_as_lines():
        with refusals(ValueError, TypeError, ImportError):
            from learned_opt_rl.evaluation.report import normalization
            from learned_opt_rl.evaluation.report.write import require_extras
            from learned_opt_rl.evaluation.runs import compare

            require_extras()
            comparison = options.comparison(rules)
            _check_folder(out)
            known = {*comparison.rules, *_rules_in(out / compare.ROWS)}
            normalization.check(
                options.normalization,
                options.baseline,
                rules=known,
                environments=comparison.environments,
            )
            plan = (plan_of or compare.prepare)(comparison)
        try:
            with refusals(ValueError):
                failures = compare.execute(plan, out)
        except KeyboardInterrupt:
            print(
                f"stopped; {out} keeps all finished work. Give the same command again "
                "to resume",
                file=sys.stderr,
            )
            return 130
        if not failures or (out / compare.ROWS).exists():
            _print_report(options, out)
    print_failures(failures)
    if failures:
        print(f"see {out / compare.FAILURES}", file=sys.stderr)
    return int(bool(failures))


def print_failures(failures: Sequence["Failure"]) -> None:
    """Print one line per failed run on standard error."""
    for failure in failures:
        message = textwrap.shorten(failure.message, 300, placeholder=" ...")
        where = f"{failure.rule} on {failure.environment}"
        print(f"failed: {where}: {message}", file=sys.stderr)


def _check_folder(out: pathlib.Path) -> None:
    for path in (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise ValueError(f"--out {out}: {path} is a file; name a folder")


def _rules_in(path: pathlib.Path) -> set[str]:
    from learned_opt_rl.rundir import jsonl

    return {str(row.get("rule")) for row in jsonl.read(path)}


def _print_report(options: _ReportOptions, folder: pathlib.Path) -> None:
    from learned_opt_rl.evaluation.report.write import write

    with refusals(ValueError):
        text, paths = write(
            folder,
            normalization=options.normalization,
            baseline=options.baseline,
        )
    print(text)
    for path in paths:
        print(path)
