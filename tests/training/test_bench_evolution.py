"""The benchmark of meta-training, as small as can be."""

import json

import pytest

from bench import evolution

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.mark.parametrize("devices", [1, 2])
def test_the_report(capsys, devices):
    words = ["--presets", "open-breakout", "--population", "2", "--steps", "8192"]
    words += ["--repetitions", "1", "--devices", "1", "2", "--only", str(devices)]
    evolution.main(words)
    report = json.loads(capsys.readouterr().out.splitlines()[-1])
    (population,) = report["populations"]
    assert population["devices"] == devices
    speeds = [population[f"{n}_steps_per_second"] for n in ("single", "population")]
    assert min(speeds) > 0
    assert population["relative"] == pytest.approx(speeds[1] / speeds[0], rel=0.01)
    parts = {row["part"]: row["share"] for row in report["parts"]}
    if devices == 2:  # measured by the process of the first number of devices
        assert parts == {}
        return
    assert parts.pop("whole") == 1
    assert sum(parts.values()) == pytest.approx(1, abs=0.01)
