import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import cli
from learned_opt_rl.agents import PPOConfig
from learned_opt_rl.evaluation import diagnostics
from learned_opt_rl.features import DECAYS
from learned_opt_rl.rundir import jsonl

PARAMS = {
    "actor": {"kernel": jnp.full((60, 50), 2.0)},
    "critic": {"kernel": jnp.full((3, 2), -4.0)},
}


class NoisyState(NamedTuple):
    key: jax.Array


def noisy(noise):
    """A step of -0.1 everywhere, with noise for the actor."""

    def update(updates, state, params=None, **extra):
        del params, extra
        following, now = jax.random.split(jax.random.wrap_key_data(state.key))
        moved = jax.tree.map(lambda g: jnp.full_like(g, -0.1), updates)
        kernel = moved["actor"]["kernel"]
        moved["actor"]["kernel"] = kernel + noise * jax.random.normal(now, kernel.shape)
        return moved, NoisyState(jax.random.key_data(following))

    return optax.GradientTransformationExtraArgs(
        lambda _: NoisyState(jax.random.key_data(jax.random.key(1))), update
    )


def measure(tx, grads, steps=1, **extra):
    tx = diagnostics.diagnosed(tx)
    state, update = tx.init(PARAMS), jax.jit(tx.update)
    for _ in range(steps):
        _, state = update(grads, state, PARAMS, **extra)
    return state.last


def test_noise_and_the_rest_of_an_update_are_told_apart():
    found = measure(noisy(0.5), PARAMS)
    np.testing.assert_allclose(found.relative_noise["actor"], 0.25, rtol=0.05)
    np.testing.assert_allclose(found.relative_update["critic"], 0.025, rtol=1e-5)
    assert found.relative_noise["critic"] == 0
    small = measure(noisy(1e-4), PARAMS)
    np.testing.assert_allclose(small.relative_update["actor"], 0.05, rtol=1e-3)


def test_cosines_are_those_of_the_definition():
    rng = np.random.default_rng(0)
    history = [
        jax.tree.map(lambda p: jnp.asarray(rng.normal(size=p.shape)), PARAMS)
        for _ in range(3)
    ]
    tx = diagnostics.diagnosed(optax.sgd(0.3, momentum=0.5))
    state = tx.init(PARAMS)
    for grads in history:
        updates, state = tx.update(grads, state, PARAMS)
    step = -np.concatenate([np.ravel(x) for x in jax.tree.leaves(updates)])
    flat = [
        np.concatenate([np.ravel(x) for x in jax.tree.leaves(g)]).astype(float)
        for g in history
    ]
    others = [flat[-1]]
    for decay in DECAYS:
        momentum = np.zeros_like(step)
        for g in flat:
            momentum = decay * momentum + (1 - decay) * g
        others.append(momentum)
    expected = [
        step @ other / np.linalg.norm(step) / np.linalg.norm(other) for other in others
    ]
    np.testing.assert_allclose(state.last.cosine, expected, rtol=1e-4)
    assert len(expected) == len(diagnostics.COMPARED)


def test_dormancy_is_by_network():
    dormancy = {"actor": {"kernel": jnp.array([0.0, 2.0])}, "critic": jnp.ones(4)}
    found = measure(optax.sgd(0.1), PARAMS, dormancy=dormancy)
    assert found.dormant["actor"] == 0.5 and found.dormant["critic"] == 0


def test_an_analysis_is_a_file_of_rows_and_a_picture(tmp_path, capsys):
    config = PPOConfig(256, num_envs=4, num_steps=32, minibatches=4, hidden=(8,))
    rows = diagnostics.analyze("sign_mixture", "CartPole-v1", config, seeds=1)
    path = tmp_path / "analysis.jsonl"
    jsonl.append(path, rows)
    (row,) = jsonl.read(path)
    assert row == json.loads(json.dumps(rows[0]))
    assert set(row["cosine"]) == set(diagnostics.COMPARED)
    assert len(row["relative_update"]["critic"]) == len(row["curve"]) == 2
    diagnostics.plot([row], tmp_path / "picture.png")
    assert (tmp_path / "picture.png").read_bytes().startswith(b"\x89PNG")


