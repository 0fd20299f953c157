"""`evaluation.compare`, with rules given as Python objects."""

import re
import sys

import jax
import jax.numpy as jnp
import optax
import pytest

from learned_opt_rl import envs, evaluation
from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.evaluation import comparing
from learned_opt_rl.evaluation.report import write
from learned_opt_rl.evaluation.runs import cell, sinks
from learned_opt_rl.evaluation.runs.given_rules import given_rules
from learned_opt_rl.evaluation.runs.plan import Comparison, prepare
from learned_opt_rl.evaluation.runs.row import read_rows
from learned_opt_rl.rules import lpg
from learned_opt_rl.rundir import jsonl
from tests import probe_envs
from tests.evaluation import result_rows

SMALL = {
    "environments": ["NamedAction"],
    "seeds": 1,
    "total_timesteps": 64 * 3,
    "settings": ["num_envs=4", "num_steps=16", "minibatches=2", "epochs=1", "hidden=4"],
}


@pytest.fixture(autouse=True)
def probes(monkeypatch, quick_compilation):
    made = envs.adapt(probe_envs.NamedAction(), name="NamedAction")
    real = envs.make
    monkeypatch.setattr(
        envs, "make", lambda name: made if name == "NamedAction" else real(name)
    )


def annealed(horizon):
    return optax.adam(optax.linear_schedule(1e-2, 0.0, horizon.total_updates))


def never(*_):
    raise KeyError("compiled")


def test_rules_of_ones_own_become_results(tmp_path, monkeypatch):
    out = str(tmp_path / "out")
    rules = {"mine": optax.sgd(0.1), "annealed": annealed, "adam:1e-2": ...}
    found = evaluation.compare(rules, out=out, baseline="adam:1e-2", **SMALL)
    assert [row.rule for row in found.rows] == ["adam:1e-2", "annealed", "mine"]
    assert {row.rule: bool(row.weights_sha256) for row in found.rows} == {
        "adam:1e-2": False,
        "annealed": True,
        "mine": True,
    }
    assert set(found.frame["rule"]) == set(rules)
    assert "interquartile mean" in found.verdict
    # Repeated, nothing runs, unless a rule has changed.
    monkeypatch.setattr(cell, "Program", never)
    evaluation.compare(rules, out=out, baseline="adam:1e-2", **SMALL)
    changed = rules | {"mine": optax.sgd(0.2)}
    with pytest.warns(UserWarning, match="mine on NamedAction: KeyError"):
        evaluation.compare(changed, out=out, baseline="adam:1e-2", **SMALL)
    monkeypatch.setattr(write, "draw", lambda *_: [])  # takes most of the time
    loaded = evaluation.load(out, baseline="adam:1e-2")
    (path,) = loaded.write(tmp_path / "r")[:1]
    text = path.read_text()
    assert "Rules that were Python objects" in text
    assert "learned-opt-rl compare adam:1e-2 --environments" in text


