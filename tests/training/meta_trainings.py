"""A meta-training that takes seconds, and the files that it leaves."""

import io

from learned_opt_rl.rundir import jsonl
from learned_opt_rl.training.meta_gradients import Training, preset

TINY = {
    "lifetimes": 4,
    "minibatch": 2,
    "workers": 2,
    "rollout": 4,
    "updates": 2,
    "lifetime": 5,
    "log_every": 2,
    "steps": 6,
    "environments": ("chain/short",),
    "architecture": {"width": 4, "embedding": 3, "target_width": 3},
}
TIMES = ("seconds", "steps_per_second")


def config(**changes):
    return preset("lpg-cpu", **{**TINY, **changes})


def run(configuration, folder):
    return Training(configuration, folder, io.StringIO()).run()


def rows(folder):
    found = jsonl.read(folder / "log.jsonl")
    return [{k: v for k, v in row.items() if k not in TIMES} for row in found]
