"""Students from their teachers to a folder."""

import hashlib
import importlib
import io
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl import cli
from learned_opt_rl.artifacts.weights import load_safetensors
from learned_opt_rl.rules import drifts, lpo, open_rl
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.training.distillation import PRESETS, configure, distill
from learned_opt_rl.training.distillation import run as running
from learned_opt_rl.training.distillation.objective import objective

TINY = {"steps": 4, "every": 2, "tensors": 2, "size": 4}
AGENT = {"num_envs": 4, "num_steps": 16, "minibatches": 2, "epochs": 1, "hidden": (4,)}
RUNS = {"environments": ("CartPole-v1",), "horizon": 512, "agent": AGENT, "seeds": 1}


def run(folder, **settings):
    asked = {"teacher": "random:0", "student": "open:4", **TINY, **settings}
    return distill(*configure(**asked), folder, io.StringIO())


@pytest.fixture
def cheap(monkeypatch):
    """In place of fitting, which is compiled for seconds: two students, drawn."""

    def fit(config, teacher, problem):
        for step, error in ((2, 0.25), (4, 0.5)):
            drawn = open_rl.init(jax.random.key(step), open_rl.Architecture(None, 4))
            row = {"start": 1, "step": step, "round": 1, "error": error}
            yield row, drawn

    monkeypatch.setattr(running, "_fit", fit)
    monkeypatch.setattr(running, "objective", lambda config, teacher: None)


def weights(folder, name):
    path = folder / name
    return load_safetensors(path, hashlib.sha256(path.read_bytes()).hexdigest())


@pytest.mark.usefixtures("cheap")
def test_a_folder_holds_the_config_and_the_results(tmp_path, monkeypatch, repository):
    folder = tmp_path / "run"
    best = run(folder)
    made = json.loads((folder / "config.json").read_text())
    assert made["kind"] == "distillation"
    assert made["config"]["teacher"] == "random:0"
    assert made["config"]["algorithm"] == "open"
    assert made["config"]["architecture"] == {"carry": None, "width": 4}
    assert len(made["teacher_sha256"]) == 64
    assert {"versions", "revision", "device", "cpu"} <= made.keys()
    rows = jsonl.read(folder / "log.jsonl")
    assert [row["step"] for row in rows] == [2, 4]
    assert best == rows[0] == {"start": 1, "step": 2, "round": 1, "error": 0.25}
    final = weights(folder, "final.safetensors")
    assert final["mlp"]["dense_0"]["kernel"].shape == (19, 4)
    kept = weights(folder, "best.safetensors")["mlp"]["dense_0"]["kernel"]
    assert not np.array_equal(kept, final["mlp"]["dense_0"]["kernel"])
    monkeypatch.syspath_prepend(repository / "docs")
    cells = importlib.import_module("_results_page").distilled_cells(
        made["config"], rows
    )
    assert cells == ["random:0", "open, width 4", "correlated", "1", "2", "0.25", ""]

    log = (folder / "log.jsonl").stat().st_mtime_ns
    assert run(folder) == best
    assert (folder / "log.jsonl").stat().st_mtime_ns == log  # not run again
    message = r"\(teacher random:0 -> random:1; steps 4 -> 6; teacher_sha256 "
    with pytest.raises(ValueError, match=message):
        run(folder, teacher="random:1", steps=6)

    (folder / "final.safetensors").unlink()  # as if it had been killed
    assert run(folder) == best
    assert len(jsonl.read(folder / "log.jsonl")) == 2

    (folder / "final.safetensors").unlink()
    rows = (folder / "log.jsonl").read_bytes()
    versions = made["versions"] | {"jax": "0.0.1"}
    (folder / "config.json").write_text(json.dumps(made | {"versions": versions}))
    message = r"starts over with jax 0\.0\.1 -> .* kept as log.kept-1.jsonl"
    with pytest.warns(UserWarning, match=message):
        assert run(folder) == best
    assert (folder / "log.kept-1.jsonl").read_bytes() == rows
    assert (folder / "best.kept-1.safetensors").exists()
    assert json.loads((folder / "config.kept-1.json").read_text())["versions"] == (
        versions
    )