def test_the_snippet_of_the_documentation(repository, tmp_path, monkeypatch, capsys):
    text = (repository / "docs/evaluation.md").read_text("utf-8")
    (snippet,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    real = comparing.compare

    def small(rules, *, suite, seeds, total_timesteps, out):
        # Adam is not tuned for the environment of the tests.
        assert (suite, seeds, total_timesteps) == ("minatar", 5, 1e6)
        rules = {"adam:1e-2" if v is ... else n: v for n, v in rules.items()}
        return real(rules, out=out, baseline="adam:1e-2", **SMALL)

    monkeypatch.setattr(comparing, "compare", small)
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})  # the documentation is ours
    assert "interquartile mean" in capsys.readouterr().out
    assert (tmp_path / "comparison" / "report.html").exists()


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (optax.sgd(0.1), r"must be names, or a dict .* Pass {'mine': RULE}"),
        (3, r"rules=3: must be names, or a dict of rules by name"),
        ({"adam": optax.sgd(0.1)}, "'adam' already names a rule.* such as 'my-adam'"),
        ({"minatar": optax.sgd(0.1)}, "'minatar' already names a rule of the library"),
        ({"mine.txt": optax.sgd(0.1)}, "looks like a file .* such as 'mine'"),
        ({"a/b": optax.sgd(0.1)}, "is not a plain name. Choose a name without : @"),
        ({"mine": 3}, r"rules={'mine': 3}: must be an optax .*, or the name of a rule"),
        ({"mine": lambda: None}, "must be an optax optimizer, a function horizon"),
        ({"mine": lambda horizon: 3}, "must return an optax optimizer, but .* int"),
        ({"mine": lambda step, size: 0.1}, r"that is 0 at ratio 1, but it returns 0.1"),
        ({"mine": lambda r, a: r * a}, r"0 at ratio 1, but it returns \[ 0.5 -1. "),
        ({"mine": lambda r, a: jnp.log(r - 1)}, "finite array .* returns"),
        ({"mine": lambda name, value: name.x}, "but it raises AttributeError"),
        ({"mine": "adm"}, "do you mean the optimizer 'adam'"),
        ([], "is empty; name at least one"),
    ],
)
def test_what_is_not_a_rule_is_refused(tmp_path, rules, message):
    with pytest.raises(ValueError, match=message):
        evaluation.compare(rules, out=tmp_path, **SMALL)


def test_runs_of_an_earlier_rule_are_not_the_result_of_one_that_raises(
    tmp_path, monkeypatch
):
    how = {"out": tmp_path, "normalization": "raw", **SMALL}
    evaluation.compare({"mine": optax.sgd(0.1)}, **how)
    monkeypatch.setattr(cell, "Program", never)
    with pytest.raises(ValueError, match="no run finished: mine on NamedAction: Key"):
        evaluation.compare({"mine": optax.sgd(0.2)}, **how)


def test_a_call_shows_its_rules_and_the_folder_keeps_all(tmp_path):
    how = {"out": tmp_path, "baseline": "adam:1e-2", **SMALL}
    evaluation.compare(["adam:1e-2", "sgd:1e-2"], **how)
    longer = how | {"total_timesteps": 64 * 4}
    evaluation.compare(["adam:1e-2", "lion:1e-2"], **longer)
    found = evaluation.compare("lion:1e-2", **how)
    # The baseline's earlier runs are beside the rule, as far as they are comparable.
    assert [row.rule for row in found.rows] == ["adam:1e-2", "lion:1e-2"]
    assert {row.total_timesteps for row in found.rows} == {64 * 3}
    assert [*found.left_out] == [
        "sgd:1e-2",
        "2 runs of another length, agent or setting",
    ]
    command = f"`learned-opt-rl report {tmp_path}`"
    advice = f"{command} shows all runs but those of earlier versions of a rule."
    assert str(found).endswith(f"agent or setting. {advice}")
    assert len(evaluation.load(tmp_path, baseline="adam:1e-2").rows) == 5
    # A baseline that ran with other settings only is missed before the runs.
    with pytest.raises(ValueError, match="baseline=sgd:1e-2 needs runs of 'sgd:1e-2'"):
        evaluation.compare("lion:1e-2", **longer | {"baseline": "sgd:1e-2"})


def test_progress_is_silenced(tmp_path, capsys):
    how = {"baseline": "adam:1e-2", **SMALL}
    evaluation.compare("adam:1e-2", out=tmp_path / "a", progress=False, **how)
    assert capsys.readouterr().err == ""
    evaluation.compare("adam:1e-2", out=tmp_path / "b", **how)
    assert "1 of 1 runs done" in capsys.readouterr().err


