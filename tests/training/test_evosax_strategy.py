"""evosax's strategies behind our interface; all but the refusals need evosax."""

import dataclasses
import io
import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.training.evolution import Campaign, campaign, progress, strategy
from learned_opt_rl.training.evolution import folder as folders
from learned_opt_rl.training.evolution.strategy import (
    STRATEGIES,
    EvosaxStrategy,
    is_finite,
)
from tests.training.test_evolution_campaign import CONFIG, Cheap, plain

TARGET = np.linspace(-1, 1, 6)


def quadratic(population):
    return -((np.asarray(population) - TARGET) ** 2).sum(1)


def search(strategy, generations, judge=quadratic):
    state = strategy.init(jnp.zeros(6, jnp.bfloat16), jax.random.key(3))
    for _ in range(generations):
        fitness = jnp.asarray(judge(strategy.ask(state)), jnp.float32)
        state = strategy.tell(state, fitness)
    return state


@pytest.mark.parametrize(
    "name",
    [
        name if name == "snes" else pytest.param(name, marks=pytest.mark.slow)
        for name in STRATEGIES
    ],
)
def test_climbs_from_sigma_even_if_members_fail(name, quick_compilation):
    pytest.importorskip("evosax")
    strategy = EvosaxStrategy(name, population=12, sigma=0.3)

    def judge(population):
        fitness = quadratic(population)
        fitness[np.argmin(fitness)] = np.nan
        return fitness

    first = strategy.ask(search(strategy, 0))
    assert np.std(first) == pytest.approx(0.3, rel=0.3)
    state = search(strategy, 60, judge)
    assert (state.mean.dtype, int(state.generation)) == (jnp.float32, 60)
    assert quadratic(state.mean[None])[0] > 0.1 * quadratic(np.zeros((1, 6)))[0]
    np.testing.assert_array_equal(strategy.ask(state), strategy.ask(state))
    later = state._replace(generation=state.generation + 1)
    assert not np.isclose(strategy.ask(state), strategy.ask(later)).all()
    state = strategy.tell(state, jnp.full(12, jnp.nan))
    assert np.isfinite(state.mean).all() and np.isfinite(strategy.ask(state)).all()


@pytest.mark.slow
def test_is_evosaxs_own_loop_on_the_negative(quick_compilation):
    algorithms = pytest.importorskip("evosax.algorithms")
    found = search(EvosaxStrategy("snes", population=8, sigma=0.3), 8)
    theirs = algorithms.SNES(8, jnp.zeros(6))
    with jax.numpy_rank_promotion("allow"):
        params = theirs.default_params.replace(std_init=0.3)
        inner = theirs.init(jax.random.key(9), jnp.zeros(6), params)
        for generation in range(8):
            key = jax.random.fold_in(jax.random.fold_in(found.key, generation), 0)
            population, inner = theirs.ask(key, inner, params)
            cost = -jnp.asarray(quadratic(population), jnp.float32)
            inner, _ = theirs.tell(key, population, cost, inner, params)
    assert np.abs(found.mean).max() > 0.1
    np.testing.assert_allclose(found.mean, theirs.get_mean(inner), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["snes", "cma_es"])
def test_a_campaign_resumes_bit_identically(
    tmp_path, monkeypatch, name, quick_compilation
):
    pytest.importorskip("evosax")
    monkeypatch.setattr(campaign, "Evaluator", Cheap)
    monkeypatch.setattr(progress, "draw_curve", lambda *_: None)
    config = dataclasses.replace(CONFIG, strategy=name, population=8, generations=5)

    def run(path, generations):
        changed = dataclasses.replace(config, generations=generations)
        return Campaign(changed, path, stream=io.StringIO()).run()

    whole = run(tmp_path / "whole", 5)
    run(tmp_path / "broken", 2)
    strategy._algorithm.cache_clear()
    assert plain(run(tmp_path / "broken", 5)) == plain(whole)
    fitness = [
        [row.get("fitness") for row in jsonl.read(tmp_path / path / folders.LOG)]
        for path in ("whole", "broken")
    ]
    assert fitness[0] == fitness[1]
    assert folders.read_campaign(tmp_path / "whole") == config


@pytest.mark.parametrize(
    ("name", "population", "least"), [("lm_ma_es", 12, 6), ("cr_fm_nes", 12, 5)]
)
def test_strategies_are_refused_below_the_size_where_they_work(name, population, least):
    strategy = EvosaxStrategy(name, population, 0.1)
    with pytest.raises(
        ValueError, match=f"on {least - 1} weights: .* least {least}. U"
    ):
        strategy.init(jnp.zeros(least - 1), jax.random.key(0))
    state = strategy.init(jnp.zeros(least), jax.random.key(0))
    for _ in range(5):
        fitness = -jnp.square(strategy.ask(state) - 1.0).sum(1)
        state = strategy.tell(state, fitness)
    assert is_finite(state)
    lost = state._replace(mean=state.mean.at[0].set(jnp.nan))
    assert not is_finite(lost)
    step = dataclasses.replace(state.optimizer, std=jnp.float32(jnp.inf))
    assert not is_finite(state._replace(optimizer=step))


def test_another_strategy_is_another_campaign(tmp_path):
    other = dataclasses.replace(CONFIG, strategy="snes")
    (tmp_path / "config.json").write_text(
        json.dumps({"kind": "evolution", "config": CONFIG.as_json()})
    )
    with pytest.raises(ValueError, match=r"\(strategy openai_es -> snes\); give"):
        folders.check_same(tmp_path, other)


def test_without_evosax_nothing_is_written(tmp_path, monkeypatch):
    strategy._algorithm.cache_clear()
    monkeypatch.setitem(sys.modules, "evosax", None)
    config = dataclasses.replace(CONFIG, strategy="cma_es")
    with pytest.raises(MissingExtraError, match=r"'cma_es' is evosax's.*rl\[train\]"):
        Campaign(config, tmp_path / "new", stream=io.StringIO()).run()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"strategy": "cmaes"}, "strategy='cmaes' must be one of openai_es, cma_es"),
        ({"strategy": "snes", "population": 2}, "population=2 must be even, at least"),
        (
            {"strategy": "lm_ma_es", "population": 2000},
            "population=2000 becomes NaN on .* weights: it needs at least 1000. Use",
        ),
        ({"strategy": "snes", "sigma": 0.0}, "sigma=0.0 must be a number > 0"),
        ({"strategy": "snes", "shaping": "pairs"}, "shaping='pairs' needs the antit"),
    ],
)
def test_refusals(changes, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(CONFIG, **changes)
