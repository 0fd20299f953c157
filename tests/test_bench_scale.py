"""The cost model of campaigns on many machines."""

import json
import pathlib

import numpy as np
import pytest

from bench import scale
from learned_opt_rl.training.evolution import preset

REPORT = pathlib.Path(__file__).parents[1] / "results" / "scale.json"


@pytest.mark.parametrize(
    ("times", "speeds", "per_task", "seconds"),
    [
        ([1, 1, 1, 1], [1, 1], 0, 2),
        ([3, 1, 1, 1], [1, 1], 0, 3),  # the free worker takes the short ones
        ([1, 1, 1], [1, 1], 0, 2),
        ([1, 1], [1, 0.5], 0, 2),
        ([1, 1, 1], [1, 1, 1], 2, 7),  # the scheduler is the bottleneck
        ([1, 1], [1], 0.5, 3),
    ],
)
def test_a_stage_ends_with_its_last_task(times, speeds, per_task, seconds):
    assert scale.stage(np.array(times), np.array(speeds), per_task) == seconds


@pytest.mark.parametrize("part", ["checks", "campaigns", "limits"])
def test_the_predictions_follow_from_the_measurements(part):
    report = json.loads(REPORT.read_text())
    assert getattr(scale, part)(report) == report[part]


def test_the_stages_follow_the_horizons_of_the_generations():
    """Also if a generation has as many tasks as a validation."""
    config = preset(
        "open-breakout",
        **{"population": 8, "validation_seeds": 8, "generations": 4},
        **{"validate_every": 2, "horizons": ((0, 8192), (3, 16384))},
    )
    # Before the first generation and after the second and the last one, the mean.
    short, long = [(8, 8192)], [(8, 16384)]
    assert scale.stages_of(config) == 5 * short + 2 * long


def test_calls_with_a_mebibyte_cost_more(monkeypatch):
    monkeypatch.setattr(scale, "CALLS", 200)
    found = scale.calls("1", 0)
    assert 0 < found["task_seconds"] < found["mib_seconds"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", ["devices", "workers"])
def test_a_campaign_is_measured(what):
    found = scale.run(f"1 {what}", 8192)
    assert len(found["generations"]) == 4
    # 4 generations of 8 members and 2 validations; the first task compiles.
    assert len(found["tasks"]) == (4 * 8 + 2 * 2 - 1) * (what == "workers")
    assert found["seconds"] > sum(found["generations"])
