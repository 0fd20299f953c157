import dataclasses
import json
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.flatten_util import ravel_pytree

from learned_opt_rl import artifacts, cli
from learned_opt_rl.artifacts.weights import save_safetensors
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.evaluation.report.normalization import published
from learned_opt_rl.rules import lpg, lpo
from learned_opt_rl.training.evolution import PRESETS, EvolutionConfig, preset
from learned_opt_rl.training.evolution.config import parse_settings
from learned_opt_rl.training.learned import Learned, draw

CONFIG = preset("open-breakout")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_survive_json(name):
    config = preset(name)
    again = EvolutionConfig.from_json(json.loads(json.dumps(config.as_json())))
    assert again == config


def test_lists_are_taken_as_tuples():
    lists = {"horizons": [[0, 1]], "agent": {"agent_rates": [40.0, 20.0]}}
    config = preset("lpg-es-cpu", environments=["chain/short"], **lists)
    assert config.horizons == ((0, 1),) and config.environments == ("chain/short",)
    assert EvolutionConfig.from_json(config.as_json()) == config


@pytest.mark.parametrize(
    ("name", "size", "population", "sigma", "rate", "decays"),
    [
        ("open-minatar", 1923, 64, 0.03, 0.03, (0.998, 0.998)),
        ("open-breakout", 1923, 64, 0.03, 0.03, (0.999, 0.999)),
        ("open-breakout-recurrent", 1211, 64, 0.03, 0.03, (0.999, 0.999)),
        ("open-ant", 1211, 32, 0.01, 0.01, (0.999, 0.999)),
        ("open-gridworld", 1211, 64, 0.01, 0.005, (0.999, 0.99)),
        ("no-features-minatar", 1538, 64, 0.03, 0.03, (0.999, 0.999)),
        ("lpo-minatar", 1152, 64, 0.03, 0.03, (0.999, 0.999)),
        ("optim4rl-breakout", 1403, 64, 0.03, 0.03, (0.999, 0.999)),
        ("lpg-es", 203_946, 1024, 0.1, 0.01, (1.0, 0.999)),
        ("ta-lpg-es", 205_482, 1024, 0.1, 0.01, (1.0, 0.999)),
    ],
)
def test_presets_are_the_published_settings(
    name, size, population, sigma, rate, decays
):
    config = preset(name)
    assert config.learned.size == size
    assert (config.population, config.sigma, config.learning_rate) == (
        population,
        sigma,
        rate,
    )
    assert (config.sigma_decay, config.learning_rate_decay) == decays
    assert config.beta1 == 0.99


def test_deep_sea_draws_a_size_per_generation_and_runs_longer_in_larger_ones():
    config = preset("open-deep-sea", generations=200)
    sizes = [
        int(name.partition("/")[2])
        for generation in range(200)
        for name in config.drawn(generation)
    ]
    assert len(sizes) == 200  # one a generation
    assert set(sizes) == set(range(4, 27))  # U[4, 26]; each size is 9 times expected
    assert config.drawn(3) == preset("open-deep-sea").drawn(3)
    assert config.drawn(3) != preset("open-deep-sea", seed=1).drawn(3)
    runs = config.runs(config.horizon(0))
    assert runs["DeepSea-bsuite/4"].total_timesteps == 40_000
    assert runs["DeepSea-bsuite/26"].total_timesteps == 260_000


def test_drawn_environments_keep_their_order():
    config = preset("open-deep-sea", environments_per_generation=22)
    names = config.drawn(0)
    assert len(names) == 22
    assert list(names) == [name for name in config.environments if name in names]
    everything = preset("open-deep-sea", environments_per_generation=None)
    assert everything.drawn(0) == everything.environments


def test_the_multi_task_presets_divide_by_adams_returns():
    adam = published("adam")
    config = preset("open-minatar")
    assert config.normalizers() == tuple(adam[name] for name in config.environments)
    assert preset("open-breakout").normalizers() == (1.0,)


