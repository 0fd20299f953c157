"""Distillation of LPG on rollouts of whole lifetimes."""

import dataclasses
import io
import json
import shlex
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl import cli
from learned_opt_rl.agents.lpg import rule_inputs
from learned_opt_rl.artifacts.weights import save_safetensors
from learned_opt_rl.rules import lpg
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.training.distillation import configure, distill, rollouts
from learned_opt_rl.training.distillation.config import parse_settings
from learned_opt_rl.training.distillation.objective import objective
from learned_opt_rl.training.lifetimes import advance, begin
from learned_opt_rl.training.meta_gradients import pool
from learned_opt_rl.training.meta_gradients.tasks import task
from learned_opt_rl.training.promotion.card import command
from learned_opt_rl.training.run_folder import BEST, CONFIG, read_run

SIZES = {"width": 4, "embedding": 4, "target_width": 3}
AGENT = {"workers": 2, "rollout": 4}
TINY = {"agent": AGENT, "horizon": 48, "seeds": 9, "size": 3, "tensors": 2}
FIT = {"steps": 4, "every": 1}


def teacher(folder, **sizes):
    """The folder of a training, whose weights are drawn."""
    folder.mkdir()
    architecture = lpg.Architecture(**SIZES | sizes)
    save_safetensors(folder / BEST, lpg.init(jax.random.key(5), architecture))
    config = {"algorithm": "lpg", "architecture": dataclasses.asdict(architecture)}
    config["environments"] = ["chain/short"]
    made = {"kind": "meta_gradients", "config": config}
    (folder / CONFIG).write_text(json.dumps(made))
    return str(folder)


@pytest.mark.parametrize(
    "inputs", ["none", pytest.param("relative", marks=pytest.mark.slow)]
)
def test_rollouts_are_those_of_a_life(tmp_path, inputs, quick_compilation):
    name = teacher(tmp_path / "t", lifetime_inputs=inputs)
    config, found = configure(teacher=name, **TINY)
    run: Any = config.runs()["chain/short"]
    rule: Any = found.rule(run, "chain/short").update_rule
    seen = rollouts.visit(rule, rule, config.runs(), lives=2, size=3, seed=7)
    assert seen.step.shape == (2, 3)
    assert (np.diff(seen.step) >= 1).all() and seen.step.max() < 6
    np.testing.assert_array_equal(seen.lifetime, 6)
    key = jax.random.split(jax.random.fold_in(jax.random.key(7), 0), 2)[1]
    life = jax.jit(lambda key: begin(run, key))(jax.random.split(key)[0])

    @jax.jit
    def following(life):
        acting = pool.agent_config(run, task("chain/short"), life.hyper)
        after, rollout = advance(run, rule, life)
        read = list(rule_inputs(acting, rule, rollout, life.life.agent.params))
        read[2] += lpg.EPS
        return after, read

    targets = jax.jit(lpg.UpdateRule.targets)
    for step in range(6):
        life, read = following(life)
        if step in seen.step[1]:
            place = int(np.flatnonzero(seen.step[1] == step)[0])
            for ours, theirs in zip(seen.read, read, strict=True):
                np.testing.assert_allclose(ours[1, place], theirs, rtol=1e-5, atol=1e-6)
            times = {"step": step, "lifetime": 6, "gamma": 0.99}
            wanted = targets(rule, *read, **times)
            for ours, theirs in zip(seen.targets, wanted, strict=True):
                np.testing.assert_allclose(ours[1, place], theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("rounds", "held"), [(1, {0, 8}), (2, {0, 9})])
def test_every_eighth_life_is_held_out(rounds, held):
    """Of each round: those to come hold copies of the lives of the first."""
    numbers = jnp.arange(18)[:, None] + jnp.zeros((1, 2), int)
    targets = lpg.Targets(numbers, numbers)
    seen = rollouts.Rollouts((numbers,), numbers, numbers, numbers, targets)
    drawn = []
    for held_out in (True, False):
        options = {"held_out": held_out, "rounds": rounds}
        found = rollouts.sample(jax.random.key(0), seen, 999, **options)
        drawn.append({*np.asarray(found.step).tolist()})
    assert drawn == [held, set(range(18)) - held]


def test_the_loss_has_the_stated_parts(tmp_path, quick_compilation):
    name = teacher(tmp_path / "t")
    config, found = configure(teacher=name, target_weight=3.0, **TINY)
    problem: Any = objective(config, found)
    x = problem.sample(jax.random.key(0), problem.visit(found.rule, 0))
    whole, parts = jax.jit(problem.loss), jax.jit(problem.measured)
    # Uncompiled: compiled, this is rounded to -7e-8.
    assert float(problem.loss(found.weights, x)) == pytest.approx(0, abs=1e-9)
    student = problem.init(jax.random.key(1))
    targets = jax.jit(rollouts.targets)
    ours, theirs = (
        targets(lpg.UpdateRule(w, config.learned.architecture), x)
        for w in (student, found.weights)
    )
    p, q = np.asarray(theirs.y_hat), np.asarray(ours.y_hat)
    policy = ((ours.pi_hat - theirs.pi_hat) ** 2).mean() / (theirs.pi_hat**2).mean()
    target = (p * np.log(p / q)).sum(-1).mean()
    found_parts = parts(student, x)
    assert float(found_parts["policy"]) == pytest.approx(float(policy), rel=1e-4)
    assert float(found_parts["target"]) == pytest.approx(float(target), rel=1e-3)
    loss = float(whole(student, x))
    assert loss == pytest.approx(float(policy + 3 * target), rel=1e-4)


