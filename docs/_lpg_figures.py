"""Draw the analyses of LPG's predictions from the arrays in ``results``."""

import pathlib

import numpy as np

from learned_opt_rl.envs.gridworld import Level
from learned_opt_rl.evaluation.lpg import analysis
from learned_opt_rl.rundir import jsonl


def write_lpg_figures(generated: pathlib.Path, raw: pathlib.Path) -> None:
    """Draw the figures of the one analysis in a folder of `analysis.run`."""
    (record,) = jsonl.read(raw / "lpg_analysis.jsonl")
    (path,) = raw.glob("*.npz")
    with np.load(path, allow_pickle=False) as arrays:
        levels = Level(*(arrays[f"level_{name}"] for name in Level._fields))
        rest = [arrays[name] for name in analysis.Study._fields if name != "levels"]
    analysis.plot(record, analysis.Study(levels, *rest), generated)