@pytest.mark.usefixtures("cheap")
def test_a_folder_of_a_campaign_is_refused(tmp_path):
    made = {"kind": "evolution", "config": {"algorithm": "open"}}
    (tmp_path / "config.json").write_text(json.dumps(made))
    with pytest.raises(ValueError, match="another run .it is of kind evolution"):
        run(tmp_path)


@pytest.mark.usefixtures("cheap")
def test_files_of_something_else_are_not_deleted(tmp_path):
    (tmp_path / "log.jsonl").write_text("{}")
    with pytest.raises(ValueError, match="holds log.jsonl of another run"):
        run(tmp_path)
    assert (tmp_path / "log.jsonl").read_text() == "{}"


@pytest.mark.usefixtures("cheap")
def test_selected_by_return_there_must_be_one(tmp_path, monkeypatch):
    asked = {"select": "return", **RUNS}
    for value, folder in ((9.0, tmp_path / "some"), (None, tmp_path / "none")):
        found = {"CartPole-v1": value}
        monkeypatch.setattr(running, "_returns", lambda _, found=found: lambda _: found)
        if value is not None:
            assert run(folder, **asked)["return"] == value
            continue
        with pytest.raises(ValueError, match="horizon=512 no agent had a return"):
            run(folder, **asked)
        assert not (folder / "final.safetensors").exists()


@pytest.mark.usefixtures("cheap")
def test_a_student_that_ends_in_nan_leaves_its_best(tmp_path, monkeypatch):
    fit = running._fit

    def diverging(*args):
        for row, student in fit(*args):
            yield row, student
        row = {"start": 1, "step": 6, "round": 1, "error": None}
        yield row, jax.tree.map(jnp.log, student)

    monkeypatch.setattr(running, "_fit", diverging)
    assert run(tmp_path)["error"] == 0.25
    final = weights(tmp_path, "final.safetensors")["mlp"]["dense_0"]["kernel"]
    assert np.isfinite(final).all()


@pytest.mark.usefixtures("quick_compilation")
def test_the_best_of_several_starts_counts_and_noise_is_the_teachers(tmp_path):
    """A teacher without noise has students without noise."""
    asked = {"teacher": "sign_momentum:8e-4", "steps": 20, "every": 10, "starts": 2}
    best = run(tmp_path, **asked)
    rows = jsonl.read(tmp_path / "log.jsonl")
    places = [(row["start"], row["step"]) for row in rows]
    assert places == [(1, 10), (1, 20), (2, 10), (2, 20)]
    errors = [row["error"] for row in rows]
    assert best["error"] == min(errors) and errors[:2] != errors[2:]
    last = weights(tmp_path, "final.safetensors")["mlp"]["dense_2"]
    assert not last["kernel"][:, 2].any() and not last["bias"][2]
    assert last["kernel"][:, 0].any()


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
def test_the_first_of_several_starts_is_the_only_one_of_one(tmp_path):
    several, one = tmp_path / "several", tmp_path / "one"
    run(several, starts=2)
    run(one)
    first = [row["error"] for row in jsonl.read(one / "log.jsonl")]
    assert [row["error"] for row in jsonl.read(several / "log.jsonl")][:2] == first


