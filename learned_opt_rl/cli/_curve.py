"""The picture of a campaign, drawn again from its log."""

import argparse
import math
import pathlib
from typing import Any

from learned_opt_rl.cli._compare import refusals


def add_command(kinds: Any) -> None:
    """Adds ``train curve``."""
    curve = kinds.add_parser(
        "curve",
        help="draw a campaign (needs the extra eval)",
        description=(
            "Draws a campaign from its log.jsonl alone: fitness of the members and of "
            "the mean over generations, and the mean's return in each environment."
        ),
    )
    curve.add_argument("folder", type=pathlib.Path, metavar="FOLDER")
    curve.add_argument(
        "--out", type=pathlib.Path, metavar="FILE", help="default: FOLDER/curve.png"
    )
    curve.add_argument(
        "--reference",
        nargs="+",
        default=[],
        metavar="NAME=FITNESS",
        help="horizontal lines to compare with, as sgd=1.9",
    )
    curve.set_defaults(run=_curve)


def _curve(options: argparse.Namespace) -> int:
    with refusals(ValueError, ImportError, OSError):
        references = dict(map(_reference, options.reference))
        # Only here: they bring jax and matplotlib along.
        from learned_opt_rl.rundir import jsonl
        from learned_opt_rl.training.evolution.curve import CURVE, draw
        from learned_opt_rl.training.evolution.folder import LOG

        log = options.folder / LOG
        if not log.exists():
            raise ValueError(f"{log} does not exist; give the folder of a campaign")
        path, rows = options.out or options.folder / CURVE, jsonl.read(log)
        if not all("generation" in row for row in rows):
            raise ValueError(f"{log} is not of a campaign; give the folder of one")
        draw(rows, path, references)
    print(path)
    return 0


def _reference(text: str) -> tuple[str, float]:
    name, _, value = text.rpartition("=")
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not name or not math.isfinite(number):
        raise ValueError(f"--reference {text!r} is not NAME=FITNESS, as sgd=1.9")
    return name, number