def test_the_command_adds_records_and_draws_them_all(monkeypatch, tmp_path, capsys):
    def analyze(rule, environment, config, seeds):
        values = [0.5] * config.num_rollouts
        networks = {"actor": values, "critic": values}
        names = ("relative_update", "relative_noise", "dormant")
        about = {"rule": rule, "environment": environment, "curve": values}
        cosine = dict.fromkeys(diagnostics.COMPARED, values)
        return [about | dict.fromkeys(names, networks) | {"cosine": cosine}]

    monkeypatch.setattr(diagnostics, "analyze", analyze)
    command = ["diagnose", "adam", "minatar", "--environment", "CartPole-v1"]
    assert cli.main([*command, "--steps", "1024", "--out", str(tmp_path)]) == 0
    rows, picture = tmp_path / "analysis.jsonl", tmp_path / "CartPole-v1.png"
    printed = capsys.readouterr()
    assert printed.out.splitlines() == [str(rows), str(picture)]
    assert printed.err.splitlines()[-1] == "2 of 2 runs done"
    assert [row["rule"] for row in jsonl.read(rows)] == ["adam", "minatar"]
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_pictures_are_of_one_environment(tmp_path):
    rows = [{"rule": "a", "environment": e} for e in ("x", "y")]
    with pytest.raises(ValueError, match=r"one environment, not \['x', 'y'\]"):
        diagnostics.plot(rows, tmp_path / "p.png")


def test_rows_of_several_lengths_are_refused_before_training(
    monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(diagnostics, "analyze", lambda *_: pytest.fail("ran"))
    rows = [
        {"rule": "adam", "environment": name, "curve": [0.0] * length, "cosine": {}}
        | dict.fromkeys(("relative_update", "relative_noise", "dormant"), {})
        for name, length in (("CartPole-v1", 4), ("Catch-bsuite", 9))
    ]
    jsonl.append(tmp_path / "analysis.jsonl", rows)
    problem = "rows of 2, 4 rollouts do not fit into one figure"
    refused(["adam", "--steps", "1024"], tmp_path, problem, capsys)
    with pytest.raises(ValueError, match=problem):
        diagnostics.plot([rows[0], {**rows[0], "curve": [0.0] * 2}], tmp_path / "x.png")


@pytest.mark.parametrize(
    "record", [{"a": 1}, {"environment": "CartPole-v1", "rule": "adam", "curve": 1}]
)
def test_records_of_something_else_are_refused_before_training(
    record, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(diagnostics, "analyze", lambda *_: pytest.fail("ran"))
    jsonl.append(tmp_path / "analysis.jsonl", [record])
    problem = "record 1 has no valid"
    refused(["adam", "--steps", "1024"], tmp_path, problem, capsys)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["adam", "nosuchrule"], "nosuchrule"),
        (["adam", "--environment", "CartPol"], "name='CartPol' is not an environment"),
        (["adam", "--steps", "1"], "--steps=1 is less"),
    ],
)
def test_wrong_arguments_are_one_line(
    arguments, problem, monkeypatch, tmp_path, capsys
):
    monkeypatch.setattr(diagnostics, "analyze", lambda *_: pytest.fail("ran"))
    refused(arguments, tmp_path, problem, capsys)


def refused(arguments, folder, problem, capsys):
    where = [] if "--environment" in arguments else ["--environment", "CartPole-v1"]
    assert cli.main(["diagnose", *arguments, *where, "--out", str(folder)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ") and problem in line


def test_no_seeds_are_refused():
    with pytest.raises(ValueError, match="seeds="):
        diagnostics.analyze("minatar", "CartPole-v1", PPOConfig(), seeds=[])
    with pytest.raises(ValueError, match="seeds=0 is empty"):
        diagnostics.analyze("minatar", "CartPole-v1", PPOConfig(), seeds=0)
