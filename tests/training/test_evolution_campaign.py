"""The campaign around a fitness that costs nothing; agents are in test_evolution."""

import dataclasses
import errno
import hashlib
import io
import json
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl import cli
from learned_opt_rl.artifacts.weights import load_safetensors, save_safetensors
from learned_opt_rl.rundir import checkpoint, jsonl
from learned_opt_rl.rundir.lock import FolderInUseError, locked
from learned_opt_rl.training.evolution import (
    Campaign,
    EvolutionConfig,
    campaign,
    preset,
    progress,
)
from learned_opt_rl.training.evolution import folder as folders
from learned_opt_rl.training.evolution.campaign import SearchFailedError
from learned_opt_rl.training.evolution.folder import read_campaign
from learned_opt_rl.training.evolution.strategy import OpenAIES

CONFIG = EvolutionConfig(
    "open",
    {"carry": None, "width": 2},
    ("CartPole-v1",),
    ((0, 1000),),
    agent={"num_envs": 4},
    population=4,
    sigma=0.1,
    learning_rate=0.1,
    rollouts=2,
    validate_every=2,
    validation_seeds=3,
    generations=6,
)


class Cheap:
    """In place of the program that trains agents; the larger the weights, the better.

    Long runs return less.
    """

    memory, block = None, 1

    def __init__(self, config, steps, **_):
        self._steps = steps

    def returns(self, vectors, keys):
        noise = 0.001 * jax.vmap(jax.random.normal)(keys)
        return np.array(vectors.mean(1) + noise - self._steps * 1e-4)[:, None]


@pytest.fixture(autouse=True)
def cheap(monkeypatch):
    monkeypatch.setattr(campaign, "Evaluator", Cheap)
    monkeypatch.setattr(progress, "draw_curve", lambda *_: None)


def run(folder, config=CONFIG, **changes):
    config = dataclasses.replace(config, **changes)
    return Campaign(config, folder, stream=io.StringIO()).run()


def log(folder):
    """Rows without the times."""
    rows = jsonl.read(folder / folders.LOG)
    clocks = ("seconds", "steps_per_second")
    return [{k: v for k, v in row.items() if k not in clocks} for row in rows]


def plain(standing):
    search = standing.search
    key = jax.random.key_data(search.key)
    leaves = jax.tree.leaves(standing._replace(search=search._replace(key=key)))
    return [np.asarray(leaf).tobytes() for leaf in leaves]


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    path = tmp_path_factory.mktemp("unbroken")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(campaign, "Evaluator", Cheap)
        patch.setattr(progress, "draw_curve", lambda *_: None)
        return path, run(path)


def test_climbs_and_keeps_the_best_mean(unbroken):
    path, standing = unbroken
    rows = log(path)
    assert [row["generation"] for row in rows] == list(range(7))
    validated = {r["generation"]: r["validation"] for r in rows if "validation" in r}
    assert [*validated] == [0, 2, 4, 6]
    assert validated[6] > validated[0]
    best = max(validated, key=lambda generation: validated[generation])
    assert int(standing.best_generation) == best
    assert float(standing.best_validation) == validated[best]
    content = (path / folders.BEST).read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    weights = load_safetensors(path / folders.BEST, digest)
    vector = jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(weights)])
    np.testing.assert_array_equal(vector, standing.best_mean)


def test_a_row_describes_its_generation(unbroken):
    row = jsonl.read(unbroken[0] / folders.LOG)[1]
    assert len(row["fitness"]) == 4
    assert row["best"] == max(row["fitness"])
    assert row["mean"] == pytest.approx(np.mean(row["fitness"]))
    assert row["std"] == pytest.approx(np.std(row["fitness"]))
    assert row["returns"] == {"CartPole-v1": pytest.approx(row["mean"])}
    assert (row["horizon"], row["failed"]) == (1000, 0)
    # 4 members, 2 rollouts of the one run of 4 * 128 steps that 1000 steps hold
    assert row["steps_per_second"] * row["seconds"] == pytest.approx(4096, rel=0.5)


