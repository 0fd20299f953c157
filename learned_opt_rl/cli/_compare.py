"""Comparisons of rules, and reports of what came out."""

import argparse
import contextlib
import pathlib
import sys
import textwrap
import warnings
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from learned_opt_rl.evaluation.compare import Comparison, Plan

RULES = (
    "an artifact; adam, lion, rmsprop or sgd with the settings tuned for the "
    "environment; adam:1e-3 with a fixed rate; ARTIFACT@no-dormancy without a feature"
)


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
        from learned_opt_rl.evaluation import cards, compare

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
            from learned_opt_rl.evaluation import compare

            plan = (plan_of or compare.prepare)(asked(options))
        try:
            with refusals(ValueError):
                failures = compare.execute(plan, options.out)
        except KeyboardInterrupt:
            print(
                f"stopped; {options.out} keeps what was done, the same command goes on",
                file=sys.stderr,
            )
            return 130
        _print_report(options.out, nothing_is_fine=bool(failures))
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
    from learned_opt_rl.evaluation.compare import Comparison

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
    with warnings_as_lines():
        _print_report(options.folder)
    return 0


def _print_report(folder: pathlib.Path, *, nothing_is_fine: bool = False) -> None:
    from learned_opt_rl.evaluation import compare

    if nothing_is_fine and not (folder / compare.ROWS).exists():
        return
    with refusals(ValueError):
        text, paths = compare.summary(folder)
    print(text)
    for path in paths:
        print(path)


@contextlib.contextmanager
def refusals(*kinds: type[Exception]) -> Iterator[None]:
    """Makes what is wrong with a request an error of one line."""
    try:
        yield
    except kinds as error:
        raise RefusedError(str(error)) from error


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Prints warnings without the code that gave them."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
