"""Workers that die, join and are lost, as real processes of Dask."""

import contextlib
import dataclasses
import io
import json
import random
import subprocess
import sys
import threading
import time

import dask
import distributed
import pytest

from learned_opt_rl.evaluation.runs import compare
from learned_opt_rl.evaluation.runs.plan import Comparison, prepare
from learned_opt_rl.evaluation.runs.row import read_rows
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.cluster import ClusterError, connected
from learned_opt_rl.training.evolution import Campaign, Execution
from learned_opt_rl.training.run_folder import LOG
from tests.evaluation.test_compare import SMALL, in_order, measured
from tests.training.test_evolution import CONFIG, check_same_states

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

CAMPAIGN = dataclasses.replace(CONFIG, horizons=((0, 8192),), generations=6)
COMPARISON = Comparison(
    ("adam:1e-2", "sgd:1e-2"), ("CartPole-v1",), 12, 64 * 64, settings=SMALL
)


class Machines:
    """A scheduler and three workers, each a process."""

    def __init__(self, folder):
        self._file, self._log = folder / "scheduler.json", (folder / "log").open("wb")
        options = ["--port", "0", "--dashboard-address", ":0"]
        self.scheduler = self._start("scheduler", *options)
        self.workers = [self.add() for _ in range(3)]
        while not self._file.exists():
            time.sleep(0.1)
        self.address = json.loads(self._file.read_text())["address"]

    def add(self):
        # Without a nanny, a worker that is killed stays dead.
        return self._start("worker", "--nthreads", "1", "--no-nanny")

    def _start(self, *words):
        file = ["--scheduler-file", str(self._file)]
        command = [sys.executable, "-m", "dask", *words, *file]
        return subprocess.Popen(command, stdout=self._log, stderr=self._log)

    def close(self):
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()
        self._log.close()


@pytest.fixture
def machines(tmp_path):
    made = Machines(tmp_path)
    yield made
    made.close()


@contextlib.contextmanager
def meanwhile(log, *actions):
    """Act in a thread, each time a moment after a file has this many more rows."""
    done = []

    def act():
        for rows, action in actions:
            while not log.exists() or len(jsonl.read(log)) < rows:
                time.sleep(0.05)
            time.sleep(random.uniform(0, 1))
            action()
            done.append(rows)

    thread = threading.Thread(target=act, daemon=True)
    thread.start()
    yield
    thread.join(60)
    assert len(done) == len(actions)


def changes(machines, first, second):
    """Kill two workers after so many rows, and add one in between."""
    return [
        (first, machines.workers[0].kill),
        (first, lambda: machines.workers.append(machines.add())),
        (second, machines.workers[1].kill),
    ]


def test_a_campaign_survives_its_workers(machines, tmp_path):
    alone = Campaign(CAMPAIGN, tmp_path / "alone", stream=io.StringIO()).run()
    folder = tmp_path / "cluster"
    with connected(machines.address) as cluster:
        execution = Execution(cluster=cluster)
        campaign = Campaign(CAMPAIGN, folder, execution, io.StringIO())
        with meanwhile(folder / LOG, *changes(machines, 1, 3)):
            together = campaign.run()
    check_same_states(alone, together)
    rows = [jsonl.read(tmp_path / name / LOG) for name in ("alone", "cluster")]
    assert [row.get("fitness") for row in rows[0]] == [
        row.get("fitness") for row in rows[1]
    ]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    assert compare.execute(prepare(COMPARISON), folder) == []
    return in_order(measured(folder))


def test_a_comparison_survives_its_workers(machines, tmp_path, alone):
    plan, folder = prepare(COMPARISON), tmp_path / "cluster"
    killing = meanwhile(folder / compare.ROWS, *changes(machines, 2, 8))
    with connected(machines.address) as cluster, killing:
        assert compare.execute(plan, folder, cluster=cluster) == []
    assert len(alone) == 24
    assert in_order(measured(folder)) == alone


def test_a_comparison_resumes_after_its_scheduler(machines, tmp_path, alone):
    plan, folder = prepare(COMPARISON), tmp_path / "cluster"
    rows = folder / compare.ROWS
    raises = pytest.raises(ClusterError, match="scheduler is gone; start it again")
    killing = meanwhile(rows, (3, machines.scheduler.kill))
    with raises, connected(machines.address) as cluster, killing:
        compare.execute(plan, folder, cluster=cluster)
    kept = jsonl.read(rows)
    assert 3 <= len(kept) < 24
    assert compare.execute(plan, folder) == []
    assert jsonl.read(rows)[: len(kept)] == kept
    assert in_order(measured(folder)) == alone


def test_a_run_that_needs_more_memory_than_its_worker_has_fails_alone(tmp_path):
    large = (
        "num_envs=64",
        "num_steps=8192",
        "hidden=4x4",
        "minibatches=64",
        "epochs=1",
    )
    names = ("CartPole-v1", "Breakout-MinAtar")  # 4 numbers a step, and 400
    asked = Comparison(("adam:1e-3",), names, 1, 64 * 8192, settings=large)
    with contextlib.ExitStack() as stack:
        # Only the nanny's limit counts, and one worker's death is enough.
        few = {
            "distributed.scheduler.allowed-failures": 0,
            "distributed.worker.memory.pause": False,
        }
        stack.enter_context(dask.config.set(few))
        local = distributed.LocalCluster(
            n_workers=2,
            threads_per_worker=1,
            memory_limit="1200MiB",
            dashboard_address="127.0.0.1:0",
        )
        address = stack.enter_context(local).scheduler_address
        cluster = stack.enter_context(connected(address))
        failures = compare.execute(prepare(asked), tmp_path, cluster=cluster)
    assert [failure[:2] for failure in failures] == [("adam:1e-3", "Breakout-MinAtar")]
    assert "KilledWorker" in failures[0].message
    (row,) = read_rows(tmp_path / compare.ROWS)
    assert row.environment == "CartPole-v1"