@pytest.mark.parametrize("stop", [1, 2, 5])
def test_a_stopped_campaign_resumes_bit_identically(tmp_path, unbroken, stop):
    run(tmp_path, generations=stop)
    assert plain(run(tmp_path)) == plain(unbroken[1])
    fitness = [
        [row.get("fitness") for row in log(path)] for path in (tmp_path, *unbroken[:1])
    ]
    assert fitness[0] == fitness[1]


class _KilledError(Exception):
    pass


@pytest.mark.parametrize("moment", ["log", "best", "state"])
@pytest.mark.parametrize("generation", [0, 2])
def test_a_campaign_killed_between_two_writes_resumes_bit_identically(
    tmp_path, unbroken, monkeypatch, moment, generation
):
    """Each of the three writes of a generation is the last thing that happens."""
    where = {
        "log": (folders.jsonl, "append"),
        "best": (folders, "save_safetensors"),
        "state": (folders.Checkpoint, "save"),
    }[moment]
    write, calls = getattr(*where), []

    def kill_after(*args, **kwargs):
        write(*args, **kwargs)
        calls.append(None)
        if len(calls) > generation:
            raise _KilledError

    with monkeypatch.context() as patch:
        patch.setattr(*where, kill_after)
        with pytest.raises(_KilledError):
            run(tmp_path)
    assert plain(run(tmp_path)) == plain(unbroken[1])
    assert log(tmp_path) == log(unbroken[0])


def test_a_damaged_newest_state_falls_back_to_the_one_before(tmp_path, unbroken):
    run(tmp_path, generations=4)
    newest = tmp_path / folders.STATES[0]  # 4 is even
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 1
    newest.write_bytes(content)
    message = r"state-0.npz: the file is damaged. Resuming .* after 3 generations"
    with pytest.warns(UserWarning, match=message):
        standing = run(tmp_path)
    assert plain(standing) == plain(unbroken[1])
    assert [row["generation"] for row in log(tmp_path)] == list(range(7))
    assert (tmp_path / "state-0.kept-1.npz").read_bytes() == content


def test_a_state_of_a_newer_version_is_kept(tmp_path, monkeypatch):
    run(tmp_path, generations=3)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "FORMAT", 2)
        with pytest.raises(ValueError, match="no state can be read .*its format is 1"):
            run(tmp_path)
    (tmp_path / folders.STATES[0]).unlink()
    newer = (tmp_path / folders.STATES[1]).read_bytes()
    run(tmp_path / "older", generations=2)
    (tmp_path / "older" / folders.STATES[1]).write_bytes(newer)
    monkeypatch.setattr(checkpoint, "FORMAT", 2)
    with pytest.raises(ValueError, match="no state can be read"):
        run(tmp_path / "older")
    assert (tmp_path / "older" / folders.STATES[1]).read_bytes() == newer


def test_states_of_update_rules_with_the_former_fitness_are_refused(tmp_path):
    folder = folders.Folder(tmp_path, preset("lpg-es-cpu"))
    folder.claim(True, 1)
    former = checkpoint.Checkpoint(tmp_path / folders.STATES[0], {})
    former.save({}, done=1, seconds=0.0)
    with pytest.raises(ValueError, match="its format is 1, but this version reads 1.1"):
        folder.load(template=None)


def test_files_without_a_configuration_are_not_touched(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"loss": 1.0}\n')
    (tmp_path / "best.safetensors").write_bytes(b"mine")
    with pytest.raises(ValueError, match="holds log.jsonl, best.safetensors of anoth"):
        run(tmp_path)
    assert (tmp_path / "best.safetensors").read_bytes() == b"mine"


def test_without_a_whole_state_nothing_is_deleted(tmp_path):
    run(tmp_path, generations=3)
    for name in folders.STATES:
        (tmp_path / name).write_bytes(b"")
    rows = log(tmp_path)
    with pytest.raises(ValueError, match="no state can be read.*state-0.*state-1"):
        run(tmp_path)
    assert log(tmp_path) == rows
    for name in folders.STATES:
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match="state-0.npz and state-1.npz are missing"):
        run(tmp_path)
    assert log(tmp_path) == rows


