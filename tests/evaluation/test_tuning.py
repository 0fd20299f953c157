"""Tuning: the search, its folder, and the file that is a rule."""

import dataclasses
import io
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import artifacts, cli, envs
from learned_opt_rl.agents import PPOConfig
from learned_opt_rl.errors import ArtifactError, MissingExtraError
from learned_opt_rl.evaluation.runs import cell, compare, program, rules
from learned_opt_rl.evaluation.runs.plan import Comparison
from learned_opt_rl.evaluation.tuning import search, space
from learned_opt_rl.rundir import jsonl
from tests import probe_envs
from tests.evaluation.test_rules import updates

pytestmark = pytest.mark.usefixtures("quick_compilation")

SMALL = ("num_envs=4", "num_steps=16", "minibatches=2", "epochs=1", "hidden=4")
ASKED = Comparison(
    ("adam",), ("NamedAction", "Again"), 1, 64 * 3, search.FIRST_SEED, settings=SMALL
)
SETTINGS = {"learning_rate": 0.01, "b1": 0.5, "b2": 0.9, "anneal": True}
TUNE = ["tune", "--environments", "NamedAction", "--runs", "1", "--set", *SMALL]
MADE = {
    name: envs.adapt(probe_envs.NamedAction(), name=name)
    for name in ("NamedAction", "Again")
}


PROGRAMS = {}


def compiled_once(config, env, *rest):
    if env.name not in PROGRAMS:
        PROGRAMS[env.name] = program.Program(config, env, *rest)
    return PROGRAMS[env.name]


@pytest.fixture(autouse=True)
def probes(monkeypatch):
    real = envs.make
    monkeypatch.setattr(envs, "make", lambda name: MADE.get(name) or real(name))
    # Its own tests play an environment; here that would take most of the time.
    monkeypatch.setattr(envs, "check", lambda env: None)
    monkeypatch.setattr(cell, "Program", compiled_once)


@pytest.fixture
def unbroken(tmp_path_factory, quick_compilation):
    """The folder of a search without an interruption, its trials and its output."""
    folder, stream = tmp_path_factory.mktemp("unbroken") / "new", io.StringIO()
    found = search.tune(ASKED, 3, folder, stream=stream)
    return folder, found, stream.getvalue()


def at(starts, place):
    return {n: space.setting_at(n, start, place[n]) for n, start in starts.items()}


def written(path, settings, rule="adam"):
    path.write_text(json.dumps({"rule": rule, "settings": settings}), encoding="utf-8")
    return str(path)


def test_a_search_prints_its_budget_and_keeps_to_it(unbroken):
    folder, _, text = unbroken
    first, budget, time, *_ = text.splitlines()
    assert first == (
        "adam on NamedAction, Again: 3 values of learning_rate, b1, b2, anneal"
    )
    assert budget == "budget: 3 runs of 192 steps per environment"
    assert time.startswith("time: about 0:00:0")
    rows = jsonl.read(folder / compare.ROWS)
    assert [row["environment"] for row in rows] == ["NamedAction", "Again"] * 3
    for number in range(3):
        path = str(folder / f"trial-{number}.json")
        ran = [row["weights_sha256"] for row in rows if row["rule"] == path]
        assert ran == [rules.weights_digest(path)] * 2
    # Comparisons start at seed 0.
    assert {row["seed"] for row in rows} == {search.FIRST_SEED}


def test_the_best_settings_become_a_rule(unbroken):
    folder, found, _ = unbroken
    trials = found["*"]
    assert len(trials) == 3
    assert trials == sorted(trials, key=lambda trial: -trial.score)
    made = json.loads((folder / search.TUNED).read_text())
    assert (made["rule"], made["settings"]) == ("adam", {"*": trials[0].settings})
    starts = space.search_space("adam")
    assert json.loads((folder / "trial-0.json").read_text())["settings"]["*"] == starts
    header, *lines = search.table(trials)
    assert header[:3] == ["SCORE", "NamedAction", "Again"]
    assert header[3:] == list(starts)
    assert len(lines) == 3


class Stopped(io.StringIO):
    """A stream that is interrupted at a certain text."""

    def write(self, text):
        if "trial-1.json (Again, seed 10000)" in text:
            raise KeyboardInterrupt
        return super().write(text)


def test_a_killed_search_resumes_to_the_same_settings(unbroken, tmp_path):
    folder, found, _ = unbroken
    with pytest.raises(KeyboardInterrupt):
        search.tune(ASKED, 3, tmp_path, stream=Stopped())
    kept = jsonl.read(tmp_path / compare.ROWS)
    assert len(kept) == 3
    assert not (tmp_path / search.TUNED).exists()
    # A search with a larger budget begins with the settings of a smaller one.
    stream = io.StringIO()
    search.tune(ASKED, 2, tmp_path, stream=stream)
    assert "1 of 2 settings" not in stream.getvalue()
    assert jsonl.read(tmp_path / compare.ROWS)[:3] == kept
    assert search.tune(ASKED, 3, tmp_path, stream=stream) == found
    for number in range(3):
        name = f"trial-{number}.json"
        assert (tmp_path / name).read_text() == (folder / name).read_text()


