import dataclasses
import io
import json
import re
import shutil

import jax
import numpy as np
import optax
import pytest

from learned_opt_rl import envs, errors
from learned_opt_rl.agents import A2CConfig, LPGConfig, PPOConfig
from learned_opt_rl.evaluation.runs import cell, compare, cost, program
from learned_opt_rl.evaluation.runs import run as running
from learned_opt_rl.evaluation.runs.plan import Comparison, prepare
from learned_opt_rl.evaluation.runs.rules import Rule
from learned_opt_rl.rules import drifts, lpg
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.cluster import connected
from tests import probe_envs
from tests.clusters import workers
from tests.conftest import quickly_compiled

pytestmark = pytest.mark.usefixtures("quick_compilation", "probes")

SMALL = ("num_envs=4", "num_steps=16", "minibatches=2", "epochs=1", "hidden=4")
ASKED = Comparison(
    ("adam:1e-2", "sgd:1e-2"), ("NamedAction",), 3, 64 * 12, at_once=2, settings=SMALL
)
LPG = {"agent": "lpg", "settings": (), "total_timesteps": 1e5}
TIMES = ("compile_seconds", "wall_seconds", "steps_per_second")


class Crash(probe_envs.NamedAction):
    """Raises when a whole rollout is compiled, after every check."""

    def step(self, key, state, action, params):
        if isinstance(action, jax.core.Tracer) and Crash.armed:
            raise RuntimeError("the physics\nexploded")
        return super().step(key, state, action, params)

    armed = False


PROBES = {"NamedAction": probe_envs.NamedAction(), "Crash": Crash()}
MADE = {name: envs.adapt(probe, name=name) for name, probe in PROBES.items()}


@pytest.fixture
def probes(monkeypatch):
    real = envs.make
    monkeypatch.setattr(envs, "make", lambda name: MADE.get(name) or real(name))


def run(asked, folder, stream=None, cluster=None):
    return compare.execute(
        prepare(asked),
        folder,
        stream=stream or io.StringIO(),
        cluster=cluster,
    )


def measured(folder):
    """The rows without what differs between two machines."""
    return [
        {key: value for key, value in row.items() if key not in TIMES}
        for row in jsonl.read(folder / compare.ROWS)
    ]


def in_order(rows):
    return sorted(rows, key=lambda row: (row["rule"], row["seed"]))


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory):
    """A comparison that nothing came in between of."""
    folder = tmp_path_factory.mktemp("unbroken") / "new" / "folder"
    with pytest.MonkeyPatch.context() as monkeypatch, quickly_compiled():
        monkeypatch.setattr(envs, "make", MADE.get)
        stream = io.StringIO()
        assert run(ASKED, folder, stream) == []
    return folder, stream.getvalue()


def never(*_, **__):
    pytest.fail("compiled")


def test_every_rule_gets_every_seed_once_and_nothing_else_is_left(unbroken):
    folder, _ = unbroken
    rows = jsonl.read(folder / compare.ROWS)
    ran = [(row["rule"], row["environment"], row["seed"]) for row in rows]
    assert ran == [
        (rule, "NamedAction", seed) for rule in ASKED.rules for seed in range(3)
    ]
    left = {path.name for path in folder.iterdir()}
    assert left == {".lock", "config.json", "rows.jsonl"}
    config = json.loads((folder / "config.json").read_text())
    assert config["request"]["rules"] == list(ASKED.rules)
    assert config["request"]["at_once"] == 2
    assert config["versions"]["jax"] == jax.__version__


def test_rows_say_what_they_are_of(unbroken):
    row = jsonl.read(unbroken[0] / compare.ROWS)[0]
    assert row["agent"] == "ppo"
    assert row["variant"]["hidden"] == "4"
    assert row["config"]["hidden"] == [4]
    assert row["environment_details"] == {}
    assert row["nan_updates"] == 0
    assert row["auc"] == pytest.approx(np.mean(row["curve"]))
    assert len(row["curve"]) == len(row["dormant"]) == 12
    assert all(0 <= share <= 1 for share in row["dormant"])
    assert row["num_agents"] == 2


def test_progress_counts_all_runs(unbroken):
    lines = unbroken[1].splitlines()
    assert re.fullmatch(
        r"6 runs, 4,608 steps, about 0:00:\d\d without compilation, \d+ MiB of memory "
        r"\(from a rollout of adam:1e-2 on NamedAction\)",
        lines[0],
    )
    assert lines[1].startswith("[1/4] adam:1e-2 (NamedAction, seeds 0-1)  ")
    assert any(line.startswith("1 of 4 runs done, about 0:0") for line in lines)
    assert lines[-1] == "4 of 4 runs done"


