"""The result of a search for an expression, read as other runs are."""

import hashlib
import pathlib
from typing import Any

import numpy as np

from learned_opt_rl import expressions
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.training.proposal import origin
from learned_opt_rl.training.run_folder import TrainedRun, read_config, read_run

MADE = "proposed by a language model"
"""How searches make formulas."""


def read(folder: pathlib.Path) -> TrainedRun:
    """Read the best weights of a run, or the best formula of a search.

    The run of a search has ``stages`` (`origin.Found`) beside its configuration, and
    its log is one row with the length of its trainings.

    Raises as `read_run` and `origin.found`.
    """
    made = read_config(folder)
    if made["kind"] not in origin.SEARCHES:
        return read_run(folder)
    found = origin.found(folder)
    scoring: Any = found.evaluation  # only a file has none
    config = {
        "algorithm": "expression",
        "architecture": {"text": found.text},
        "environments": list(scoring.environments),
        "agent": dict(scoring.settings),
        "rates": scoring.rates,
    }
    row: Record = {"validation": 0.0, "horizon": int(scoring.steps)}
    function = expressions.parse(found.text)
    weights = {n: np.float32(c) for n, c in function.init_constants().items()}
    content = function.to_text().encode()
    digest = hashlib.sha256(content).hexdigest()
    fields = made | {"config": config, "stages": list(found.stages)}
    return TrainedRun(folder, fields, [row], content, digest, weights)
