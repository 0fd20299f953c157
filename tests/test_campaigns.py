"""The prepared campaign for a lent GPU."""

import json
import pathlib
import sys
import time

import pytest

from campaigns import gpu, lpg_ablations


def step(code, **options):
    return gpu.Step("step", (sys.executable, "-c", code), share=1.0, **options)


@pytest.fixture
def marks(tmp_path):
    return tmp_path / "finished.json"


def in_seconds(seconds):
    return time.monotonic() + seconds + 30  # to save the state


@pytest.mark.parametrize(("code", "well"), [("", True), ("raise SystemExit(3)", False)])
def test_a_step_succeeds_when_its_command_does(code, well, marks):
    assert gpu.run(step(code), in_seconds(60), marks) is well
    # Only what has finished is skipped.
    assert gpu.run(step("raise SystemExit(1)"), in_seconds(60), marks) is well


@pytest.mark.parametrize("endless", [True, False])
def test_a_step_out_of_time_is_interrupted_and_saves_its_state(
    tmp_path, endless, marks
):
    saved = tmp_path / "saved"
    code = (
        "import pathlib, time\n"
        "try: time.sleep(100)\n"
        f"finally: pathlib.Path({str(saved)!r}).touch()"
    )
    assert gpu.run(step(code, endless=endless), in_seconds(3), marks) is endless
    assert saved.exists() and not marks.exists()


def test_a_step_without_time_is_not_started(marks):
    assert not gpu.run(step("", endless=True), in_seconds(0), marks)


def test_an_update_that_is_not_finite_is_wrong(tmp_path, monkeypatch):
    rows = {"a": 0.0, "b": None, "c": 2e-4}
    monkeypatch.setattr(gpu, "optimizers", lambda: list(rows))
    found = {name: {"rule": name, "difference": x} for name, x in rows.items()}
    monkeypatch.setattr(gpu, "compared", found.get)
    with pytest.raises(SystemExit, match="differ: b, c"):
        gpu.correctness(tmp_path / "correctness.json")


def test_too_little_time_is_refused(tmp_path, capsys):
    with pytest.raises(SystemExit):
        gpu.main(["--out", str(tmp_path), "--seconds", "60"])
    assert "--seconds 60 must be above 60; give 540" in capsys.readouterr().err


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
    assert len(log) == 3  # the start, and two generations


TINY_ABLATION = [
    *("--steps", "2", "--seeds", "2", "--levels", "2", "--updates", "2"),
    *("--environments", "chain/short", "--only", "LPG-V", "untrained", "--set"),
    *("lifetimes=6", "workers=2", "rollout=3", "updates=1", "lifetime=3"),
    *("architecture.width=3", "log_every=1"),
]


@pytest.mark.slow
def test_ablations_have_a_row_per_seed_and_resume(tmp_path, monkeypatch):
    few = ("chain/short", "chain/long")
    monkeypatch.setattr(lpg_ablations, "ENVIRONMENTS", few)
    arguments = ["--out", str(tmp_path), *TINY_ABLATION]
    lpg_ablations.main(arguments)
    content = (tmp_path / "ablations.jsonl").read_text()
    rows = [json.loads(line) for line in content.splitlines()]
    names = [("LPG-V", 0), ("untrained", 0), ("LPG-V", 1), ("untrained", 1)]
    assert [(row["ablation"], row["seed"]) for row in rows] == names
    assert [row["meta_steps"] for row in rows] == [2, 0, 2, 0]
    assert rows[0]["config"]["architecture"]["prediction"] == "value"
    table = (tmp_path / "ablations.md").read_text()
    assert [line.split("|")[1].strip() for line in table.splitlines()[2:]] == [
        "LPG-V",
        "untrained",
    ]
    (tmp_path / "ablations.jsonl").write_text(content[: content.rindex("\n", 0, -1)])
    lpg_ablations.main(arguments)
    again = (tmp_path / "ablations.jsonl").read_text().splitlines()
    assert json.loads(again[-1])["share"] == rows[-1]["share"] and len(again) == 4
    with pytest.raises(ValueError, match="has a row of 'LPG-V' with other settings"):
        lpg_ablations.main([*arguments, "clip=1"])


@pytest.mark.parametrize("name", lpg_ablations.ABLATIONS)
def test_every_ablation_is_a_valid_configuration_of_its_own(name):
    def fields(name):
        return lpg_ablations.configuration(name, 0, 10, {}).as_json()

    assert (fields(name) == fields("whole")) == (name == "whole")