def test_an_override_of_a_group_keeps_the_rest_of_it():
    config = preset("open-breakout", architecture={"width": 16}, agent={"gamma": 0.9})
    assert config.architecture == {"carry": None, "width": 16}
    assert config.runs(200_000)["Breakout-MinAtar"].gamma == 0.9


def test_a_curriculum_changes_length_with_the_generation():
    config = preset("open-breakout", horizons=((0, 200_000), (100, 1_000_000)))
    assert [config.horizon(g) for g in (0, 99, 100, 249)] == [
        200_000,
        200_000,
        1_000_000,
        1_000_000,
    ]


LPG = preset("lpg-es-cpu")


def test_agents_of_lpg_live_as_long_as_their_environment_says():
    life = LPG.runs(1)["gridworld/small"]
    assert (life.num_updates, life.batch_size) == (250, 320)
    steps = preset("lpg-es-cpu", horizon_unit="steps", horizons=((0, 6400),))
    assert steps.runs(6400)["gridworld/small"].num_updates == 20
    inputs = preset("ta-lpg-es").runs(1)["gridworld/all_vrandlife"]
    assert inputs.rule_architecture.lifetime_inputs == "relative"
    assert inputs.num_updates == 250


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"horizons": ((0, 2),)}, "an agent has one lifetime; give horizons=1"),
        (
            {"horizon_unit": "steps", "horizons": ((0, 100),)},
            "a life of 100 steps is less than one rollout of workers * rollout = 320",
        ),
        (
            {"agent": {"hidden": (8,)}},
            "agent.hidden=(8,) is not a setting of",
        ),
        ({"agent": {"workers": 0}}, "workers=0 must be a positive whole number"),
        ({"environments": ("CartPole-v1",)}, "environments='CartPole-v1'"),
        ({"horizon_unit": "episodes"}, "'gridworld/small' have no fixed length"),
        ({"compat": True, "shaping": "centered_ranks"}, "compat=True changes the"),
        ({"architecture": {"core": "mlp"}}, "architecture.core is 'mlp'; write 'gru'"),
        ({"strategy": "snes"}, "shaping='pairs' needs the antithetic pairs"),
        (
            {"strategy": "snes", "shaping": "centered_ranks", "compat": True},
            "are settings of strategy='openai_es'",
        ),
    ],
)
def test_refusals_of_lpg(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        dataclasses.replace(LPG, **changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"algorithm": "adam"}, "algorithm='adam' must be one of open, open_separated"),
        ({"architecture": {"units": 3}}, "architecture={'units': 3} does not fit"),
        ({"environments": ()}, "environments=() must name at least one"),
        ({"environments": ("ant", "ant")}, "each once"),
        ({"horizons": ((5, 1000),)}, "horizons=((5, 1000),) must be pairs"),
        ({"horizons": ((0, 100),)}, "total_timesteps=100 is less than one rollout"),
        ({"rollouts": 0}, "rollouts=0 must be a positive whole number"),
        (
            {"environments_per_generation": 2},
            "environments_per_generation=2 must be at most the number of environments",
        ),
        (
            {"environments_per_generation": 0},
            "environments_per_generation=0 must be a positive whole number",
        ),
        ({"horizon_unit": "days"}, "horizon_unit='days' must be steps or episodes"),
        (
            {"horizon_unit": "episodes"},
            "episodes of environment='Breakout-MinAtar' have no fixed length",
        ),
        ({"population": 5}, "population=5 must be even"),
        (
            {"agent": {"gama": 1}},
            "gama=1 is not a field of PPOConfig; did you mean 'gamma'?",
        ),
        (
            {"environments": ("CartPole-v1",), "normalizer": "published"},
            "normalizer='published' has no return of CartPole-v1",
        ),
        ({"normalizer": "adam"}, "normalizer='adam' must be none, published or"),
        (
            {
                "algorithm": "optim4rl",
                "architecture": {"version": "rlc2024", "carry": 8, "width": None},
                "environments": ("Seaquest-MinAtar",),
            },
            "algorithm='optim4rl' cannot be evolved on environment='Seaquest-MinAtar'",
        ),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        dataclasses.replace(CONFIG, **changes)


