"""Meta-training of LPG: lifetimes, the bandit, the folder, and what is refused."""

import dataclasses
import hashlib
import io
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
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl import cli
from learned_opt_rl.artifacts import registry
from learned_opt_rl.artifacts.weights import load_safetensors, save_safetensors
from learned_opt_rl.rules import lpg
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.training.meta_gradients import (
    PRESETS,
    MetaGradientConfig,
    Training,
    preset,
)
from learned_opt_rl.training.meta_gradients import bandit as bandits
from learned_opt_rl.training.meta_gradients.card import best_row
from learned_opt_rl.training.meta_gradients.config import parse_settings
from learned_opt_rl.training.meta_gradients.curve import draw_curve
from learned_opt_rl.training.meta_gradients.meta_step import Program, share
from learned_opt_rl.training.meta_gradients.run import _ranked
from tests.artifact_files import card_data, write_card

TINY = {
    "lifetimes": 4,
    "minibatch": 2,
    "workers": 2,
    "rollout": 4,
    "updates": 2,
    "lifetime": 5,
    "log_every": 2,
    "steps": 6,
    "environments": ("chain/short",),
    "architecture": {"width": 4, "embedding": 3, "target_width": 3},
}
TIMES = ("seconds", "steps_per_second")


def config(**changes):
    return preset("lpg-cpu", **{**TINY, **changes})


def run(configuration, folder):
    return Training(configuration, folder, io.StringIO()).run()


def rows(folder):
    found = jsonl.read(folder / "log.jsonl")
    return [{k: v for k, v in row.items() if k not in TIMES} for row in found]


def same(a, b):
    def equal(x, y):
        if jnp.issubdtype(jnp.asarray(x).dtype, jax.dtypes.prng_key):
            x, y = map(jax.random.key_data, (x, y))
        return np.array_equal(x, y, equal_nan=np.asarray(x).dtype.kind == "f")

    return all(jax.tree.leaves(jax.tree.map(equal, a, b)))


@pytest.fixture(scope="module")
def program():
    return Program(config())


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


def test_the_rule_moves_and_first_lives_have_all_ages(program):
    first = program.first()
    ages = np.asarray(first.pools[0].life.agent.step)
    assert ages.tolist() == [0, 1, 2, 3]  # of 5
    after, _, _ = program.advance(first)
    assert not same(after.weights, first.weights)
    together = Program(config(stagger=False)).first()
    assert np.asarray(together.pools[0].life.agent.step).tolist() == [0] * 4


def test_a_finished_life_is_replaced_and_the_others_go_on(program):
    standing = program.first()
    before = standing.pools[0]
    standing, _, ended = program.advance(standing)  # ages 2, 3, 4 and 5
    assert [one.reason for one in ended] == ["finished"]
    pool = standing.pools[0]
    assert np.asarray(pool.life.agent.step).tolist() == [2, 3, 4, 0]
    assert int(standing.begun) == 5 and int(standing.finished) == 1
    lengths = [
        np.asarray(p.life.world.env_state.env.length)[:, 0] for p in (before, pool)
    ]
    np.testing.assert_array_equal(lengths[0][:3], lengths[1][:3])
    kernel = np.asarray(pool.life.agent.params["actor"]["Dense_0"]["kernel"])
    fresh = Program(config()).first().pools[0].life.agent.params["actor"]["Dense_0"]
    assert kernel[3].std() == pytest.approx(np.std(fresh["kernel"][0]), rel=0.5)


def test_a_nan_in_one_life_leaves_the_others_untouched(program):
    intact = program.first()
    kernels = intact.pools[0].life.agent.params
    broken = jax.tree.map(lambda x: x.at[1].set(jnp.nan), kernels)
    life = intact.pools[0].life
    life = life._replace(agent=life.agent._replace(params=broken))
    poisoned = intact._replace(pools=(intact.pools[0]._replace(life=life),))
    after, metrics, ended = program.advance(poisoned)
    expected, _, _ = program.advance(intact)
    assert [one.reason for one in ended] == ["non_finite", "finished"]
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(after.weights))
    assert np.isfinite(list(metrics.values())).all()
    for i in (0, 2):
        one, other = (
            jax.tree.map(lambda x, i=i: x[i], s.pools[0].life.agent.params)
            for s in (after, expected)
        )
        assert same(one, other)
    assert np.isfinite(jax.tree.leaves(after.pools[0].life.agent.params)[0]).all()