def test_the_starting_point_is_recorded_at_the_start(tmp_path):
    """Not before: the file may be another by then."""
    start = tmp_path / "start.safetensors"
    config = dataclasses.replace(CONFIG, start=str(start))
    told = []
    for value in (0, 1):
        weights = config.learned.unravel(np.full(config.learned.size, value, "f4"))
        save_safetensors(start, weights)
        run(tmp_path / "run", config)
        told.append(json.loads((tmp_path / "run/config.json").read_text()))
        for name in (*folders.STATES, folders.LOG):
            (tmp_path / "run" / name).unlink()
    assert told[0]["start_sha256"] != told[1]["start_sha256"]


@pytest.mark.parametrize(
    "write",
    [
        "learned_opt_rl.rundir.jsonl._write",
        "learned_opt_rl.training.evolution.folder.save_safetensors",
        "learned_opt_rl.rundir.checkpoint.write_atomically",
    ],
)
def test_a_full_disk_leaves_the_folder_unharmed(tmp_path, unbroken, monkeypatch, write):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    run(tmp_path, generations=3)
    with monkeypatch.context() as patch:
        patch.setattr(write, full)
        with pytest.raises(OSError, match="No space left"):
            run(tmp_path)
    assert plain(run(tmp_path)) == plain(unbroken[1])
    assert log(tmp_path)[-1] == log(unbroken[0])[-1]


def test_another_campaign_is_refused_with_the_differences(tmp_path):
    run(tmp_path, generations=1)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    message = r"other settings \(sigma 0.1 -> 0.2; seed 0 -> 5\); give another folder"
    with pytest.raises(ValueError, match=message):
        run(tmp_path, sigma=0.2, seed=5)
    del before[".lock"]
    assert before == {
        path.name: path.read_bytes()
        for path in tmp_path.iterdir()
        if path.name != ".lock"
    }


def test_a_longer_campaign_is_the_same_campaign(tmp_path):
    run(tmp_path, generations=1)
    run(tmp_path, generations=2)
    assert read_campaign(tmp_path) == dataclasses.replace(CONFIG, generations=2)


def test_a_shorter_campaign_is_refused(tmp_path):
    run(tmp_path, generations=2)
    before = (tmp_path / folders.CONFIG).read_bytes()
    with pytest.raises(ValueError, match="generations=1, but 2 are done"):
        run(tmp_path, generations=1)
    assert (tmp_path / folders.CONFIG).read_bytes() == before


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("versions", {"jax": "0.0.1"}, r"jax 0\.0\.1 -> "),
        ("revision", "0123", "revision 0123 -> "),
        ("device", "abacus", "device abacus -> cpu"),
        ("block", 64, "block 64 -> 1: its last digits may differ"),
    ],
)
def test_changes_of_the_last_digits_are_reported(tmp_path, name, value, message):
    run(tmp_path, generations=1)
    path = tmp_path / folders.CONFIG
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {name: value}))
    other = path.read_bytes()
    run(tmp_path, generations=1)  # is over, so that nothing is made by this machine
    assert path.read_bytes() == other
    state = (tmp_path / folders.STATES[1]).read_bytes()
    with pytest.warns(UserWarning, match=f"resumes with {message}"):
        run(tmp_path, generations=2)
    assert json.loads(path.read_text())[name] == content[name]
    kept = sorted(tmp_path.glob("*.kept-*"))
    if name == "versions":
        assert [one.read_bytes() for one in kept] == [other, state]
    else:
        assert kept == []


