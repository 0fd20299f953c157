"""The prepared campaign for a lent GPU."""

import json
import pathlib
import sys
import time

import pytest

from campaigns import gpu


def step(code, done=None, share=1.0):
    return gpu.Step("step", (sys.executable, "-c", code), done, share)


@pytest.mark.parametrize(("code", "well"), [("", True), ("raise SystemExit(3)", False)])
def test_a_step_is_well_when_its_command_is(code, well):
    assert gpu.run(step(code), time.monotonic() + 100) is well


def test_a_step_that_is_done_is_skipped(tmp_path):
    assert gpu.run(step("raise SystemExit(1)", tmp_path), time.monotonic())


@pytest.mark.parametrize("evolves", [True, False])
def test_a_step_out_of_time_is_interrupted_and_saves_its_state(tmp_path, evolves):
    saved = tmp_path / "saved"
    code = (
        "import pathlib, time\n"
        "try: time.sleep(100)\n"
        f"except KeyboardInterrupt: pathlib.Path({str(saved)!r}).touch()"
    )
    done = None if evolves else tmp_path / "done"
    assert gpu.run(step(code, done), time.monotonic() + 33) is evolves
    assert saved.exists()


def test_too_little_time_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        gpu.main(["--out", str(tmp_path), "--seconds", "60"])
    assert "--seconds 60 must be above 60" in capsys.readouterr().err


@pytest.mark.slow
def test_a_rehearsal_checks_measures_and_evolves(tmp_path):
    small = ["population=2", "horizons=0:16384", "generations=2", "validate_every=2"]
    arguments = ["--out", str(tmp_path), "--tiny", "--seconds", "1500"]
    gpu.main([*arguments, "--preset", "open-breakout-cpu", "--set", *small])
    checked = json.loads((tmp_path / "correctness.json").read_text())
    assert {row["difference"] for row in checked["updates"]} == {0.0}
    measured = json.loads((tmp_path / "overhead.json").read_text())
    assert [row["optimizer"] for row in measured["updates"]][0] == "Adam"
    log = pathlib.Path(tmp_path / "campaign" / "log.jsonl").read_text().splitlines()
    assert len(log) == 2
