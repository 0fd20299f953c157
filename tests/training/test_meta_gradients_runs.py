"""Runs of `train lpg`: their folder, resuming, the card, and the command."""

import hashlib
import itertools
import json
import os
import random
import shlex
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest

from learned_opt_rl import cli
from learned_opt_rl.artifacts import registry
from learned_opt_rl.artifacts.weights import load_safetensors, save_safetensors
from learned_opt_rl.rules import lpg
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.training.meta_gradients import Training, preset
from learned_opt_rl.training.meta_gradients.config import parse_settings
from learned_opt_rl.training.meta_gradients.curve import draw_curve
from learned_opt_rl.training.meta_gradients.meta_step import kept_row, rank
from learned_opt_rl.training.watchers import EVENTS, scalars
from tests.training.meta_trainings import config, rows, run
from tests.training.test_evolution_curve import events


def assert_same(folder, whole):
    assert rows(folder) == rows(whole)
    for name in ("best.safetensors", "final.safetensors"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run."""
    folder = tmp_path_factory.mktemp("whole")
    run(config(), folder)
    return folder


def test_a_run_leaves_its_log_configuration_and_weights(whole):
    log = jsonl.read(whole / "log.jsonl")
    assert [row["step"] for row in log] == [2, 4, 6]
    assert sum(row["finished"] for row in log) > 0
    for row in log:
        assert row["resets"] == {"entropy": 0, "non_finite": 0}
        assert 0 < row["policy_entropy"] < np.log(2) + 1e-6
        assert row["gradient_norm"] > 0
    made = json.loads((whole / "config.json").read_text())
    assert made["kind"] == "meta_gradients"
    assert made["config"]["architecture"]["width"] == 4
    architecture = config().rule_architecture
    for name in ("best", "final"):
        path = whole / f"{name}.safetensors"
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        rule = lpg.update_rule(load_safetensors(path, digest), architecture)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(rule))


def test_a_stopped_run_resumes_bit_for_bit(whole, tmp_path, monkeypatch):
    monkeypatch.setenv("LEARNED_OPT_RL_CHECKPOINT_SECONDS", "0")
    folder = tmp_path / "run"
    calls = itertools.count()
    append = jsonl.append

    def killed(*arguments, **options):
        append(*arguments, **options)
        if next(calls) == 1:  # between the log's second row and the state
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(jsonl, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            run(config(), folder)
    assert [row["step"] for row in rows(folder)] == [2, 4]
    run(config(), folder)
    assert_same(folder, whole)


def test_a_run_killed_before_its_first_state_starts_anew(tmp_path, monkeypatch):
    """From the weights that the starting point has by then."""
    start, told = tmp_path / "start.safetensors", []

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Training, "_rest", killed)
    for seed in (0, 1):
        weights = lpg.init(jax.random.key(seed), config().rule_architecture)
        digest = save_safetensors(start, weights)
        with pytest.raises(KeyboardInterrupt):
            run(config(start=str(start)), tmp_path / "run")
        made = json.loads((tmp_path / "run/config.json").read_text())
        told.append(made["start_sha256"] == digest)
    assert told == [True, True]


def test_a_run_killed_before_its_final_weights_writes_them(whole, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(whole, folder)
    (folder / "final.safetensors").unlink()
    run(config(), folder)
    assert_same(folder, whole)


@pytest.mark.slow
def test_options_keep_their_state_when_a_run_resumes(tmp_path):
    settings = {"validation_rollout": 7, "advantage_decay": 0.9, "bandit": True}
    settings |= {"lifetime_gradients": "adam", "clip": None}
    run(config(**settings), tmp_path / "whole")
    run(config(**settings, steps=2), tmp_path / "run")
    run(config(**settings), tmp_path / "run")
    assert_same(tmp_path / "run", tmp_path / "whole")


@pytest.mark.slow
def test_more_steps_continue_a_finished_run_and_fewer_are_refused(whole, tmp_path):
    folder = tmp_path / "run"
    run(config(steps=4), folder)
    run(config(), folder)
    assert_same(folder, whole)
    with pytest.raises(ValueError, match="steps=2, but 6 are done; pass at least 6"):
        run(config(steps=2), folder)
    with pytest.raises(ValueError, match="holds another run .*seed 0 -> 1"):
        run(config(seed=1), folder)


@pytest.mark.slow
def test_rows_stay_at_multiples_after_a_run_that_ended_between_two(whole, tmp_path):
    folder = tmp_path / "run"
    run(config(steps=3), folder)
    run(config(), folder)
    found, expected = rows(folder), rows(whole)
    assert [row["step"] for row in found] == [2, 3, 4, 6]
    assert [found[0], found[3]] == [expected[0], expected[2]]


@pytest.mark.slow
def test_a_damaged_state_is_refused(tmp_path):
    folder = tmp_path / "run"
    run(config(steps=2), folder)
    path = folder / "state.npz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="state.npz: the file is damaged; restore"):
        run(config(), folder)


SETTINGS = """
    --steps 6 --environments chain/short --set lifetimes=4 minibatch=2 workers=2
    rollout=4 updates=2 lifetime=5 log_every=2 architecture.width=4
    architecture.embedding=3 architecture.target_width=3
"""


@pytest.mark.slow
def test_the_command_estimates_trains_and_reports(whole, tmp_path, capsys):
    command = ["train", "lpg", "--preset", "lpg-cpu", "--out", str(tmp_path / "run")]
    assert cli.main([*command, "--dry-run", *SETTINGS.split()]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("6 meta-steps: 576 environment steps\nmemory: ")
    assert not (tmp_path / "run").exists()
    assert cli.main([*command, *SETTINGS.split()]) == 0
    printed = capsys.readouterr()
    assert "6 meta-steps done" in printed.out
    assert "meta-step 2/6" in printed.err and "resets 0+0" in printed.err
    assert rows(tmp_path / "run") == rows(whole)
    assert cli.main([*command, "--set", "lifetimes=7"]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "lifetimes=7: must be a multiple" in error
    assert cli.main(["train", "resume", str(tmp_path / "run")]) == 2
    assert "holds a run of kind meta_gradients" in capsys.readouterr().err


@pytest.mark.slow
def test_events_are_the_rows_of_the_log(whole, tmp_path, capsys, monkeypatch):
    pytest.importorskip("tensorboardX")
    folder = tmp_path / "run"
    command = ["train", "lpg", "--preset", "lpg-cpu", "--out", str(folder)]
    command += ["--tensorboard", "--devices", "2"]
    assert cli.main([*command, *SETTINGS.split()]) == 0
    found = events(folder / EVENTS)
    expected = {
        (tag, row["step"]): [pytest.approx(value, rel=1e-6)]
        for row in jsonl.read(folder / "log.jsonl")
        for tag, value in scalars(row)
    }
    assert found == expected
    assert ("lifetimes/recent_share", 6) in found and ("resets/entropy", 2) in found
    assert ("meta_step/gradient_norm", 4) in found
    assert ("returns/chain/short", 6) in found and len(found) > 3 * 12
    assert json.loads((folder / "config.json").read_text())["devices"] == 2
    assert cli.main([*command, "--devices", "3", *SETTINGS.split()]) == 2
    assert "devices=3, but there are 2" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "tensorboardX", None)
    assert cli.main([*command, *SETTINGS.split()]) == 2
    assert "tensorboard=True needs tensorboardX" in capsys.readouterr().err


def test_the_curve_is_drawn_from_the_log(whole, tmp_path, capsys):
    path = tmp_path / "curve.svg"
    assert cli.main(["train", "curve", str(whole), "--out", str(path)]) == 0
    assert capsys.readouterr().out.strip() == str(path)
    text = path.read_text()
    assert all(word in text for word in ("meta-step", "last 200 lifetimes", "entropy"))
    with pytest.raises(ValueError, match="holds no meta-step yet"):
        draw_curve([], path)


def test_the_best_weights_become_an_artifact(whole, tmp_path, capsys):
    folder, root = tmp_path / "run", tmp_path / "pretrained"
    shutil.copytree(whole, folder)
    root.mkdir()
    words = ["train", "promote", str(folder), "--as", "lpg/mine", "--seeds", "1"]
    words += ["--steps", "2e3", "--set", "num_envs=2", "--pretrained", str(root)]
    assert cli.main(words) == 0
    with registry.bundled_in(root):
        rule = lpg.pretrained("lpg/mine")
        card = registry.find("lpg/mine").card
    assert rule.architecture == config().rule_architecture
    digest = hashlib.sha256((folder / "best.safetensors").read_bytes()).hexdigest()
    assert card.weights.sha256 == digest
    assert card.training.method == "meta-gradients"
    description = card.training.description
    assert description.startswith("Trained by meta-gradients from random. Settings: ")
    assert "Selected weights: step " in description
    assert "recent_share " in description
    (result,) = card.results
    assert (result.environment, result.steps) == ("chain/short", 2000)
    # The command of the card is that of the run.
    assert card.training.command is not None
    _, _, settings = card.training.command.partition(" --set ")
    again = preset("lpg-cpu", **parse_settings(shlex.split(settings)))
    assert again.as_json() == config().as_json()


def test_a_card_describes_the_weights_that_a_run_keeps():
    """The first of the best, once enough lifetimes have finished; else the last."""

    def row(step, finished, value):
        return {"step": step, "finished": finished, "recent_share": value}

    early = [row(10, 150, 0.9), row(20, 10, 0.2)]
    assert kept_row(early)["step"] == 20
    late = [*early, row(30, 60, 0.5), row(40, 9, 0.7), row(50, 9, 0.7), row(60, 9, 0.6)]
    assert kept_row(late)["step"] == 40
    kept, best, finished = None, -np.inf, 0
    for one in late:
        finished += one["finished"]
        best, improved = rank(best, finished, one["recent_share"])
        kept = one["step"] if improved else kept
    assert kept == 40


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.filterwarnings("ignore:.*unfinished line")
def test_a_run_killed_ten_times_resumes_bit_for_bit(tmp_path):
    """kill -9 at random moments; then to the end, which an unbroken run reaches."""
    environment = {
        **os.environ,
        "LEARNED_OPT_RL_CHECKPOINT_SECONDS": "0",
        # Every start compiles the same programs.
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }
    words = ["-m", "learned_opt_rl", "train", "lpg", "--preset", "lpg-cpu"]
    settings = SETTINGS.replace("--steps 6", "--steps 10000").split()

    def start(folder):
        command = [sys.executable, *words, "--out", str(folder), *settings]
        return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE)

    def finish(folder):
        with start(folder) as process:
            _, said = process.communicate()
        assert process.returncode == 0, said

    finish(tmp_path / "whole")
    rng, killed = random.Random(0), 0
    for _ in range(10):
        with start(tmp_path / "run") as process:
            assert process.stderr is not None
            for line in process.stderr:
                if line.startswith(b"meta-step"):
                    break
            time.sleep(rng.uniform(0, 0.5))
            process.send_signal(signal.SIGKILL)
        killed += process.returncode == -signal.SIGKILL
    assert killed == 10
    finish(tmp_path / "run")
    assert_same(tmp_path / "run", tmp_path / "whole")