def test_out_of_memory_is_reported_in_one_line(tmp_path, monkeypatch, capsys):
    def full(*_):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    monkeypatch.setattr(Cheap, "returns", full)
    assert cli.main([*COMMAND, "--out", str(tmp_path), "--block", "2"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: --block 2 needs more memory than a device has")


def test_one_process_at_a_time(tmp_path):
    with locked(tmp_path), pytest.raises(FolderInUseError):
        run(tmp_path)


def test_missing_packages_and_starts_leave_no_campaign(tmp_path):
    with pytest.raises(ValueError, match="minatr"):
        run(tmp_path, start="minatr")
    with pytest.raises(ValueError, match="CartPol-v1"):
        run(tmp_path, environments=("CartPol-v1",))
    run(tmp_path, generations=1)


def test_a_warm_start_may_be_deleted_later(tmp_path, monkeypatch):
    sizes = {"carry": None, "width": 32}
    first = run(
        tmp_path, architecture=sizes, start="distilled/sign_mixture", generations=1
    )
    monkeypatch.setattr("learned_opt_rl.artifacts.load", None)
    config = read_campaign(tmp_path)
    second = run(tmp_path, config, generations=2)
    assert not np.array_equal(first.search.mean, second.search.mean)
    told = json.loads((tmp_path / folders.CONFIG).read_text())["start_sha256"]
    assert len(told) == 64


def test_the_best_of_a_shorter_horizon_does_not_count(tmp_path):
    """Returns fall when runs get longer, in this test; validation begins anew."""
    standing = run(tmp_path, horizons=((0, 1000), (2, 50_000)), generations=4)
    rows = log(tmp_path)
    assert [row.get("horizon") for row in rows] == [None, 1000, 1000, 50_000, 50_000]
    assert float(standing.best_validation) == rows[4]["validation"]
    assert rows[4]["validation"] < rows[2]["validation"]
    assert int(standing.best_horizon) == 50_000


def test_failed_members_are_counted_and_the_others_logged(tmp_path, monkeypatch):
    class Failing(Cheap):
        def returns(self, vectors, keys):
            returns = super().returns(vectors, keys)
            returns[0] = np.nan
            return returns

    monkeypatch.setattr(campaign, "Evaluator", Failing)
    standing = run(tmp_path, generations=1)
    row = log(tmp_path)[1]
    assert row["failed"] == 1
    assert row["fitness"][0] is None
    assert row["best"] == max(row["fitness"][1:])
    assert row["validation"] is None
    assert int(standing.best_generation) == -1
    assert np.isfinite(standing.search.mean).all()


def test_progress_is_a_line_per_generation(tmp_path):
    stream = io.StringIO()
    config = dataclasses.replace(CONFIG, generations=2)
    Campaign(config, tmp_path, stream=stream).run()
    first, *lines = stream.getvalue().splitlines()
    assert first.startswith("open: ")
    assert "4,096 environment steps per generation; compiled in" in first
    assert [line.split("  ")[0] for line in lines] == [
        "generation 1/2",
        "generation 2/2",
    ]
    assert lines[1].endswith("0:00:00 left")


class Flat(Cheap):
    """Gives every agent one return; after ``finite`` calls, NaN."""

    finite, calls = 10, 0

    def returns(self, vectors, keys):
        self.calls += 1
        return np.full((len(keys), 1), 1.0 if self.calls <= self.finite else np.nan)


def test_a_generation_of_equal_members_is_reported(tmp_path, monkeypatch):
    monkeypatch.setattr(campaign, "Evaluator", Flat)
    stream = io.StringIO()
    Campaign(dataclasses.replace(CONFIG, generations=1), tmp_path, stream=stream).run()
    assert stream.getvalue().endswith(
        "(all members equal, nothing moves: raise sigma?)\n"
    )


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize("strategy", ["openai_es", "snes"])
def test_a_generation_without_any_return_stops_the_search(
    tmp_path, monkeypatch, strategy
):
    monkeypatch.setattr(campaign, "Evaluator", Flat)
    monkeypatch.setattr(Flat, "finite", 3)  # a validation and two generations
    config = dataclasses.replace(CONFIG, strategy=strategy, validate_every=9)
    message = (
        rf"generation 3 of strategy='{strategy}' with sigma=0.1: no member has a "
        r"finite return: .* Raise horizons, .* keeps the state after generation 2"
    )
    with pytest.raises(SearchFailedError, match=message):
        run(tmp_path, config)
    assert [row["generation"] for row in log(tmp_path)] == [0, 1, 2]
    before = files(tmp_path)
    assert "best.safetensors" in before
    monkeypatch.setattr(Flat, "finite", 0)
    with pytest.raises(SearchFailedError, match="generation 3"):
        run(tmp_path, config)  # resumes, and comes to the same end
    assert files(tmp_path) == before


def test_a_mean_that_is_not_finite_stops_the_search(tmp_path, monkeypatch, capsys):
    run(tmp_path, generations=2)
    before = files(tmp_path)
    tell = OpenAIES.tell

    def lost(self, state, fitness):
        state = tell(self, state, fitness)
        return state._replace(mean=state.mean.at[0].set(jnp.inf))

    monkeypatch.setattr(OpenAIES, "tell", lost)
    assert cli.main(["train", "resume", str(tmp_path), "--generations", "4"]) == 2
    assert (
        "generation 3 of strategy='openai_es' with sigma=0.1: the mean or the step"
        in (capsys.readouterr().err)
    )
    assert {n: c for n, c in files(tmp_path).items() if n.startswith("state")} == {
        n: c for n, c in before.items() if n.startswith("state")
    }


def test_a_campaign_without_any_best_weights_fails(tmp_path, monkeypatch, capsys):
    class Failing(Cheap):
        def returns(self, vectors, keys):
            returns = super().returns(vectors, keys)
            returns[0] = np.nan  # so every validation is NaN
            return returns

    run(tmp_path, generations=1)
    for name in (*folders.STATES, folders.LOG, "best.safetensors"):
        (tmp_path / name).unlink(missing_ok=True)
    monkeypatch.setattr(campaign, "Evaluator", Failing)
    assert cli.main(["train", "resume", str(tmp_path)]) == 2
    assert "no best weights, because no validation was" in capsys.readouterr().err


def test_progress_is_a_bar_in_a_terminal(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "90")  # no agent is as fast as this test's

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    stream = Terminal()
    config = dataclasses.replace(CONFIG, generations=2)
    Campaign(config, tmp_path, stream=stream).run()
    assert "2/2" in stream.getvalue()
    assert "validated" in stream.getvalue()


COMMAND = [
    *("train", "es", "--preset", "open-breakout", "--set", "environments=CartPole-v1"),
    *("population=4", "architecture.width=2", "agent.num_envs=4", "horizons=1000"),
]


def test_the_command_line_starts_resumes_and_refuses(tmp_path, capsys):
    folder = str(tmp_path / "campaign")
    start = [*COMMAND, "--out", folder, "--generations", "2"]
    assert cli.main(start) == 0
    output = capsys.readouterr()
    assert output.out.startswith("2 generations done; the best mean, of generation ")
    assert output.err.splitlines()[-1].startswith("generation 2/2  best ")
    assert cli.main(start) == 0
    assert cli.main(["train", "resume", folder, "--generations", "3"]) == 0
    assert capsys.readouterr().out.splitlines()[-1].startswith("3 generations done")
    assert [row["generation"] for row in log(tmp_path / "campaign")] == [0, 1, 2, 3]
    again = [*COMMAND, "sigma=0.5", "--out", folder]
    assert cli.main(again) == 2
    error = capsys.readouterr().err
    assert error.startswith(
        f"error: {folder} holds a campaign with other settings (sig"
    )
    assert "sigma 0.03 -> 0.5)" in error


@pytest.mark.filterwarnings("default")
def test_quiet_keeps_the_warnings_of_a_campaign(tmp_path, capsys, monkeypatch):
    def full(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr("learned_opt_rl.training.evolution.campaign.Curve", full)
    command = [*COMMAND, "--out", str(tmp_path), "--generations", "1", "--quiet"]
    assert cli.main(command) == 0
    error = capsys.readouterr().err
    assert "warning: the campaign continues without curve.png: OSError" in error
    assert "generation 1/1" not in error


def test_the_command_line_says_that_a_full_disk_loses_nothing(
    tmp_path, capsys, monkeypatch
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    start = [*COMMAND, "--out", str(tmp_path), "--generations"]
    assert cli.main([*start, "1"]) == 0
    capsys.readouterr()
    monkeypatch.setattr("learned_opt_rl.rundir.checkpoint.write_atomically", full)
    assert cli.main([*start, "2"]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert "No space left on device; " in error and "keeps every finished" in error
    assert f"`learned-opt-rl train resume {tmp_path}`" in error


@pytest.mark.slow
def test_an_interrupt_keeps_the_finished_generations(tmp_path):
    """With agents that are trained: the interrupt comes while a program runs."""
    long = [*COMMAND[:-1], "horizons=1e6", "validation_seeds=1", "agent.num_steps=32"]
    command = [sys.executable, "-m", "learned_opt_rl", *long, "--out", str(tmp_path)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 600
    while not (tmp_path / folders.LOG).exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    error = process.communicate(timeout=30)[1]
    assert process.returncode == 130
    assert error.splitlines()[-1].startswith(
        f"stopped; {tmp_path} keeps every finished"
    )
    assert "Traceback" not in error
    assert log(tmp_path)


_SCRIPT = """
import pathlib, sys
sys.path.insert(0, {root!r})
from tests.training import test_evolution_campaign as this
from learned_opt_rl.training.evolution import campaign, progress
campaign.Evaluator = this.Cheap
progress.draw_curve = lambda *_: None
this.run(pathlib.Path(sys.argv[1]), generations=400)
"""


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_campaign_killed_at_random_moments_resumes_bit_identically(
    tmp_path, repository
):
    """kill -9, ten times; then to the end, which an unbroken run reaches alike."""
    script = [sys.executable, "-c", _SCRIPT.format(root=str(repository))]
    rng = np.random.default_rng(0)
    broken, whole = tmp_path / "broken", tmp_path / "whole"
    killed = 0
    for _ in range(10):
        process = subprocess.Popen([*script, broken], stderr=subprocess.DEVNULL)
        done = (broken / folders.LOG).stat().st_size if broken.exists() else 0
        deadline = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < deadline:
            path = broken / folders.LOG
            if path.exists() and path.stat().st_size > done:
                break
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 0.3))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
    assert killed == 10
    for path in (broken, whole):
        subprocess.run([*script, path], check=True, stderr=subprocess.DEVNULL)
    assert log(broken) == log(whole)
    assert len(log(whole)) == 401
    newest = folders.STATES[0]
    assert (broken / newest).read_bytes() == (whole / newest).read_bytes()
    assert (broken / folders.BEST).read_bytes() == (whole / folders.BEST).read_bytes()
    left = {path.name for path in broken.iterdir()}
    assert left == {".lock", folders.CONFIG, folders.LOG, folders.BEST, *folders.STATES}


def test_each_generation_trains_in_the_environments_it_draws(tmp_path):
    sizes = tuple(f"DeepSea-bsuite/{size}" for size in (4, 5, 6))
    changes = {
        "environments": sizes,
        "environments_per_generation": 1,
        "horizons": ((0, 200),),
        "horizon_unit": "episodes",
    }
    unbroken = run(tmp_path / "unbroken", **changes)
    rows = log(tmp_path / "unbroken")
    config = dataclasses.replace(CONFIG, **changes)
    for generation, row in enumerate(rows[1:]):
        assert tuple(row["returns"]) == config.drawn(generation)
    assert len({name for row in rows[1:] for name in row["returns"]}) > 1
    validated = [row["validation_returns"] for row in rows if "validation" in row]
    assert all(tuple(returns) == sizes for returns in validated)
    run(tmp_path / "resumed", **changes, generations=3)
    assert plain(run(tmp_path / "resumed", **changes)) == plain(unbroken)