def test_a_changed_rule_replaces_the_earlier_one(tmp_path):
    how = {"out": tmp_path, "baseline": "mine", "normalization": "raw", **SMALL}
    before = evaluation.compare({"mine": optax.sgd(0.1), "adam:1e-2": ...}, **how)
    found = evaluation.compare({"mine": optax.sgd(0.2), "adam:1e-2": ...}, **how)
    assert [row.rule for row in found.rows] == ["adam:1e-2", "mine"]
    digests = [one.rows[1].weights_sha256 for one in (before, found)]
    assert digests[0] != digests[1]
    assert [*found.left_out] == [f"mine:{digests[0][:8]}"]
    earlier = f"mine:{digests[0][:8]}"
    assert f"Not shown in this report: {earlier}. To show an earlier" in str(found)
    assert len(read_rows(tmp_path / "rows.jsonl")) == 3
    # Read again, the newest is shown under its name, and the other on request.
    shown = {"normalization": "raw", "baseline": "mine"}
    loaded = evaluation.load(tmp_path, **shown)
    assert (loaded.rows, [*loaded.left_out]) == (found.rows, [earlier])
    both = evaluation.load(tmp_path, only=[earlier, "mine"], **shown)
    assert set(both.frame["rule"]) == {earlier, "mine"}
    # With the former one again, nothing runs.
    again = evaluation.compare({"mine": optax.sgd(0.1), "adam:1e-2": ...}, **how)
    assert again.rows == before.rows


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"baseline": "lion"}, "baseline=lion needs runs of 'lion'"),
        ({"normalization": "adm"}, "normalization='adm' is unknown"),
        ({"normalization": "optimal"}, "optimal"),
    ],
)
def test_the_report_is_checked_before_the_runs(tmp_path, monkeypatch, changes, message):
    monkeypatch.setattr(cell, "Program", never)
    with pytest.raises(ValueError, match=message):
        evaluation.compare({"mine": optax.sgd(0.1)}, out=tmp_path, **SMALL | changes)
    assert not [*tmp_path.iterdir()]


def test_a_package_of_the_report_is_missed_before_the_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(write.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"learned-opt-rl\[eval\]"):
        evaluation.compare({"mine": optax.sgd(0.1)}, out=tmp_path, **SMALL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"suite": "minatar"}, "need one of the two"),
        ({"sinks": "wndb"}, "did you mean 'wandb'"),
        ({"settings": "hiden=4"}, "did you mean 'hidden'"),
        ({"environments": "CartPole"}, "did you mean 'CartPole-v1'"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=message):
        evaluation.compare("adam:1e-2", out=tmp_path, **SMALL | changes)


def test_one_name_needs_no_list(tmp_path):
    one = {"environments": "NamedAction", "settings": "hidden=4"}
    asked = Comparison("adam:1e-2", seeds=1, total_timesteps=1e3, **one)
    assert (asked.rules, asked.environments) == (("adam:1e-2",), ("NamedAction",))
    assert asked.settings == ("hidden=4",)


def test_a_drift_runs_with_tuned_adam():
    _, given = given_rules({"mine": lambda ratio, advantage: jnp.square(ratio - 1)})
    from learned_opt_rl import agents

    config = agents.preset("Breakout-MinAtar", 1e6)
    rule = given["mine"].resolve(config, "Breakout-MinAtar")
    assert rule.drift is not None and rule.drift(jnp.ones(1) * 3, jnp.ones(1)) == 4


def test_a_function_may_take_the_horizon_without_needing_it():
    def make(horizon=None):
        assert horizon is not None
        return optax.sgd(0.1)

    for function in (
        make,
        lambda *a: make(*a),
        lambda horizon, rate=0.1: make(horizon),
    ):
        assert given_rules({"mine": function})[1]["mine"].sha256


def test_an_update_rule_is_identified_by_its_weights():
    rule = lpg.pretrained("lpg/gridworld")
    other = lpg.UpdateRule(
        jax.tree.map(lambda x: x + 1, rule.weights), rule.architecture
    )
    found = [given_rules({"mine": x})[1]["mine"].sha256 for x in (rule, rule, other)]
    assert found[0] == found[1] != found[2]


def test_a_run_without_a_result_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="no run finished: mine on NamedAction: "):

        def broken(updates, state, params=None):
            # The check before the first run knows only small parameters.
            if updates["actor"]["Dense_0"]["kernel"].shape != (2, 3):
                raise RuntimeError("boom")
            return updates, state

        mine = optax.GradientTransformation(lambda _: optax.EmptyState(), broken)
        evaluation.compare({"mine": mine}, out=tmp_path, **SMALL)