def test_what_is_there_is_not_run_again(unbroken, monkeypatch):
    folder, _ = unbroken
    before = (folder / compare.ROWS).read_bytes()
    monkeypatch.setattr(cell, "Program", never)
    assert run(ASKED, folder) == []
    fewer = dataclasses.replace(ASKED, seeds=1, first_seed=1, at_once=1)
    assert run(fewer, folder) == []
    assert (folder / compare.ROWS).read_bytes() == before


def test_the_cost_is_that_of_what_is_missing(unbroken, tmp_path):
    folder, _ = unbroken
    assert cost.estimate(prepare(ASKED), folder) is None
    more = dataclasses.replace(ASKED, rules=("adam:1e-2", "sgd:1e-2"), seeds=4)
    found = cost.estimate(prepare(more), folder)
    assert (found.runs, found.steps) == (4, 4 * 64 * 12)  # two groups of two seeds
    assert found.memory > 0 and 0 < found.seconds < 360
    assert found.source == "a rollout of each rule on NamedAction"
    assert str(found._replace(seconds=94_000.2)).startswith(
        "4 runs, 3,072 steps, about 26:06:40 without compilation, "
    )


def test_workers_of_a_cluster_make_the_same_rows(unbroken, tmp_path):
    stream = io.StringIO()
    with workers() as address, connected(address) as cluster:
        assert run(ASKED, tmp_path, stream, cluster=cluster) == []
        first = jsonl.read(tmp_path / compare.ROWS)
        assert run(ASKED, tmp_path, cluster=cluster) == []
    assert jsonl.read(tmp_path / compare.ROWS) == first
    assert in_order(measured(tmp_path)) == in_order(measured(unbroken[0]))
    assert "1 of 4 runs done on 2 workers, about" in stream.getvalue()


def test_a_run_that_raises_on_a_worker_is_a_failure(tmp_path, monkeypatch):
    asked = dataclasses.replace(ASKED, environments=("NamedAction", "Crash"))
    plan = prepare(asked)
    monkeypatch.setattr(Crash, "armed", True)
    with workers() as address, connected(address) as cluster:
        failures = compare.execute(plan, tmp_path, cluster=cluster)
    message = "RuntimeError: the physics exploded"
    assert {one[1:] for one in failures} == {("Crash", message)}
    assert len(failures) == 2
    assert {row["environment"] for row in measured(tmp_path)} == {"NamedAction"}
    assert len(measured(tmp_path)) == 6
    record = jsonl.read(tmp_path / compare.FAILURES)[0]
    assert "in step" in record["traceback"]


def test_a_worker_refuses_other_weights():
    plan = prepare(ASKED)
    text = cell.task(plan.cells[0], range(2), 1, None)
    other = json.dumps(json.loads(text) | {"source_sha256": "0" * 64})
    with pytest.raises(ValueError, match="rule='adam:1e-2' differs on this worker"):
        cell.perform(other)


class Stopped(io.StringIO):
    """A stream that is interrupted at a certain line."""

    def __init__(self, line):
        super().__init__()
        self.line = line

    def write(self, text):
        if self.line in text:
            raise KeyboardInterrupt
        return super().write(text)


def test_a_run_goes_on_where_it_was_to_the_same_numbers(
    unbroken, tmp_path, monkeypatch
):
    with pytest.raises(KeyboardInterrupt):
        run(ASKED, tmp_path, Stopped("[2/4] adam:1e-2 (NamedAction, seeds 2-3)  50%"))
    assert measured(tmp_path) == measured(unbroken[0])[:2]
    (kept,) = (tmp_path / "partial").iterdir()
    # As kills in the middle of writing a checkpoint and a row would leave them.
    (tmp_path / "partial" / f".{kept.name}.0123abcd.tmp").write_bytes(b"PK")
    (tmp_path / compare.ROWS).write_bytes(
        (tmp_path / compare.ROWS).read_bytes().splitlines(keepends=True)[0]
        + b'{"rule": "ad'
    )
    starts = []
    real = running._first

    def first(*arguments):
        starts.append(real(*arguments))
        return starts[-1]

    monkeypatch.setattr(running, "_first", first)
    with pytest.warns(UserWarning, match="12 bytes"):
        assert run(ASKED, tmp_path) == []
    assert [start.done for start in starts] == [0, 6, 0, 0]
    by_seed = sorted(measured(tmp_path), key=lambda row: (row["rule"], row["seed"]))
    assert by_seed == measured(unbroken[0])
    assert not kept.parent.exists()


def test_unfinished_runs_of_other_commands_are_kept_and_mentioned(unbroken, tmp_path):
    shutil.copytree(unbroken[0], tmp_path / "copy")
    other = tmp_path / "copy" / "partial" / "0123456789abcdef.npz"
    other.parent.mkdir()
    other.write_bytes(b"of another command")
    stream = io.StringIO()
    assert run(ASKED, tmp_path / "copy", stream) == []
    assert "keeps 1 unfinished run(s)" in stream.getvalue()
    assert other.exists()


