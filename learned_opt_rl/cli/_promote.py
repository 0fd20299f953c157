"""Promotion: weights of a run get a name among the artifacts of the repository."""

import argparse
import pathlib
import sys
import textwrap
from typing import TYPE_CHECKING, Any

from learned_opt_rl.cli._compare import RefusedError, refusals, warnings_as_lines

if TYPE_CHECKING:
    from learned_opt_rl.training.promotion import Outcome, Promotion


def add_command(kinds: Any) -> None:
    """Adds ``promote``."""
    parser = kinds.add_parser(
        "promote",
        help="give the best weights of a run a name",
        description=(
            "Evaluates the best weights of a run beside those that have the name and "
            "tuned Adam, and makes them an artifact of the repository: card, results, "
            "the state of the run. Weights worse than those that have the name are "
            "refused. What was killed goes on: give the same command once more."
        ),
    )
    add = parser.add_argument
    add(
        "folder",
        type=pathlib.Path,
        metavar="RUN",
        help="a folder of train es or train distill",
    )
    add("--as", dest="name", metavar="NAME", required=True, help="as minatar")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--suite", metavar="NAME", help="as minatar")
    where.add_argument(
        "--environments", nargs="+", metavar="NAME", help="default: those of the run"
    )
    add("--seeds", type=int, default=5, help="how many (default 5)")
    add("--first-seed", type=int, default=0, help="the first of them (default 0)")
    add("--steps", type=float, default=1e6, help="of each run (default 1e6)")
    add(
        "--baselines",
        nargs="+",
        default=["adam"],
        metavar="RULE",
        help="to run beside; failures are told against the first (default adam)",
    )
    add("--set", nargs="+", default=[], metavar="NAME=VALUE", help="of the agent")
    add("--at-once", type=int, metavar="SEEDS", help="trained together, as for compare")
    add("--devices", type=int, default=1, help="that share these (default 1)")
    add(
        "--results",
        type=pathlib.Path,
        metavar="FILE",
        help="of rows, to be added to (default results/NAME_STEPS.jsonl)",
    )
    add(
        "--pretrained",
        type=pathlib.Path,
        metavar="DIR",
        help="where the artifacts are (default: the repository's)",
    )
    add("--force", action="store_true", help="even if worse; the card then says so")
    add("--title", help="of the card")
    add("--summary", help="of the card")
    add(
        "--failure",
        action="append",
        default=[],
        metavar="TEXT",
        help="that is known, besides those found; may be repeated",
    )
    parser.set_defaults(run=_promote)


def _promote(options: argparse.Namespace) -> int:
    with warnings_as_lines():
        try:
            with refusals(ValueError, TypeError, ImportError):
                from learned_opt_rl.training.promotion import promote

                outcome = promote(_asked(options))
        except KeyboardInterrupt:
            print(
                f"stopped; {options.folder} keeps what was done, the same command goes "
                "on",
                file=sys.stderr,
            )
            return 130
        except OSError as error:
            raise RefusedError(
                f"{error}; {options.name!r} is as it was, and {options.folder} keeps "
                "what was run: the same command goes on"
            ) from error
    return _report(options, outcome)


def _asked(options: argparse.Namespace) -> "Promotion":
    from learned_opt_rl import envs
    from learned_opt_rl.training.promotion import Promotion

    names = envs.suite(options.suite) if options.suite else options.environments
    return Promotion(
        run=options.folder,
        name=options.name,
        environments=tuple(names or ()),
        seeds=options.seeds,
        total_timesteps=options.steps,
        first_seed=options.first_seed,
        baselines=tuple(options.baselines),
        settings=tuple(options.set),
        at_once=options.at_once,
        devices=options.devices,
        pretrained=options.pretrained,
        results=options.results,
        force=options.force,
        title=options.title,
        summary=options.summary,
        failures=tuple(options.failure),
    )


def _report(options: argparse.Namespace, outcome: "Outcome") -> int:
    for failure in outcome.failed:
        message = textwrap.shorten(failure.message, 300, placeholder=" ...")
        where = f"{failure.rule} on {failure.environment}"
        print(f"failed: {where}: {message}", file=sys.stderr)
    if outcome.folder is None:
        print("nothing was promoted; the same command tries again", file=sys.stderr)
        return 1
    if outcome.verdict is not None:
        print(outcome.verdict.text)
    print(f"{options.name}: {outcome.folder / 'card.json'}")
    return 0
