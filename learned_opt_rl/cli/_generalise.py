"""Comparisons along an axis, such as the width of layers."""

import argparse
from typing import TYPE_CHECKING, Any

from learned_opt_rl.cli import _compare

if TYPE_CHECKING:
    from learned_opt_rl.evaluation.runs.compare import Comparison, Plan

_AXES = ("length", "width", "activation", "features")
_VALUES = (
    "length: environment steps; width: of both hidden layers; activation: relu or "
    "tanh; features: all, no-dormancy, no-batch-proportion, no-horizon or "
    "no-actor-mask; by default some or all of these"
)


def add_command(commands: Any) -> None:
    """Adds ``generalise``."""
    parser = commands.add_parser(
        "generalise",
        help="compare along an axis, as the width of layers (needs the extra train)",
        description=(
            "Compares rules at several values of something that a learned rule was "
            "trained with, and draws what came out; goes on where it was, as compare "
            "does. (Over environments, compare does it: see its --suite.)"
        ),
    )
    parser.add_argument("axis", metavar="AXIS", choices=_AXES, help=", ".join(_AXES))
    parser.add_argument("rules", metavar="RULE", nargs="+", help=_compare.RULES)
    parser.add_argument("--values", nargs="+", metavar="VALUE", help=_VALUES)
    _compare.add_run_options(parser, "generalisation")
    parser.set_defaults(run=_generalise)


def _generalise(options: argparse.Namespace) -> int:
    def plan_of(asked: "Comparison") -> "Plan":
        from learned_opt_rl.evaluation.runs import compare, generalize

        along = generalize.comparisons(options.axis, asked, options.values)
        return compare.together([compare.prepare(one) for one in along])

    return _compare.run(options, plan_of)