def test_unknown_presets_and_fields():
    with pytest.raises(
        ValueError,
        match="is not a preset; did you mean 'open-minatar'",
    ):
        preset("open-minitar")
    with pytest.raises(ValueError, match="sigmma=1 is not a setting of evolution"):
        preset("open-minatar", sigmma=1)


@pytest.mark.parametrize("name", ["open-breakout", "lpo-minatar"])
def test_a_vector_is_the_weights_in_their_order(name):
    learned = preset(name).learned
    weights = draw(learned.algorithm, learned.architecture, jax.random.key(4))
    vector = learned.start("random", jax.random.key(4))
    assert vector.shape == (learned.size,)
    for found, expected in zip(
        *map(jax.tree.leaves, (learned.unravel(vector), weights)), strict=True
    ):
        np.testing.assert_array_equal(found, expected)


def test_starts():
    learned = CONFIG.learned
    assert not learned.start("zeros", jax.random.key(0)).any()
    warm = learned.unravel(learned.start("distilled/sign_mixture", jax.random.key(0)))
    expected = artifacts.load("distilled/sign_mixture").weights
    jax.tree.map(np.testing.assert_array_equal, warm, expected)
    near_ppo = preset("lpo-minatar").learned.start("random", jax.random.key(0))
    assert 0 < np.abs(near_ppo).max() < 0.03


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("minatr", {}, "no artifact is named 'minatr'"),
        (
            "distilled/sign_mixture",
            {"width": 16},
            "start='distilled/sign_mixture' does not fit ",
        ),
    ],
)
def test_starts_that_do_not_fit_are_refused(name, changes, message):
    learned = preset("open-breakout", architecture=changes).learned
    with pytest.raises(ValueError, match=message):
        learned.start(name, jax.random.key(0))
    with pytest.raises(ValueError, match="has algorithm 'open', but .* 'lpo'"):
        preset("lpo-minatar").learned.start("distilled/sign_mixture", jax.random.key(0))


def test_a_name_is_an_artifact_before_it_is_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder, key = tmp_path / "distilled/sign_mixture", jax.random.key(0)
    folder.mkdir(parents=True)
    sizes = dict(CONFIG.architecture)
    made = {"kind": "distillation", "config": {"algorithm": "open"}}
    made["config"]["architecture"] = sizes
    (folder / "config.json").write_text(json.dumps(made))
    weights = CONFIG.learned.unravel(jnp.ones(CONFIG.learned.size))
    save_safetensors(folder / "best.safetensors", weights)
    assert not (CONFIG.learned.start("distilled/sign_mixture", key) == 1).all()
    with pytest.raises(ValueError, match="holds a distillation that did not finish"):
        CONFIG.learned.start("./distilled/sign_mixture", key)
    save_safetensors(folder / "final.safetensors", weights)
    assert (CONFIG.learned.start("./distilled/sign_mixture", key) == 1).all()
    with pytest.raises(ArtifactError, match="start='runs/none' is neither a folder wi"):
        CONFIG.learned.start("runs/none", key)


@pytest.mark.parametrize("changed", ["policy_sign", "width"])
def test_lpg_starts_from_weights_of_its_own_conventions(tmp_path, changed):
    theirs = {"policy_sign": "ascend", "width": 4, "embedding": 3}
    ours = theirs | {"policy_sign": "descend"} if changed == "policy_sign" else theirs
    ours = ours | {"width": 5} if changed == "width" else ours
    path = tmp_path / "best.safetensors"
    weights = draw("lpg", lpg.Architecture(**theirs), jax.random.key(0))
    save_safetensors(path, weights)
    made = {"kind": "meta_gradients", "config": {"architecture": theirs}}
    (tmp_path / "config.json").write_text(json.dumps(made))
    key = jax.random.key(1)
    found = Learned("lpg", theirs).start(str(path), key)
    np.testing.assert_array_equal(found, ravel_pytree(weights)[0])
    with pytest.raises(ArtifactError, match=f"set architecture.{changed}="):
        Learned("lpg", ours).start(str(path), key)