def test_drifts_are_matched_by_the_gradient_of_their_loss(getkey):
    config, teacher = configure(teacher="discovered/dpo", student="lpo:8")
    problem = objective(config, teacher)
    ratio, advantage = problem.sample(getkey(), None)
    steps = np.log(np.asarray(ratio, float)) * 256
    np.testing.assert_allclose(steps, steps.round(), atol=1e-2)
    assert steps.min() >= -512 and steps.max() < 512
    assert set(np.unique(advantage * 64) % 1) == {0}
    assert float(advantage.min()) >= -8 and float(advantage.max()) < 8

    def loss(ratio, advantage):
        return -(ratio * advantage - drifts.dpo()(ratio, advantage))

    expected = jax.vmap(jax.grad(loss))(ratio, advantage)
    target = problem.target((ratio, advantage))
    np.testing.assert_allclose(target, expected, rtol=1e-4, atol=1e-4)
    assert config.architecture == {"width": 8}

    network = lpo.drift(w := problem.init(getkey()), margin=1e-6)

    def student(ratio, advantage):
        return -(ratio * advantage - network(ratio, advantage))

    expected = jax.vmap(jax.grad(student))(ratio, advantage)
    found = problem.student(w, (ratio, advantage))
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
def test_visited_inputs_in_two_rounds_and_selection_by_return(tmp_path):
    best = run(
        tmp_path,
        teacher="sign_momentum:1e-3",
        student="open:carry=2,width=4",
        inputs="visited",
        sequence=3,
        rounds=2,
        select="return",
        **RUNS,
    )
    rows = jsonl.read(tmp_path / "log.jsonl")
    assert [row["round"] for row in rows] == [1, 2]
    assert best["return"] == max(row["return"] for row in rows)
    assert best["returns"] == {"CartPole-v1": best["return"]}  # nothing published
    assert best["return"] > 5


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_distillations_of_their_own(name):
    asked = {"teacher": "random:0", "student": "open:carry=4,width=8"}
    config, _ = configure(name, **asked)
    assert config.sequence == {"long": 100, "runs": 50, "runs-tiny": 3}.get(name, 20)


def test_lists_are_taken_as_tuples():
    asked = {"teacher": "distilled/sign_mixture", "inputs": "visited"}
    one, other = (
        configure(**asked, environments=kind(["CartPole-v1"]))[0]
        for kind in (list, tuple)
    )
    assert one == other and one.environments == ("CartPole-v1",)


def test_sizes_of_students():
    def sizes(teacher="distilled/sign_mixture", **asked):
        config, _ = configure(teacher=teacher, **asked)
        return config.algorithm, dict(config.architecture)

    assert sizes() == ("open", {"carry": None, "width": 32})
    assert sizes(preset="half")[1]["width"] == 16
    assert sizes("sign_momentum:1e-3")[1] == {"carry": None, "width": 32}
    assert sizes("discovered/dpo") == ("lpo", {"width": 128})
    assert sizes(student="no_features:16")[0] == "no_features"
    sizes_of_lpo = {"width": 8, "clip_eps": 0.2, "margin": 1e-4}
    assert configure(teacher="random:0", student="lpo:8")[1].sizes == sizes_of_lpo
    assert configure(teacher="distilled/sign_mixture")[0].sequence == 1
    assert configure(teacher="discovered/discovered_1")[0].sequence == 20