def test_a_checkpoint_of_other_weights_is_of_another_run(tmp_path, monkeypatch):
    plan = prepare(dataclasses.replace(ASKED, rules=("minatar",)))

    def path():
        begun = compare._Execution(plan, tmp_path, io.StringIO())
        return begun._checkpoint(plan.cells[0], plan.groups[0]).path

    before = path()
    assert path() == before
    monkeypatch.setattr(cell, "weights_digest", lambda rule: "0" * 64)
    assert path() != before


def test_a_failure_spoils_nothing_else(unbroken, tmp_path, monkeypatch):
    asked = dataclasses.replace(
        ASKED, rules=("adam:1e-2",), environments=("Crash", "NamedAction")
    )
    plan = prepare(asked)
    monkeypatch.setattr(Crash, "armed", True)
    stream = io.StringIO()
    (failure,) = compare.execute(plan, tmp_path, stream=stream)
    assert failure.environment == "Crash"
    assert failure.message == "RuntimeError: the physics exploded"
    assert measured(tmp_path) == measured(unbroken[0])[:3]
    assert stream.getvalue().splitlines()[-1] == "4 of 4 runs done"
    (row,) = jsonl.read(tmp_path / compare.FAILURES)
    assert (row["rule"], row["agent"]) == ("adam:1e-2", "ppo")
    assert "in step" in row["traceback"]
    monkeypatch.setattr(cell, "Program", never)
    done = dataclasses.replace(asked, environments=("NamedAction",))
    assert run(done, tmp_path) == []
    assert not (tmp_path / compare.FAILURES).exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rules": ()}, r"rules=\(\) is empty"),
        ({"environments": ()}, r"environments=\(\) is empty"),
        ({"seeds": 0}, "seeds=0 must be at least 1"),
        ({"at_once": 0}, "at_once=0 must be at least 1"),
        ({"devices": 0}, "devices=0 must be at least 1"),
        ({"devices": 2, "at_once": 3}, "devices=2 does not divide the 3 seeds"),
        ({"devices": 3, "at_once": 3}, "there are 2 .cpu.; lower it, or .*XLA_FLAGS"),
        ({"first_seed": -1}, "first_seed=-1: seeds must be between 0 and"),
        ({"first_seed": 2**31}, "must be between 0 and 2.*31 - 1"),
        ({"total_timesteps": float("inf")}, "total_timesteps=inf must be finite"),
        ({"total_timesteps": 60}, "less than one rollout"),
        ({"environments": ("Brekout-MinAtar",)}, "Brekout-MinAtar"),
        ({"rules": ("adam:1e-2", "adamm")}, "adamm"),
        ({"rules": ("goldie2024/ant",)}, "learned-opt-rl fetch goldie2024/ant"),
        ({"rules": ("minatar@no-luck",)}, "'no-luck' is not a feature"),
        ({"rules": ("adam:1@no-dormancy",)}, "only a learned optimizer can lack"),
        ({"agent": "dqn"}, "agent='dqn' must be one of ppo, a2c, lpg"),
        ({**LPG}, "'adam:1e-2' is not an update rule"),
        ({"settings": ("hidden",)}, "'hidden' is not NAME=VALUE with one of the"),
        ({"settings": ("total_timesteps=3",)}, "is not NAME=VALUE with one of"),
        ({"settings": ("hidden=4x",)}, "'hidden=4x': '' is not a number"),
        ({"settings": ("num_envs=1.5",)}, "'1.5' is not a whole number"),
        ({"settings": ("gamma=high",)}, "'high' is not a number"),
        ({"settings": ("activation=gelu",)}, "activation='gelu'"),
        ({"settings": ("gamma=1", "gamma=1")}, "gives 'gamma' twice"),
    ],
)
def test_what_cannot_work_is_said_before_the_first_run(changes, message):
    with pytest.raises(ValueError, match=message):
        prepare(dataclasses.replace(ASKED, **changes))


def test_an_environment_is_tried_first(monkeypatch):
    def check(env):
        raise FloatingPointError("reward is nan")

    monkeypatch.setattr(envs, "check", check)
    with pytest.raises(ValueError, match="'NamedAction' is unusable: reward is nan"):
        prepare(ASKED)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(
        envs, "make", lambda name: (_ for _ in ()).throw(errors.MissingExtraError("x"))
    )
    with pytest.raises(errors.MissingExtraError):
        prepare(ASKED)


@pytest.mark.parametrize("row", [{"rule": "adam"}, {"seed": 1, "config": {}}])
def test_a_folder_of_something_else_is_left_alone(tmp_path, row):
    jsonl.append(tmp_path / compare.ROWS, [row])
    with pytest.raises(ValueError, match="rows.jsonl: row 1 has .*None, which must be"):
        run(ASKED, tmp_path)
    assert not (tmp_path / "config.json").exists()


