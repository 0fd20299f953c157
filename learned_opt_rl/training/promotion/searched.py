"""Read the result of a search for an expression like any other run."""

import hashlib
import pathlib
from typing import Any

import numpy as np

from learned_opt_rl import expressions
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.training.promotion import origin
from learned_opt_rl.training.run_folder import TrainedRun, read_config, read_run


def read(folder: pathlib.Path) -> TrainedRun:
    """Read the best weights of a run, or the best expression of a search.

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
        "next_seed": scoring.next_seed,
        "zero_mean": scoring.zero_mean,
    }
    row: Record = {"validation": 0.0, "horizon": int(scoring.steps)}
    function = expressions.parse(found.text)
    weights = {n: np.float32(c) for n, c in function.init_constants().items()}
    content = function.to_text().encode()
    digest = hashlib.sha256(content).hexdigest()
    fields = made | {"config": config, "stages": list(found.stages)}
    return TrainedRun(folder, fields, [row], content, digest, weights)


def next_seed(folder: pathlib.Path) -> int:
    """Return the first seed that a search has not trained with; 0 for another run.

    Raises as `read_config` and `origin.found`.
    """
    if read_config(folder)["kind"] not in origin.SEARCHES:
        return 0
    scoring: Any = origin.found(folder).evaluation  # only a file has none
    # Every stage of a search takes the seeds after those of the stage before.
    return scoring.next_seed