def test_a_finished_search_compiles_nothing(unbroken, monkeypatch):
    folder, found, _ = unbroken
    monkeypatch.setattr(cell, "Program", lambda *_: pytest.fail("compiled"))
    assert search.tune(ASKED, 3, folder, stream=io.StringIO()) == found


def test_each_environment_has_its_own_settings(tmp_path):
    found = search.tune(
        ASKED, 1, tmp_path, each=True, only=["b1"], stream=io.StringIO()
    )
    assert list(found) == ["NamedAction", "Again"]
    made = json.loads((tmp_path / search.TUNED).read_text())
    assert made["settings"] == {
        name: trials[0].settings for name, trials in found.items()
    }
    assert (tmp_path / "Again" / compare.ROWS).exists()


def test_a_search_without_a_return_is_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(search, "returns", lambda rows: {})
    with pytest.raises(ValueError, match="total_timesteps=192: every run of 'adam' on"):
        search.tune(ASKED, 1, tmp_path, stream=io.StringIO())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["adam", "--runs", "0"], "--runs=0 must be a positive multiple of --seeds=1"),
        (
            ["adam", "--seeds", "2"],
            "--runs=1 must be a positive multiple of --seeds=2, the runs of each "
            "setting; give for example 40",
        ),
        (
            ["adam", "--first-seed", "4"],
            "--first-seed=4 is a seed of comparisons; give at least 10000",
        ),
        (
            ["adam", "--only", "lr"],
            "--only='lr' is not a setting of 'adam'; choose one",
        ),
        (["adam:1e-3"], "rule='adam:1e-3' has fixed settings; name a rule without any"),
        (["minatar"], "rule='minatar' has no learning rate and no constants to tune"),
        (["adam@no-dormancy"], "rule='adam@no-dormancy': only a learned optimizer can"),
        (["nobody"], "no artifact is named 'nobody'"),
        (
            ["adam", "--environments", "NamedActoin"],
            "name='NamedActoin' is not an environment",
        ),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(
    arguments, message, tmp_path, capsys
):
    out = tmp_path / "out"
    assert cli.main([*TUNE, "--out", str(out), *arguments]) == 2
    assert f"error: {message}" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"total_timesteps": 64}, "other values .total_timesteps 192 -> 64.; repeat"),
        ({"rules": ("sgd",)}, r"other values .rules \['adam'\] -> \['sgd'\]"),
    ],
)
def test_another_request_is_refused(changes, message, unbroken):
    asked = dataclasses.replace(ASKED, **changes)
    with pytest.raises(ValueError, match=message):
        search.tune(asked, 3, unbroken[0], stream=io.StringIO())


def test_the_folder_of_a_comparison_is_refused(tmp_path):
    (tmp_path / compare.ROWS).write_text("")
    with pytest.raises(ValueError, match="holds results of another command"):
        search.tune(ASKED, 1, tmp_path, stream=io.StringIO())


def test_without_optuna_the_message_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(
        MissingExtraError, match=r"pip install 'learned-opt-rl\[tune\]'"
    ):
        search.tune(ASKED, 1, tmp_path / "out", stream=io.StringIO())
    assert not (tmp_path / "out").exists()


def test_a_missing_return_counts_as_the_lowest():
    assert search.scores([{"a": 1.0}, {}, {"a": -3.0}]) == [1.0, -3.0, -3.0]
    assert search.scores([{"a": 4.0, "b": 7.0}, {"b": 7.0}, {"a": 2.0}]) == [0.5, 0, 0]
    assert search.scores([{}, {}]) == [0.0, 0.0]


@pytest.mark.parametrize(
    ("rule", "names"),
    [
        ("adam", ["learning_rate", "b1", "b2", "anneal"]),
        ("lion", ["learning_rate", "b1", "b2", "anneal"]),
        ("rmsprop", ["learning_rate", "decay", "anneal"]),
        ("sgd", ["learning_rate", "anneal"]),
        ("optim4rl/breakout", ["learning_rate"]),
        ("discovered/archive_clipped", ["constants.fraction"]),
        ("discovered/open_llm_minatar", ["learning_rate", "constants.noise"]),
        ("distilled/lpo_half", ["learning_rate", "b1", "b2", "anneal"]),
        (
            "discovered/dpo",
            [
                "learning_rate",
                "b1",
                "b2",
                "anneal",
                "constants.alpha",
                "constants.beta",
            ],
        ),
    ],
)
def test_every_setting_of_a_rule_can_be_tuned(rule, names):
    starts = space.search_space(rule)
    assert list(starts) == names
    assert all(names[0] in rules.HANDCRAFTED or value for value in starts.values())
    made = rules.resolve(rule, PPOConfig(20_000), "Catch-bsuite", starts)
    made.optimizer(jax.random.key(0)).init({"actor": {"w": jnp.ones((2, 2))}})


