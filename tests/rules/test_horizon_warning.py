"""A rule without a given horizon warns once, when it is built."""

import os
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import pytest

import learned_opt_rl
from learned_opt_rl import (
    Horizon,
    HorizonWarning,
    artifacts,
    discovered,
    families,
    open_rl,
    rules,
)
from learned_opt_rl.rules._core import notice
from tests.conftest import REPOSITORY

OPTIMIZERS = {n: c for n, c in artifacts.cards().items() if c.kind == "optimizer"}
WITHOUT_TIME = {
    "discovered/archive_clipped",
    "discovered/archive_gradient",
    "discovered/archive_relative",
    "discovered/no_features_symbolic_ant",
    "discovered/no_features_symbolic_ant_normalised",
    "discovered/open_symbolic_ant",
    "discovered/open_symbolic_minatar",
    "no_features/minatar",
    "optim4rl/breakout",
}
TIMED = sorted(set(OPTIMIZERS) - WITHOUT_TIME)


def build(name, **options):
    """Build an artifact's rule; those that are not at hand with other weights."""
    card = OPTIMIZERS[name]
    if card.is_remote:
        family = families.find(card.algorithm)
        weights = open_rl.init(jax.random.key(0), family.read(card.architecture))
        artifact = artifacts.Artifact(card, weights)
    else:
        artifact = artifacts.load(name)
    return artifacts.rule_module(card.algorithm).from_artifact(artifact, **options)


@pytest.mark.parametrize("name", TIMED)
def test_without_a_horizon_it_warns_and_with_one_it_does_not(name):
    with pytest.warns(HorizonWarning) as caught:
        build(name)
    (warning,) = caught
    updates = OPTIMIZERS[name].horizon.total_updates
    assert f"'{name}'" in str(warning.message)
    assert f"a run of {updates} updates" in str(warning.message)
    assert "Horizon.ppo(" in str(warning.message)
    assert warning.filename == __file__
    build(name, horizon=Horizon(100))  # warnings are errors here


@pytest.mark.parametrize("name", sorted(WITHOUT_TIME))
def test_a_rule_that_reads_no_time_does_not_warn(name):
    build(name)


def test_the_warning_says_what_happens_after_the_horizon():
    with pytest.warns(HorizonWarning, match="past them, every update is 0"):
        learned_opt_rl.pretrained("sign_mixture")
    with pytest.warns(HorizonWarning, match="past them, training proportion stays 1"):
        learned_opt_rl.pretrained("minatar")


def test_it_warns_inside_of_jit_and_with_traced_constants():
    card = artifacts.load("sign_mixture")

    @jax.jit
    def first(constants):
        tx = discovered.from_artifact(card, constants=constants)
        params = {"w": jnp.ones(3)}
        return tx.update(params, tx.init(params), params)[0]["w"]

    with pytest.warns(HorizonWarning, match="every update is 0"):
        assert first(card.weights).any()


def test_the_artifacts_own_horizon_can_be_passed_on_purpose():
    horizon = rules.trained_horizon(OPTIMIZERS["sign_mixture"])
    assert horizon == Horizon(960, epochs=4, minibatches=8)
    learned_opt_rl.pretrained("sign_mixture", horizon=horizon)


@pytest.mark.parametrize("name", ["minatar", "sign_mixture"])
def test_past_the_horizon_it_logs_one_line_on_request(caplog, monkeypatch, name):
    monkeypatch.setattr(notice, "_LOGGED", set())
    tx = build(name, horizon=Horizon(3), warn_past_horizon=True)
    params = {"w": jnp.ones(2)}
    state, update = tx.init(params), jax.jit(tx.update)
    for _ in range(5):
        _, state = update(params, state, params)
    jax.effects_barrier()
    (line,) = caplog.records
    assert line.message.startswith("past the horizon of 3 updates")
    assert ("every update is 0" in line.message) == (name == "sign_mixture")


@pytest.mark.parametrize("change", [lambda f: f, jax.vmap, jax.grad, jax.checkpoint])
def test_a_state_that_resumes_past_the_horizon_is_noticed(caplog, monkeypatch, change):
    monkeypatch.setattr(notice, "_LOGGED", set())
    text = "optimizer\ninputs g, t_p\nreturn g * (1 - t_p)"
    tx = discovered.scale_by_expression(text, Horizon(3), warn_past_horizon=True)

    def run(x):
        state = tx.init(x)._replace(count=jnp.int32(1000))

        def step(state, _):
            updates, state = tx.update(x, state, x)
            return state, updates.sum()

        return jax.lax.scan(step, state, length=70)[1].sum()

    start = jnp.ones(2) if change is jax.vmap else jnp.ones(())
    jax.block_until_ready(jax.jit(change(run))(start))
    jax.effects_barrier()
    assert len(caplog.records) == 1


def test_an_error_filter_from_the_command_line():
    """Python reads -W before it finds site-packages; a path works at any time."""
    code = (
        "import learned_opt_rl as l\n"
        "l.pretrained('sign_mixture', horizon=l.Horizon(100))\n"
        "print('built')\n"
        "l.pretrained('sign_mixture')"
    )
    run = subprocess.run(
        [sys.executable, "-W", "error::learned_opt_rl.HorizonWarning", "-c", code],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
    )
    assert "Invalid -W" not in run.stderr
    assert run.stdout == "built\n", run.stderr
    assert run.returncode != 0 and "HorizonWarning" in run.stderr


def test_a_filter_by_category():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", learned_opt_rl.HorizonWarning)
        learned_opt_rl.pretrained("sign_mixture")