VISITED = {"inputs": "visited", **RUNS}
RECORDED = {"inputs": "runs", **RUNS}
DRIFT = {"teacher": "discovered/dpo"}
RECURRENT = {"teacher": "no_features/minatar", "student": "no_features:carry=2,width=4"}


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"teacher": None}, "has no teacher"),
        ({"preset": "tiny"}, "preset='tiny' is not a preset"),
        ({"student": "third"}, "must be one of same, half"),
        ({"student": "open:x"}, "must have the form open:32"),
        ({"student": "open:height=3"}, "the sizes of open are carry, width"),
        ({"student": "lpo:8"}, "which is an optimizer"),
        ({**DRIFT, "student": "open:8"}, "which is a drift"),
        ({**DRIFT, "student": "half"}, "is an expression without"),
        ({"inputs": "real"}, "inputs='real' must be one of"),
        ({"inputs": "visited"}, "environments is empty"),
        ({"select": "return"}, "environments is empty"),
        ({"rounds": 2}, "requires inputs='visited'"),
        ({"steps": 0}, "steps=0 must be a positive whole"),
        ({"algorithm": "lpo"}, "algorithm='lpo' is not a set"),
        ({"colour": 1}, "colour=1 is not a setting"),
        ({"learning_rate": float("inf")}, "learning_rate=inf must be a number > 0"),
        ({"teacher_rate": 0.0}, "teacher_rate=0.0 must be a number > 0"),
        ({"teacher": "random:1.5", "student": "open:4"}, "needs a whole number"),
        ({"b2": 1.0}, "b2=1.0 must be a number >= 0, < 1"),
        ({"starts": 0}, "starts=0 must be a positive whole"),
        ({**VISITED, "rounds": 2, "starts": 2}, "starts=2 with rounds=2 measure error"),
        ({**VISITED, "steps": 2, "rounds": 3}, "rounds=3 must be at most steps=2"),
        (
            {"student": "open:carry=2,width=4", "sequence": 1},
            "sequence=1 is too short for a recurrent teacher or",
        ),
        ({**VISITED, "sequence": 90}, "fewer than sequence=90"),
        ({**DRIFT, **VISITED}, "requires an optimizer"),
        ({**DRIFT, **RECORDED}, "inputs='runs' requires an optimizer"),
        ({"inputs": "runs"}, "inputs='runs' trains agents, but"),
        (
            {"teacher": "sign_momentum:1e-3", **RECORDED},
            "teacher='sign_momentum:1e-3' .expression. does not see the features",
        ),
        (
            {"student": "no_features:4", **RECORDED},
            "sign_mixture. .open. does not .* give a teacher and a student of one",
        ),
        (
            {**RECURRENT, "sequence": 2, **RECORDED, "horizon": 1024},
            "no_features. does not see .* student .recurrent no_features",
        ),
        (
            {**RECORDED, "sequence": 3},
            "horizon=512 is 16 updates on CartPole-v1, fewer than 10 windows of seq",
        ),
        ({**RECORDED, "starts": 2}, "starts=2 has no effect with inputs='runs'; leave"),
        ({"horizons": (9,)}, "horizons=.9,. has no effect with inputs"),
        ({"start": "minatar"}, "start='minatar' has no effect with"),
        ({"refresh": 0}, "refresh=0 must be a positive whole"),
        ({**RECORDED, "horizons": (0,)}, "horizons=0 must be a positive whole"),
    ],
)
def test_settings_that_are_refused(asked, message):
    asked = {"teacher": "distilled/sign_mixture", **asked}
    with pytest.raises(ValueError, match=message):
        configure(**asked)


@pytest.mark.usefixtures("cheap")
def test_the_command(tmp_path, capsys):
    command = ["train", "distill", "--teacher", "random:0", "--student", "open:4"]
    command += ["--steps", "2", "--out", str(tmp_path / "run")]
    command += ["--set", "every=1", "tensors=2", "size=4"]
    assert cli.main(command) == 0
    out, err = capsys.readouterr()
    assert out.startswith("best after ") and "of the teacher's rms" in out
    assert "step 4/2  error 0.5" in err
    assert cli.main([*command, "agent.hidden=4", "learning_rate=0.1"]) == 2
    changed = "learning_rate 0.005 -> 0.1; agent.hidden (unset) -> [4]"
    assert changed in capsys.readouterr().err


def test_an_interrupt_is_reported_in_one_line(tmp_path, capsys, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(running, "_train", interrupted)
    command = ["train", "distill", "--teacher", "random:0", "--student", "open:4"]
    assert cli.main([*command, "--out", str(tmp_path)]) == 130
    assert capsys.readouterr().err == "stopped; repeat the command to start again\n"


def test_the_command_refuses_in_one_line(tmp_path, capsys):
    command = ["train", "distill", "--teacher", "minatr", "--out", str(tmp_path / "x")]
    assert cli.main(command) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "x").exists()


@pytest.mark.slow
def test_a_random_teacher_is_imitated(tmp_path):
    """Five minutes of a quiet core; docs/distillation.md has four teachers."""
    settings = {"learning_rate": 1e-2, "b2": 0.95, "steps": 120_000, "every": 60_000}
    settings |= {"starts": 8, "size": 32}
    asked = configure(teacher="random:3", student="open:16", **settings)
    assert distill(*asked, tmp_path, io.StringIO())["error"] < 0.01
