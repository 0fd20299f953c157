"""Draw the analyses of LPG's predictions from the arrays in ``results``."""

import pathlib

from learned_opt_rl.evaluation.lpg import analysis
from learned_opt_rl.rundir import jsonl


def write_lpg_figures(generated: pathlib.Path, raw: pathlib.Path) -> None:
    """Draw the figures of the one analysis in a folder of `analysis.run`."""
    records, paths = jsonl.read(raw / "lpg_analysis.jsonl"), [*raw.glob("*.npz")]
    if len(records) != 1 or len(paths) != 1:
        raise FileNotFoundError(
            f"{raw} must hold one analysis, not {len(records)} records and "
            f"{len(paths)} npz files; run the command analyze-lpg of docs/lpg.md"
        )
    analysis.plot(records[0], analysis.load(paths[0]), generated)