def test_lpo_is_run_with_tuned_adam_and_its_own_drift():
    config = preset("lpo-minatar")
    run = config.runs(200_000)["Breakout-MinAtar"]
    vector = config.learned.start("random", jax.random.key(1))
    rule = config.learned.rule(vector, run, "Breakout-MinAtar")
    assert rule.drift is not None
    drift = lpo.drift(config.learned.unravel(vector), clip_eps=0.2, margin=1e-4)
    ratio, advantage = jnp.array([0.5, 1.9]), jnp.array([-1.0, 2.0])
    found = rule.drift(ratio, advantage)
    np.testing.assert_array_equal(found, drift(ratio, advantage))


def test_settings_are_parsed_by_their_fields_types():
    found = parse_settings(
        [
            "population=8",
            "sigma=1e-2",
            "start=minatar",
            "environments=ant,hopper",
            "horizons=0:2e5,100:1e6",
            "agent.hidden=16x16",
            "agent.activation=tanh",
            "architecture.carry=none",
            "architecture.width=16",
        ],
        "open",
    )
    assert found == {
        "population": 8,
        "sigma": 0.01,
        "start": "minatar",
        "environments": ("ant", "hopper"),
        "horizons": ((0, 200_000), (100, 1_000_000)),
        "agent": {"hidden": (16, 16), "activation": "tanh"},
        "architecture": {"carry": None, "width": 16},
    }


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("agent.workers=8", "--set 'agent.workers=8' is not NAME=VALUE"),
        ("population", "--set 'population' is not NAME=VALUE"),
        ("population=many", "--set 'population=many': 'many' is not a number"),
        ("populations=8", "'populations' is not a setting; did you mean 'population'"),
        ("horizons=2.5", "'horizons=2.5': '2.5' is not a whole number; write"),
        ("horizons=100-1e6", "'100-1e6' is not a number; write pairs as"),
        (
            "agent.hiden=8",
            "'agent.hiden' is not a setting; did you mean 'agent.hidden'",
        ),
        ("agent=8", "--set 'agent=8' is not NAME=VALUE"),
    ],
)
def test_unknown_settings_are_refused(setting, message):
    with pytest.raises(ValueError, match=message):
        parse_settings([setting], "open")


def test_settings_of_lpg_are_those_of_its_agents():
    texts = ["agent.workers=8", "agent.agent_rates=20,40", "architecture.core=lstm"]
    assert parse_settings([*texts, "compat=true"], "lpg") == {
        "agent": {"workers": 8, "agent_rates": (20.0, 40.0)},
        "architecture": {"core": "lstm"},
        "compat": True,
    }
    with pytest.raises(ValueError, match="--set 'agent.hidden=8' is not NAME=VALUE"):
        parse_settings(["agent.hidden=8"], "lpg")


def refused(capsys, *arguments):
    assert cli.main(["train", *map(str, arguments)]) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("error: ") and output.err.count("\n") == 1
    return output.err


def test_the_command_line_refuses_in_one_line(capsys, tmp_path):
    folder = tmp_path / "campaign"
    start = ["es", "--out", folder, "--preset", "open-breakout"]
    assert "preset='open'" in refused(capsys, "es", "--out", folder, "--preset", "open")
    assert "population=7" in refused(capsys, *start, "--set", "population=7")
    assert "minatr" in refused(capsys, *start, "--set", "start=minatr")
    found = refused(capsys, *start, "--set", "population=6", "--devices", 4)
    assert "devices=4 does not divide the population of 6" in found
    found = refused(capsys, "resume", tmp_path / "none")
    assert "holds no campaign (config.json is missing)" in found
    assert "artifact is named" in found
    found = refused(capsys, *start, "--processes", 2, "--process", 0)
    assert "--processes and --process need the --coordinator" in found
    made = {"kind": "distillation", "config": {"algorithm": "open"}}
    (tmp_path / "config.json").write_text(json.dumps(made))
    found = refused(capsys, "resume", tmp_path)
    assert "holds a run of kind distillation, not a campaign" in found
    (tmp_path / "config.json").write_text("[]")
    assert "is not the configuration of a run" in refused(capsys, "resume", tmp_path)