def test_runs_too_short_for_an_episode_are_named_before_they_start(monkeypatch):
    assert envs.episode_length("Freeway-MinAtar") == 2500
    monkeypatch.setattr(envs, "episode_length", lambda name: 50)
    asked = Comparison(("adam:1e-2",), **SMALL)  # 48 steps of 4 environments
    with pytest.warns(UserWarning, match="too short for one episode.*at least 256"):
        prepare(asked)


def test_tensorboard_has_every_point(tmp_path):
    pytest.importorskip("tensorboardX")
    reader = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    (sink,) = sinks.open_sinks(["tensorboard"], tmp_path)
    sink(result_rows.row("adam:1e-3", curve=[None, 2.0, 3.0]))
    (folder,) = (tmp_path / "tensorboard").iterdir()
    events = reader.EventAccumulator(str(folder)).Reload()
    points = events.Scalars("return/Breakout-MinAtar")
    assert [(p.step, p.value) for p in points] == [(667, 2.0), (1000, 3.0)]


def test_wandb_has_a_run_per_row(tmp_path, monkeypatch):
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    (sink,) = sinks.open_sinks(["wandb"], tmp_path)
    for seed in (0, 1):
        sink(result_rows.row(seed=seed))
    assert len([*(tmp_path / "wandb").glob("offline-run-*")]) == 2


@pytest.mark.parametrize(
    "text",
    [
        "def login(prompt=True): return False",
        "import types\ndef login(): 1 / 0\napi = types.SimpleNamespace(api_key=None)",
    ],
)
def test_wandb_does_not_ask_for_a_key_after_the_first_run(tmp_path, monkeypatch, text):
    (tmp_path / "wandb.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "wandb", raising=False)
    monkeypatch.delenv("WANDB_MODE", raising=False)
    with pytest.raises(ValueError, match="needs an API key .* WANDB_MODE=offline"):
        sinks.open_sinks(["wandb"], tmp_path)
    monkeypatch.setenv("WANDB_MODE", "offline")
    assert len(sinks.open_sinks(["wandb"], tmp_path)) == 1
    del sys.modules["wandb"]


def test_a_sink_that_raises_stops_nothing(tmp_path, monkeypatch):
    def raising(row):
        raise OSError("no space")

    entry = ("json", lambda folder: raising)
    monkeypatch.setitem(sinks.SINKS, "tensorboard", entry)
    with pytest.warns(UserWarning, match="continues without tensorboard, OSError"):
        evaluation.compare(
            ["adam:1e-2"],
            out=tmp_path,
            baseline="adam:1e-2",
            sinks=["tensorboard"],
            **SMALL | {"seeds": 2},
        )
    assert len(read_rows(tmp_path / "rows.jsonl")) == 2
    monkeypatch.setitem(sinks.SINKS, "wandb", ("no_such_package", lambda folder: None))
    with pytest.raises(MissingExtraError, match=r"learned-opt-rl\[wandb\]"):
        sinks.open_sinks(["wandb"], tmp_path)


def test_a_python_object_is_not_sent_to_workers():
    names, given = given_rules({"mine": optax.sgd(0.1)})
    asked = Comparison(names, **SMALL)
    (made,) = prepare(asked, given=given).cells
    with pytest.raises(ValueError, match="'mine' is a Python object, which workers"):
        cell.task(made, range(1), 1, made.digest)


def test_an_alias_is_repeated_if_it_means_another_rule():
    digests = [
        given_rules({"mine": text})[1]["mine"].sha256
        for text in ("adam:1e-2", "adam:1e-2", "adam:1e-3")
    ]
    assert digests[0] == digests[1] != digests[2]


def test_rows_of_given_rules_are_marked(tmp_path):
    evaluation.compare({"m": "adam:1e-2"}, out=tmp_path, baseline="m", **SMALL)
    (row,) = jsonl.read(tmp_path / "rows.jsonl")
    assert row["given"] is True