@pytest.mark.slow
def test_a_student_of_half_width_in_two_rounds(tmp_path, quick_compilation):
    name = teacher(tmp_path / "t")
    folder = tmp_path / "run"
    config, found = configure("half", teacher=name, select="return", **TINY, **FIT)
    assert config.architecture["width"] == config.architecture["embedding"] == 2
    assert config.architecture["target_width"] == 3
    best = distill(config, found, folder, io.StringIO())
    rows = jsonl.read(folder / "log.jsonl")
    assert [row["round"] for row in rows] == [1, 1, 2, 2]
    for row in rows:
        squared = row["policy_loss"] + row["target_loss"]
        assert row["error"] == pytest.approx(squared**0.5, rel=1e-5)
        assert -1 <= row["return"] <= 1
    assert best in rows
    run = read_run(folder)
    assert (run.algorithm, run.environments) == ("lpg", ("chain/short",))
    lpg.update_rule(run.weights, lpg.Architecture(**run.architecture))
    again = tmp_path / "again"
    distill(config, found, again, io.StringIO())
    assert (again / BEST).read_bytes() == (folder / BEST).read_bytes()


def test_students_have_the_conventions_of_their_teacher(tmp_path):
    name = teacher(tmp_path / "t", policy_sign="ascend", gamma_input=True)
    config, _ = configure(teacher=name, student="lpg:width=7,core=lstm", **TINY)
    made = config.learned.architecture
    assert (made.width, made.core, made.embedding) == (7, "lstm", 4)
    assert (made.policy_sign, made.gamma_input) == ("ascend", True)
    assert config.environments == ("chain/short",)
    whole = configure(teacher=name)[0]
    assert (whole.horizon, whole.runs()["chain/short"].num_updates) == (None, 781)
    assert configure(teacher=name, student="lpg:8")[0].architecture["width"] == 8


def test_the_command_of_a_card_repeats_the_distillation(tmp_path):
    name = teacher(tmp_path / "t", policy_sign="ascend", lifetime_inputs="relative")
    for changes in (TINY, {"target_weight": 0.5, "agent": {"gammas": (0.9, 0.99)}}):
        config, _ = configure("half", teacher=name, **changes)
        words = shlex.split(command("distillation", config.as_json()))
        assert words[3:7:2] == ["--teacher", "--student"]
        assert words[7:9] == ["--environments", "chain/short"]
        values = parse_settings(words[words.index("--set") + 1 :])
        again, _ = configure(teacher=words[4], student=words[6], **values)
        assert again.as_json() == config.as_json()


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"student": "lpg:policy_sign=descend"}, "policy_sign=descend, but targets of"),
        ({"student": "lpg:target_width=8"}, "leave target_width out of student"),
        ({"student": "lpg:gamma_input=false"}, "gamma_input=False, but targets"),
        ({"student": "lpg:core=mlp"}, "architecture.core is 'mlp'"),
        ({"student": "open:8"}, "whose kind is update rule; only an LPG can imitate"),
        (
            {"teacher": "distilled/sign_mixture", "student": "lpg:8"},
            "whose kind is optimizer; only an LPG",
        ),
        ({"teacher": "discovered/dpo", "student": "lpg:8"}, "whose kind is drift"),
        ({"inputs": "correlated"}, "an LPG is distilled on rollouts of lifetimes"),
        ({"inputs": "runs"}, "an LPG is distilled on rollouts of lifetimes"),
        ({"sequence": 20}, "sequence=20 has no effect on LPG"),
        ({"preset": "long"}, "sequence=100 has no effect on LPG"),
        ({"target_weight": -1.0}, "target_weight"),
        ({"horizon": 3}, "a life of 3 steps is less than one rollout"),
        ({"horizon": 0}, "horizon=0 must be a positive whole"),
        ({"environments": ("CartPole-v1",)}, "environments='CartPole-v1'"),
        ({"agent": {"hidden": (4,)}}, "agent.hidden=(4,) is not a setting"),
        ({"start": "zeros"}, "start='zeros' has no effect"),
    ],
)
def test_refusals(tmp_path, asked, message):
    own = teacher(tmp_path / "t", policy_sign="ascend", gamma_input=True)
    asked = {"teacher": own, **TINY, **asked}
    with pytest.raises(ValueError) as caught:
        configure(**asked)
    assert message in str(caught.value)


def test_without_lifetimes_there_is_no_horizon_to_leave_out():
    with pytest.raises(ValueError, match="horizon=None must be a positive whole"):
        configure(teacher="distilled/sign_mixture", horizon=None)


def test_the_command_takes_settings_of_lifetimes(tmp_path, capsys):
    name = teacher(tmp_path / "t")
    words = ["train", "distill", "--teacher", name, "--out", str(tmp_path / "run")]
    assert cli.main([*words, "--set", "agent.workers=0"]) == 2
    assert "workers=0 must be a positive whole number" in capsys.readouterr().err


@pytest.mark.parametrize("broken", [[0], [3], [0, 1, 2], [8, 15]])
def test_no_life_is_both_held_out_and_trained_on(broken):
    good = np.setdiff1d(np.arange(16), broken)
    chosen = rollouts._replaced(good, 16)
    assert set(chosen) <= set(good)
    held = np.arange(16) % 8 == 0
    assert not set(chosen[held]) & set(chosen[~held])
    np.testing.assert_array_equal(chosen[good], good)
