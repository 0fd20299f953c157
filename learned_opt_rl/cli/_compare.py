"""Comparisons of rules, and reports of what came out."""

import argparse
import contextlib
import pathlib
import re
import sys
import textwrap
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from learned_opt_rl.evaluation.runs.compare import Comparison, Plan

RULES = (
    "an artifact; adam, lion, rmsprop or sgd with the settings tuned for the "
    "environment; adam:1e-3 with a fixed rate; ARTIFACT@no-dormancy without a feature"
)
_OPTIONS = {
    "total_timesteps": "--steps",
    "seeds": "--seeds",
    "first_seed": "--first-seed",
    "at_once": "--at-once",
    "devices": "--devices",
    "normalisation": "--normalise",
    "baseline": "--baseline",
}
"""What fields are called on a command line, in errors."""


class RefusedError(Exception):
    """What was asked cannot be done; nothing has been."""


def add_commands(commands: Any) -> None:
    """Adds ``compare``, ``evaluate`` and ``report``."""
    compare = commands.add_parser(
        "compare",
        help="train agents with several rules and report (needs the extra train)",
        description=(
            "Trains agents by every rule on every environment, with the same seeds, "
            "and writes a report. What the folder holds is not run again, and what was "
            "killed goes on: give the same command once more."
        ),
    )
    compare.add_argument("rules", metavar="RULE", nargs="+", help=RULES)
    add_run_options(compare, "comparison")
    compare.set_defaults(run=_compare)

    evaluate = commands.add_parser(
        "evaluate",
        help="the same of one rule, perhaps into its card (needs the extra train)",
        description="Trains agents by one rule; goes on where it was, as compare does.",
    )
    evaluate.add_argument("rules", metavar="RULE", nargs=1, help=RULES)
    add_run_options(evaluate, "evaluation")
    evaluate.add_argument(
        "--card",
        type=pathlib.Path,
        metavar="FOLDER",
        help="the rule's own folder: write the results into its card.json",
    )
    evaluate.set_defaults(run=_evaluate)

    report = commands.add_parser(
        "report", help="write the report of a folder of compare once more"
    )
    report.add_argument("folder", type=pathlib.Path, metavar="FOLDER")
    _add_report_options(report)
    report.set_defaults(run=_report)


def add_run_options(parser: argparse.ArgumentParser, folder: str) -> None:
    """Adds what to run where, and the folder to keep it in."""
    add = parser.add_argument
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--suite", metavar="NAME", help="as minatar, brax or gridworld")
    where.add_argument("--environments", nargs="+", metavar="NAME", help="by name")
    add("--seeds", type=int, default=16, help="how many (default 16)")
    add("--first-seed", type=int, default=0, help="the first of them (default 0)")
    add("--steps", type=float, default=1e7, help="of each run (default 1e7)")
    add("--agent", default="ppo", choices=("ppo", "a2c", "lpg"), help="default ppo")
    add(
        "--set",
        nargs="+",
        default=[],
        metavar="NAME=VALUE",
        help="settings of the agent, as hidden=256x256 activation=tanh",
    )
    add(
        "--out",
        type=pathlib.Path,
        default=pathlib.Path(folder),
        metavar="FOLDER",
        help=f"default {folder}",
    )
    add(
        "--at-once",
        type=int,
        metavar="SEEDS",
        help="trained together; by default all, but on CPU one per device",
    )
    add("--devices", type=int, default=1, help="that share these (default 1)")
    _add_report_options(parser)


def _add_report_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--normalise",
        default="auto",
        metavar="METHOD",
        help=(
            "what the report divides returns by: adam, rule:NAME, published, "
            "published-sgd, optimal or raw (default: the baseline, else published)"
        ),
    )
    parser.add_argument(
        "--baseline",
        metavar="RULE",
        help="the rule that the report compares others with (default adam)",
    )


def _compare(options: argparse.Namespace) -> int:
    return run(options)


def _evaluate(options: argparse.Namespace) -> int:
    if options.card is None:
        return run(options)
    from learned_opt_rl.artifacts.card import Card

    (rule,) = options.rules
    name = Card.load(options.card / "card.json").name
    if name != rule:
        raise RefusedError(
            f"--card {options.card} is the card of {name!r}, not of {rule!r}; name the "
            "rule as its card does"
        )
    status = run(options)
    if status == 0:
        from learned_opt_rl.evaluation.report import cards
        from learned_opt_rl.evaluation.runs import compare

        cards.fill_results(options.card, options.out / compare.ROWS)
        print(options.card / "card.json")
    return status


