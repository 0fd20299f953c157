"""Comparisons along an axis, and analyses of what optimisers do in a run."""

import argparse
from typing import Any

from learned_opt_rl.cli import _compare

_AXES = ("length", "width", "activation", "environment", "features")
_VALUES = """\
length: environment steps; width: of both hidden layers; activation: relu or tanh;
environment: names or suites; features: all, no-dormancy, no-batch-proportion,
no-horizon or no-actor-mask. By default a few of each"""


def add_command(commands: Any) -> None:
    """Adds ``generalise``."""
    parser = commands.add_parser(
        "generalise",
        help="compare rules along an axis, as the width of layers (needs train)",
        description=(
            "Compares rules at each value of something that a learned rule was trained "
            "with, and draws what came out; goes on where it was, as compare does."
        ),
    )
    parser.add_argument("axis", metavar="AXIS", choices=_AXES, help=", ".join(_AXES))
    parser.add_argument("rules", metavar="RULE", nargs="+", help=_compare.RULES)
    parser.add_argument("--values", nargs="+", metavar="VALUE", help=_VALUES)
    _compare.add_run_options(parser, "generalisation")
    parser.set_defaults(run=_generalise)


def _generalise(options: argparse.Namespace) -> int:
    status = _compare.run(options, _plan)
    if status == 0 and options.axis == "features":
        from learned_opt_rl.evaluation import compare, generalise, results

        rows = results.read(options.out / compare.ROWS)
        for environment in dict.fromkeys(row["environment"] for row in rows):
            name = f"features_{environment.replace('/', '_')}.png"
            generalise.plot_features(rows, environment, options.out / "plots" / name)
            print(options.out / "plots" / name)
    return status


def _plan(options: argparse.Namespace) -> Any:
    from learned_opt_rl.evaluation import compare, generalise

    asked = _compare.asked(options)
    along = generalise.comparisons(options.axis, asked, options.values)
    return compare.together([compare.prepare(one) for one in along])