def test_settings_of_every_type():
    asked = dataclasses.replace(
        ASKED, settings=("hidden=8x4", "activation=tanh", "gamma=0.5", "num_envs=1e1")
    )
    (cell, _) = prepare(dataclasses.replace(asked, total_timesteps=1e5)).cells
    config = cell.config
    assert (config.hidden, config.activation) == ((8, 4), "tanh")
    assert (config.gamma, config.num_envs) == (0.5, 10)


def test_by_default_a_cpu_trains_one_seed_per_device():
    asked = dataclasses.replace(ASKED, at_once=None)
    assert prepare(asked).groups == [range(i, i + 1) for i in range(3)]
    asked = dataclasses.replace(asked, devices=2)
    assert prepare(asked).groups == [range(0, 2), range(2, 4)]


def test_agents_take_only_their_own_rules():
    env, config = MADE["NamedAction"], PPOConfig(10_000)
    architecture = lpg.Architecture(width=4)
    rule = lpg.UpdateRule(lpg.init(jax.random.key(0), architecture), architecture)
    with pytest.raises(ValueError, match="agent='a2c': only the agent ppo accepts"):
        drifting = Rule(optax.sgd, drift=drifts.ppo(0.2))
        program.make_loop(A2CConfig(10_000), env, drifting, optax.sgd(1.0))
    for wrong, chosen in [
        (config, Rule(optax.sgd, update_rule=rule)),
        (LPGConfig(10_000), Rule(optax.sgd)),
    ]:
        with pytest.raises(ValueError, match="only the agent lpg runs"):
            program.make_loop(wrong, env, chosen, optax.sgd(1.0))


def test_rows_of_another_configuration_are_not_the_runs_that_are_wanted(
    unbroken, tmp_path, monkeypatch
):
    rows = jsonl.read(unbroken[0] / compare.ROWS)
    plan = prepare(ASKED)
    monkeypatch.setattr(cell, "Program", never)

    def message(**changes):
        folder = tmp_path / f"{len([*tmp_path.iterdir()])}"
        jsonl.append(folder / compare.ROWS, [*rows[:-1], rows[-1] | changes])
        with pytest.raises(ValueError, match="name another folder") as error:
            compare.execute(plan, folder, stream=io.StringIO())
        assert not (folder / "config.json").exists()
        return str(error.value).partition("rows.jsonl ")[2].partition(";")[0]

    rule = "holds runs of sgd:1e-2 on NamedAction with "
    config = rows[0]["config"]
    assert message(config=config | {"gamma": 0.5}) == f"{rule}gamma=0.5 instead of 0.99"
    details = {"backend": "mjx", "brax": "0.14.1"}
    assert message(environment_details=details) == f"{rule}backend=mjx instead of None"
    details = {"gravity": "9.81"}
    assert message(environment_details=details) == f"{rule}gravity=9.81 instead of None"
    # Another seed of the same rule is not another configuration; nor is its version.
    other = rows[-1] | {"seed": 9, "environment_details": {"brax": "0.14.1"}}
    jsonl.append(tmp_path / "same" / compare.ROWS, [*rows, other])
    assert compare.execute(plan, tmp_path / "same", stream=io.StringIO()) == []


@pytest.mark.parametrize("name", ["config.json", "failures.jsonl"])
@pytest.mark.parametrize("content", ['{"port": 80}', "not JSON", "[" * 100_000])
def test_files_of_something_else_are_not_replaced(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    with pytest.raises(ValueError, match=f"{name} is not a file of a comparison, and"):
        run(ASKED, tmp_path)
    assert (tmp_path / name).read_text() == content


def test_only_rows_in_the_file_count(unbroken, tmp_path, monkeypatch):
    monkeypatch.setattr(compare, "append_rows", lambda *_: None)
    lost, other = run(dataclasses.replace(ASKED, seeds=1), tmp_path)
    assert lost[:2] == ("adam:1e-2", "NamedAction")
    assert lost.message == "RuntimeError: rows.jsonl lacks its rows; run it again"
    assert other.rule == "sgd:1e-2"


def test_a_run_needs_no_checkpoint_to_go_on(unbroken, tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError("No space left on device")

    monkeypatch.setenv("LEARNED_OPT_RL_CHECKPOINT_SECONDS", "0")
    monkeypatch.setattr(running.Checkpoint, "save", full)
    one = dataclasses.replace(ASKED, seeds=1, rules=ASKED.rules[:1], at_once=2)
    with pytest.warns(UserWarning, match="npz cannot be written .No space left"):
        assert run(one, tmp_path) == []
    assert measured(tmp_path) == measured(unbroken[0])[:1]