def test_a_life_whose_policy_no_longer_explores_ends(program):
    standing = program.first()
    life = standing.pools[0].life
    actor = life.agent.params["actor"]["Dense_0"]["kernel"]
    certain = actor.at[0].set(jnp.array([1e3, 0.0]))
    params = {**life.agent.params, "actor": {"Dense_0": {"kernel": certain}}}
    life = life._replace(agent=life.agent._replace(params=params))
    pools = (standing.pools[0]._replace(life=life),)
    _, _, ended = program.advance(standing._replace(pools=pools))
    assert [one.reason for one in ended] == ["entropy", "finished"]


def test_the_share_is_a_quotient_of_sums(program):
    recent = np.full((2, 200), np.nan, np.float32)
    standing = program.first()
    assert share(standing) is None
    recent[:, :2] = [[1.0, 0.0], [2.0, 0.5]]
    assert share(standing._replace(recent=recent)) == pytest.approx(0.4)


def test_the_bandit_tries_every_arm_and_then_prefers_the_best():
    """Against equation 6 of Oh et al., computed here by a loop."""
    bandit = bandits.init(3)
    np.testing.assert_allclose(bandits.probabilities(bandit, 0.2, 0.1), 1 / 3)
    bandit = bandits.update(bandits.update(bandit, 0, 0.5), 1, 0.9)
    np.testing.assert_array_equal(bandits.probabilities(bandit, 0.2, 0.1), [0, 0, 1])
    bandit = bandits.update(bandits.update(bandit, 2, 0.1), 2, 0.3)
    known = {0: [0.5], 1: [0.9], 2: [0.1, 0.3]}
    weights = [
        np.exp((sum(x) / len(x) + 0.2 / len(x) ** 0.5) / 0.1) for x in known.values()
    ]
    found = bandits.probabilities(bandit, 0.2, 0.1)
    np.testing.assert_allclose(found, np.array(weights) / sum(weights), rtol=1e-6)


def test_only_an_arm_s_last_ten_returns_count():
    bandit = bandits.init(1)
    for value in range(25):
        bandit = bandits.update(bandit, 0, value)
    assert sorted(bandit.returns[0]) == list(range(15, 25))
    assert bandit.counts.tolist() == [25]


def test_the_bandit_gives_lives_their_hyperparameters():
    names = ("chain/short", "chain/long")
    program = Program(config(bandit=True, lifetime=4, environments=names))
    assert len(program.config.arms("chain/short")) == 9
    standing = program.first()
    assert [len(bandit.counts) for bandit in standing.bandits] == [9, 9]
    standing, _, ended = program.advance(standing)
    assert [one.environment for one in ended] == list(names)
    assert [bandit.counts.sum() for bandit in standing.bandits] == [1, 1]
    fixed = Program(config()).first().pools[0].hyper
    assert set(np.asarray(fixed.agent_rate)) == {40.0}
    assert set(np.asarray(fixed.alpha_y)) == {0.5}


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture.core": "lstm", "architecture.gamma_input": True},
        {"architecture.prediction": "unbounded", "gammas": (0.9, 0.99)},
        {"target_entropy": 0.0, "policy_l2": 0.0, "target_l2": 0.0},
        {"architecture.lifetime_inputs": "relative", "clip": None},
    ],
)
def test_ablations_train(changes):
    sizes = {n.partition(".")[2]: v for n, v in changes.items() if "." in n}
    rest = {n: v for n, v in changes.items() if "." not in n}
    sizes = {**TINY["architecture"], **sizes}
    program = Program(config(architecture=sizes, **rest))
    first = program.first()
    after, metrics, _ = program.advance(first)
    assert not same(after.weights, first.weights)
    assert np.isfinite(list(metrics.values())).all()
    if "prediction" in sizes:
        assert metrics["target_entropy"] == 0


def test_rematerialization_changes_no_gradient(program):
    without = Program(config(rematerialize=False))
    pair = [one.advance(one.first())[1]["gradient_norm"] for one in (program, without)]
    assert pair[0] == pytest.approx(pair[1], rel=1e-4)


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
    assert rows(folder) == rows(whole)
    for name in ("best.safetensors", "final.safetensors"):
        assert (folder / name).read_bytes() == (whole / name).read_bytes()


