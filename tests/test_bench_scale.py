"""The cost model of campaigns on many machines."""

import json
import pathlib

import numpy as np
import pytest

from bench import scale

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


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("what", ["devices", "workers"])
def test_a_campaign_is_measured(what):
    found = scale.run(f"1 {what}", 4096)
    assert len(found["generations"]) == 4
    # 4 generations of 8 members and 2 validations; the first task compiles.
    assert len(found["tasks"]) == (4 * 8 + 2 * 2 - 1) * (what == "workers")
    assert found["seconds"] > sum(found["generations"])