def test_places_depend_on_what_was_tried_only():
    starts = space.search_space("adam")
    first = space.next_place(starts, (), (), 3)
    assert at(starts, first) == starts
    tried = [(first, 1.0)]
    for number in range(8):
        place = space.next_place(starts, (), tried, number)
        assert place == space.next_place(starts, (), list(tried), number)
        settings = at(starts, place)
        assert 1e-5 <= settings["learning_rate"] <= 0.1
        assert 0 <= settings["b1"] <= 0.99
        assert 0.99 <= settings["b2"] <= 0.9999
        tried.append((place, float(number)))
    assert len({place["learning_rate"] for place, _ in tried}) == 9


def test_constants_move_by_factors():
    starts = {"constants.a": -2.0, "constants.b": 0.0, "constants.c": 0.99}
    place = {"constants.a": 1.0, "constants.b": 0.5, "constants.c": -1.0}
    assert list(at(starts, place).values()) == [-20.0, 0.5, 0.999]


@pytest.mark.parametrize("anneal", [True, False])
def test_traced_settings_are_the_settings(anneal):
    settings = SETTINGS | {"anneal": anneal}
    rate = optax.linear_schedule(0.01, 0.0, 4) if anneal else 0.01
    expected = updates(optax.adam(rate, b1=0.5, b2=0.9), 4)

    @jax.jit
    def traced(values):
        tx = rules.handcrafted("adam", "anything", 4, values)
        params = {"w": jnp.array([1.0, -2.0])}
        state, taken = tx.init(params), []
        for _ in range(4):
            grads = {"w": jnp.array([0.3, -0.1])}
            update, state = tx.update(grads, state, params)
            taken.append(update["w"])
        return jnp.array(taken)

    plain = rules.handcrafted("adam", "anything", 4, settings)
    bound = 100 * np.finfo(np.float32).eps
    np.testing.assert_allclose(updates(plain, 4), expected, rtol=bound)
    arrays = {name: jnp.float32(value) for name, value in settings.items()}
    np.testing.assert_allclose(traced(arrays), expected, rtol=bound, atol=1e-9)


def test_a_file_is_a_rule(tmp_path):
    path = written(tmp_path / "one.json", {"*": SETTINGS, "ant": {"learning_rate": 1}})
    config = PPOConfig(20_000)
    schedule = optax.linear_schedule(0.01, 0.0, config.num_updates)
    made = rules.resolve(path, config, "anything").optimizer(jax.random.key(0))
    expected = optax.adam(schedule, b1=0.5, b2=0.9)
    np.testing.assert_array_equal(updates(made, 3), updates(expected, 3))
    own = rules.resolve(path, config, "ant").optimizer(jax.random.key(0))
    assert np.abs(updates(own, 1)[0, 0]) == pytest.approx(1.0, rel=1e-4)
    digest = rules.weights_digest(path)
    other = written(tmp_path / "two.json", {"*": SETTINGS | {"b1": 0.6}})
    assert digest != rules.weights_digest(other)
    learned = {"*": {"learning_rate": 1e-3}}
    path = written(tmp_path / "three.json", learned, "optim4rl/breakout")
    rules.resolve(path, config, "anything").optimizer(jax.random.key(0))
    plain = artifacts.card("optim4rl/breakout").weights.sha256
    assert rules.weights_digest(path) not in (None, plain)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        '{"rule": "adam"}',
        '{"rule": "x.json", "settings": {"*": {}}}',
        '{"rule": "adam", "settings": {"*": 1}}',
        '{"rule": "adam", "settings": {"*": {"learning_rate": NaN}}}',
        '{"rule": "adam", "settings": {"*": {"learning_rate": "1"}}}',
    ],
)
def test_another_file_is_not_a_rule(content, tmp_path):
    path = tmp_path / "other.json"
    path.write_text(content)
    with pytest.raises(ArtifactError, match="other.json' is not a tuned rule"):
        rules.resolve(str(path), PPOConfig(20_000), "ant")
    assert rules.weights_digest(str(path)) is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"ant": SETTINGS}, "no settings for environment='hopper' .only for ant.; run"),
        ({"*": {"b1": 0.9}}, "its settings do not fit 'adam' .'learning_rate'.; run"),
        ({"*": SETTINGS | {"b9": 1}}, "its settings do not fit 'adam'"),
    ],
)
def test_settings_that_do_not_fit_name_the_command(settings, message, tmp_path):
    path = written(tmp_path / "tuned.json", settings)
    with pytest.raises(ValueError, match=message) as caught:
        rules.resolve(path, PPOConfig(20_000), "hopper")
    assert "`learned-opt-rl tune adam --environments hopper`" in str(caught.value)


@pytest.mark.parametrize("rule", ["adam", "discovered/dpo"])
def test_adam_is_tuned_or_names_the_command_that_tunes_it(rule):
    refused = 0
    for name in envs.names():
        try:
            rules.resolve(rule, PPOConfig(20_000), name)
        except ValueError as error:
            refused += 1
            assert f"`learned-opt-rl tune {rule} --environments {name}`" in str(error)
    assert 0 < refused < len(envs.names())
