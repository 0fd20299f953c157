"""What a campaign is said to cost, and what it does."""

import dataclasses
import io

import numpy as np
import pytest

from learned_opt_rl import cli
from learned_opt_rl.evaluation.runs import program
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.training.evolution import Campaign, campaign, estimate, progress
from learned_opt_rl.training.evolution import folder as folders
from learned_opt_rl.training.evolution.estimate import Estimate, measured
from learned_opt_rl.training.evolution.progress import Progress
from tests.training.test_evolution_campaign import COMMAND, CONFIG, Cheap

CURRICULUM = dataclasses.replace(
    CONFIG,
    agent={"num_envs": 4, "num_steps": 16, "epochs": 3, "minibatches": 2},
    horizons=((0, 640), (3, 6400)),
)


class Counting(Cheap):
    """Notes the steps of the runs it is asked for."""

    steps = 0

    def returns(self, vectors, keys):
        Counting.steps += self._steps * len(keys)
        return super().returns(vectors, keys)


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    monkeypatch.setattr(campaign, "Evaluator", Counting)
    monkeypatch.setattr(progress, "draw_curve", lambda *_: None)
    monkeypatch.setattr(Counting, "steps", 0)


@pytest.mark.parametrize("done", [0, 1, 3, 5])
def test_steps_and_updates_are_those_that_a_campaign_takes(tmp_path, done):
    if done:
        first = dataclasses.replace(CURRICULUM, generations=done)
        Campaign(first, tmp_path, stream=io.StringIO()).run()
    # The last generation of the shorter campaign was validated, due or not.
    Counting.steps = 0
    Campaign(CURRICULUM, tmp_path, stream=io.StringIO()).run()
    assert estimate.steps_left(CURRICULUM, done) == Counting.steps
    # 640 and 6400 steps are rollouts of 64, each with 3 epochs of 2 minibatches.
    assert estimate.updates_left(CURRICULUM, done) == Counting.steps // 64 * 6


def test_time_is_that_of_a_short_piece_scaled(monkeypatch):
    """A clock on which a step takes a millisecond, and compilation a minute."""
    now, asked = [0.0], []

    class Slow(Counting):
        memory, block = 5 * 2**20, 2

        def __init__(self, config, steps):
            super().__init__(config, steps)
            asked.append(steps)
            now[0] += 60

        def returns(self, vectors, keys):
            now[0] += self._steps * len(keys) / 1000
            return super().returns(vectors, keys)

    monkeypatch.setattr(estimate.time, "perf_counter", lambda: now[0])
    found = measured(CURRICULUM, 2, lambda steps, _: Slow(CURRICULUM, steps))
    assert asked == [128]  # two rollouts
    assert found.seconds == pytest.approx(found.steps / 1000)
    assert str(found) == (
        "6 generations: 211,200 environment steps, 19,800 updates of agents, "
        "validation included\n"
        "memory: 5 MiB per device, with --block 2\n"
        "time: about 0:03:31, from 4 runs of 128 steps (compiled in 60 s)"
    )


def test_missing_memory_is_reported_with_the_block_that_fits(monkeypatch):
    class Large(Cheap):
        memory, block = 800, 8

        def returns(self, vectors, keys):
            raise AssertionError("it would not fit")

    monkeypatch.setattr(estimate, "memory_limit", lambda: 500)
    found = measured(CONFIG, 1, lambda steps, _: Large(CONFIG, steps))
    assert (found.seconds, found.fits) == (None, 4)  # 400 of 450; 8 runs
    assert found.warning() == (
        "--block 8 needs more memory than a device has; --block 4 fits"
    )
    assert "not even --block 1 fits" in str(
        dataclasses.replace(found, fits=None).warning()
    )
    assert Estimate(1, 1, 1, memory=449, limit=500).warning() is None


def test_the_time_of_a_begun_campaign_follows_from_its_log(tmp_path):
    config = dataclasses.replace(CURRICULUM, generations=4)
    Campaign(config, tmp_path, stream=io.StringIO()).run()
    Counting.steps = 0
    longer = dataclasses.replace(config, generations=9)
    found = Campaign(longer, tmp_path).estimate()
    assert Counting.steps == 0
    rows = jsonl.read(tmp_path / folders.LOG)[1:]
    steps = sum(row["steps_per_second"] * row["seconds"] for row in rows)
    seconds = sum(row["seconds"] for row in rows)
    assert found.seconds == pytest.approx(found.steps * seconds / steps)
    assert (found.generations, found.source) == (5, "the last 4 generations in the log")


def test_another_campaign_is_refused_and_a_finished_one_costs_nothing(tmp_path):
    Campaign(CONFIG, tmp_path, stream=io.StringIO()).run()
    found = Campaign(CONFIG, tmp_path).estimate()
    assert (found.generations, found.steps, found.seconds) == (0, 0, 0)
    with pytest.raises(ValueError, match="other settings .sigma 0.1 -> 0.5"):
        Campaign(dataclasses.replace(CONFIG, sigma=0.5), tmp_path).estimate()


def test_remaining_work_is_counted_in_steps():
    """Ten times as long generations are to come."""
    lines = io.StringIO()
    with Progress(CURRICULUM, 2, lines) as progress:
        row = {"generation": 3, "best": 1.0, "mean": 0.5, "std": 1.0}
        progress(row | {"steps_per_second": 100.0, "seconds": 51.2}, 1.0)
    seconds = estimate.steps_left(CURRICULUM, 3) / 100
    assert seconds == 3 * 8 * 64 + 2 * 3 * 64
    assert lines.getvalue().endswith("0:32:00 left\n")


def test_memory_is_shown_if_the_device_reports_it(monkeypatch):
    monkeypatch.setattr(program, "memory_peak", lambda: 3 * 2**29)
    lines = io.StringIO()
    with Progress(CONFIG, 0, lines) as progress:
        row = {"generation": 1, "best": 1.0, "mean": 0.5, "std": 1.0}
        progress(row | {"steps_per_second": 100.0, "seconds": 1.0}, 1.0)
    assert lines.getvalue().endswith("left  1.5 GiB\n")


def test_a_dry_run_prints_and_leaves_nothing(tmp_path, capsys):
    folder = tmp_path / "campaign"
    start = [*COMMAND, "--out", str(folder), "--generations", "2"]
    assert cli.main([*start, "--dry-run"]) == 0
    printed = capsys.readouterr().out
    assert [line.split(":")[0] for line in printed.splitlines()] == [
        "2 generations",
        "memory",
        "time",
    ]
    assert not folder.exists()
    assert cli.main(start) == 0
    assert "time: about " in capsys.readouterr().err
    assert cli.main(["train", "resume", str(folder), "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("0 generations: 0 environment steps")
    assert np.isfinite(jsonl.read(folder / folders.LOG)[1]["mean"])
