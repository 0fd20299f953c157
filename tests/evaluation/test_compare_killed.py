"""``kill -9`` at any moment: nothing is lost, nothing is there twice."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from learned_opt_rl.evaluation.runs import compare
from learned_opt_rl.rundir import jsonl

KILLS = 10
# A commit may come between two starts, which then say so.
OTHERWISE = ("compile_seconds", "wall_seconds", "steps_per_second", "revision")
ARGUMENTS = """
    compare adam:1e-3 sgd:1e-2 --environments CartPole-v1 --seeds 3 --at-once 1
    --steps 2e5 --set num_envs=4 num_steps=16 minibatches=2 epochs=1 hidden=4 --out
"""


def start(folder, tmp_path):
    environment = {
        **os.environ,
        "LEARNED_OPT_RL_CHECKPOINT_SECONDS": "0.05",
        # Every start compiles the same programs.
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "XLA_FLAGS": "",
    }
    command = [sys.executable, "-m", "learned_opt_rl", *ARGUMENTS.split(), str(folder)]
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def finished(folder, tmp_path):
    """Runs to the end; what it says on the way."""
    with start(folder, tmp_path) as process:
        _, said = process.communicate()
    assert process.returncode == 0, said
    return said.decode()


def rows(folder):
    found = [
        {key: value for key, value in row.items() if key not in OTHERWISE}
        for row in jsonl.read(folder / compare.ROWS)
    ]
    return sorted(found, key=lambda row: (row["rule"], row["seed"]))


def report(folder):
    return json.loads((folder / "report.json").read_text())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:.*unfinished line")
def test_killed_ten_times_it_ends_with_the_rows_of_an_unbroken_run(tmp_path):
    rng = random.Random(0)
    unbroken, folder = tmp_path / "unbroken", tmp_path / "killed"
    finished(unbroken, tmp_path)
    continued = 0
    for kill in range(KILLS):
        with start(folder, tmp_path) as process:
            assert process.stderr is not None
            if kill:  # The first one anywhere, even before there is a folder.
                process.stderr.readline()
            time.sleep(rng.uniform(0, 1.0))
            process.send_signal(signal.SIGKILL)
        ran = [(row["rule"], row["seed"]) for row in rows(folder)]
        assert len(set(ran)) == len(ran)
        continued += any(folder.glob("partial/*.npz"))
    assert continued >= KILLS // 3, "too few kills came in the middle of a run"
    assert "cannot be resumed" not in finished(folder, tmp_path)
    assert rows(folder) == rows(unbroken)
    assert [(row["rule"], row["seed"]) for row in rows(folder)] == [
        (rule, seed) for rule in ("adam:1e-3", "sgd:1e-2") for seed in range(3)
    ]
    assert report(folder)["settings"] == report(unbroken)["settings"]
    assert report(folder)["generalization"] == report(unbroken)["generalization"]
    assert not (folder / "partial").exists()