def test_more_steps_continue_a_finished_run_and_fewer_are_refused(whole, tmp_path):
    folder = tmp_path / "run"
    run(config(steps=4), folder)
    run(config(), folder)
    assert rows(folder) == rows(whole)
    with pytest.raises(ValueError, match="steps=2, but 6 are done; pass at least 6"):
        run(config(steps=2), folder)
    with pytest.raises(ValueError, match="holds another run .*seed 0 -> 1"):
        run(config(seed=1), folder)


def test_a_damaged_state_is_refused(tmp_path):
    folder = tmp_path / "run"
    run(config(steps=2), folder)
    path = folder / "state.npz"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match="state.npz: the file is damaged; restore"):
        run(config(), folder)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lifetimes": 5}, "lifetimes=5: must be a multiple of minibatch=2 times"),
        ({"lifetime": 1}, "lifetime=1 of 'chain/short' is shorter than a meta-step"),
        ({"environments": ()}, "environments=.*one or more names"),
        ({"environments": ("CartPole-v1",)}, "'CartPole-v1': has no tabular states"),
        ({"environments": ("chain/distractor",)}, "has no tabular states"),
        ({"environments": ("chain/shrt",)}, "'chain/shrt' is not an environment"),
        ({"architecture": {"widht": 4}}, "architecture.widht=4 is not a field"),
        ({"workers": 0}, "workers=0 must be a positive whole number"),
        ({"learning_rate": 0.0}, "learning_rate=0.0: must be positive"),
        ({"lerning_rate": 1.0}, "lerning_rate=1.0 is not a setting"),
    ],
)
def test_bad_settings_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        config(**changes)


def test_an_unknown_preset_is_refused():
    with pytest.raises(ValueError, match="preset='lpg-cpi' is not a preset"):
        preset("lpg-cpi")


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_complete(name):
    found = preset(name)
    again = MetaGradientConfig.from_json(found.as_json())
    assert again.as_json() == found.as_json()


def test_start_weights_of_the_other_sign_or_size_are_refused(tmp_path, monkeypatch):
    architecture = config().rule_architecture
    weights = lpg.init(jax.random.key(3), architecture)
    (tmp_path / "mine").mkdir()
    digest = save_safetensors(tmp_path / "mine/weights.safetensors", weights)
    fields = {"algorithm": "lpg", "kind": "update_rule", "horizon": None}
    card = card_data("mine", architecture=dataclasses.asdict(architecture), **fields)
    size = sum(leaf.size for leaf in jax.tree.leaves(weights))
    card["weights"] |= {"sha256": digest, "parameters": size}
    write_card(tmp_path / "mine", card)
    monkeypatch.setattr(registry, "bundled_root", lambda: tmp_path)
    first = Program(config(start="mine")).first()
    assert same(first.weights, weights)
    other = {**TINY["architecture"], "policy_sign": "ascend"}
    with pytest.raises(ValueError, match="policy_sign='ascend': agents descend"):
        Program(config(start="mine", architecture=other)).first()
    wider = {**TINY["architecture"], "width": 5}
    with pytest.raises(ValueError, match="start='mine': its architecture is"):
        Program(config(start="mine", architecture=wider)).first()


SETTINGS = """
    --steps 6 --environments chain/short --set lifetimes=4 minibatch=2 workers=2
    rollout=4 updates=2 lifetime=5 log_every=2 architecture.width=4
    architecture.embedding=3 architecture.target_width=3
"""


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
    assert "Trained by meta-gradients from random weights for 6 meta-steps" in (
        card.training.description
    )
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
    assert best_row(early)["step"] == 20
    late = [*early, row(30, 60, 0.5), row(40, 9, 0.7), row(50, 9, 0.7), row(60, 9, 0.6)]
    assert best_row(late)["step"] == 40
    standing = Program(config()).first()
    kept = None
    for one in late:
        finished = standing.finished + one["finished"]
        standing = standing._replace(finished=finished)
        standing, improved = _ranked(standing, one)
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
    settings = SETTINGS.replace("--steps 6", "--steps 3000").split()

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
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")
    final = [
        (tmp_path / x / "final.safetensors").read_bytes() for x in ("run", "whole")
    ]
    assert final[0] == final[1]