def run(
    options: argparse.Namespace,
    plan_of: Callable[["Comparison"], "Plan"] | None = None,
) -> int:
    """Makes the runs that are missing and the report; returns the exit status."""
    with warnings_as_lines():
        with refusals(ValueError, TypeError, ImportError):
            from learned_opt_rl.evaluation.runs import compare

            comparison = asked(options)
            _check_folder(options.out)
            rules = {*comparison.rules, *_rules_of(options.out / compare.ROWS)}
            _check_report_options(options, rules, comparison.environments)
            plan = (plan_of or compare.prepare)(comparison)
        try:
            with refusals(ValueError):
                failures = compare.execute(plan, options.out)
        except KeyboardInterrupt:
            print(
                f"stopped; {options.out} keeps what was done, the same command goes on",
                file=sys.stderr,
            )
            return 130
        _print_report(options, options.out, nothing_is_fine=bool(failures))
    for failure in failures:
        message = textwrap.shorten(failure.message, 300, placeholder=" ...")
        where = f"{failure.rule} on {failure.environment}"
        print(f"failed: {where}: {message}", file=sys.stderr)
    if failures:
        print(f"see {options.out / compare.FAILURES}", file=sys.stderr)
    return int(bool(failures))


def asked(options: argparse.Namespace) -> "Comparison":
    """What the options of `add_run_options` ask for."""
    from learned_opt_rl import envs
    from learned_opt_rl.evaluation.runs.compare import Comparison

    names = options.environments or envs.suite(options.suite)
    return Comparison(
        rules=tuple(options.rules),
        environments=tuple(names),
        seeds=options.seeds,
        total_timesteps=options.steps,
        first_seed=options.first_seed,
        agent=options.agent,
        at_once=options.at_once,
        devices=options.devices,
        settings=tuple(options.set),
    )


def _report(options: argparse.Namespace) -> int:
    from learned_opt_rl.evaluation.runs import compare

    with warnings_as_lines():
        with refusals(ValueError):
            rules = _rules_of(options.folder / compare.ROWS)
            if rules:
                _check_report_options(options, rules)
        _print_report(options, options.folder)
    return 0


def _check_folder(out: pathlib.Path) -> None:
    """Folders that cannot be made."""
    for path in (out, *out.parents):
        if path.exists() and not path.is_dir():
            raise ValueError(f"--out {out}: {path} is a file; name a folder")


def _rules_of(path: pathlib.Path) -> set[str]:
    from learned_opt_rl.rundir import jsonl

    return {str(row.get("rule")) for row in jsonl.read(path)}


def _check_report_options(
    options: argparse.Namespace,
    rules: Collection[str],
    environments: Sequence[str] = (),
) -> None:
    """Finds out before the first run what the report of all would not do."""
    from learned_opt_rl.evaluation.report import normalization

    method = options.normalise
    normalization.check(method, environments)
    needed = {"normalisation": "adam" if method == "adam" else None}
    if method.startswith("rule:"):
        needed["normalisation"] = method.removeprefix("rule:")
    needed["baseline"] = options.baseline
    for name, rule in needed.items():
        if rule is not None and rule not in rules:
            value = method if name == "normalisation" else rule
            raise ValueError(
                f"{name}={value} needs runs of {rule!r}, which is none of the rules "
                f"{', '.join(sorted(rules))}; run it as well, or choose another"
            )


def _print_report(
    options: argparse.Namespace, folder: pathlib.Path, *, nothing_is_fine: bool = False
) -> None:
    from learned_opt_rl.evaluation.runs import compare

    if nothing_is_fine and not (folder / compare.ROWS).exists():
        return
    with refusals(ValueError):
        text, paths = compare.summary(
            folder,
            normalisation=options.normalise,
            baseline=options.baseline or "adam",
        )
    print(text)
    for path in paths:
        print(path)


@contextlib.contextmanager
def refusals(
    *kinds: type[Exception], options: Mapping[str, str] = _OPTIONS
) -> Iterator[None]:
    """Makes what is wrong with a request an error of one line, in its own words."""
    try:
        yield
    except kinds as error:
        fields = rf"(?<![\w.])({'|'.join(options)})="
        text = re.sub(fields, lambda found: f"{options[found[1]]}=", str(error))
        raise RefusedError(text) from error


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Prints warnings without the code that gave them."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
