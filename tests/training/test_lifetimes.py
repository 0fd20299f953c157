"""Whole lifetimes of LPG agents, and the evolution of LPG over them."""

import dataclasses
import io
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl.agents.lpg import agent_update
from learned_opt_rl.rules import lpg
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.training.evolution import (
    Campaign,
    EvolutionConfig,
    Execution,
    preset,
)
from learned_opt_rl.training.evolution.fitness import make_run, member_keys, tasks
from learned_opt_rl.training.learned import Learned
from learned_opt_rl.training.lifetimes import (
    LifeConfig,
    advance,
    agent_run,
    begin,
    live,
)
from learned_opt_rl.training.meta_gradients import pool
from learned_opt_rl.training.run_folder import LOG

SIZES = {"width": 4, "embedding": 3, "target_width": 3}
AGENT = {"workers": 3, "rollout": 4}
CAMPAIGN = EvolutionConfig(
    "lpg",
    SIZES,
    ("chain/short",),
    ((0, 36),),
    agent=AGENT,
    start="random",
    population=4,
    sigma=0.5,
    shaping="pairs",
    validate_every=2,
    validation_seeds=2,
    generations=3,
)


def life(name="chain/short", steps: int | None = 36, **sizes):
    config = agent_run(Learned("lpg", SIZES | sizes), name, steps, AGENT)
    assert isinstance(config, LifeConfig)
    return config


def rule_of(config, seed=0):
    architecture = config.rule_architecture
    return lpg.update_rule(lpg.init(jax.random.key(seed), architecture), architecture)


@pytest.mark.parametrize(
    "inputs", ["none", pytest.param("relative", marks=pytest.mark.slow)]
)
def test_a_life_is_its_updates_one_by_one(inputs, getkey, quick_compilation):
    config, key = life(lifetime_inputs=inputs), getkey()
    assert (config.num_updates, config.batch_size) == (3, 12)
    rule = rule_of(config)
    first = jax.jit(lambda key: begin(config, key))(key)
    play = jax.jit(pool.player(config, config.task))
    rates = {"actor": optax.sgd(40.0), "predictor": optax.sgd(4.0)}
    optimizer = optax.multi_transform({**rates}, {name: name for name in rates})
    acting = pool.agent_config(config, config.task, first.hyper)

    @jax.jit
    def update(agent, rollout):
        return agent_update(acting, rule, optimizer, agent, rollout, lifetime=3)[0]

    agent, world = first.life.agent, first.life.world
    for _ in range(3):
        world, rollout = play(agent.params, world)
        agent = update(agent, rollout)
    params, returned = jax.jit(lambda rule, key: live(config, rule, key))(rule, key)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6),
        params,
        agent.params,
    )
    # A new episode of each worker follows, which pays +1 or -1 at its end.
    world = first.life.world._replace(key=world.key)
    length = int(world.env_state.env.length[0])
    rewards = []
    for _ in range(-(-length // 4)):
        world, rollout = play(agent.params, world)
        rewards.append(np.asarray(rollout.reward))
    ends = np.concatenate(rewards, axis=1)[:, length - 1]
    assert set(np.abs(ends)) == {1}
    assert float(returned) == pytest.approx(ends.mean())


def test_a_mode_draws_the_life_of_each_agent(getkey, quick_compilation):
    config = life("gridworld/all_vrandlife", steps=None)
    assert config.num_updates == 250
    assert config.num_rollouts == 250 + -(-config.task.longest_episode // 4)
    lifetimes = jax.jit(jax.vmap(lambda key: begin(config, key).life.lifetime))
    drawn = set(lifetimes(jax.random.split(getkey(), 4)).tolist())
    assert len(drawn) > 1 and drawn <= set(range(10, 251))


def test_an_agent_stops_learning_at_the_end_of_its_life(getkey, quick_compilation):
    config = life(steps=12)
    rule = rule_of(config)
    step = jax.jit(lambda lifetime: advance(config, rule, lifetime)[0])
    one = step(jax.jit(lambda key: begin(config, key))(getkey()))
    two = step(one)
    assert one.life.agent.step == two.life.agent.step == 1
    agents = (one.life.agent.params, two.life.agent.params)
    jax.tree.map(np.testing.assert_array_equal, *agents)


def test_both_members_of_a_pair_have_one_level_agent_and_workers():
    config: Any = CAMPAIGN.runs(36)["chain/short"]
    keys = member_keys(CAMPAIGN, CAMPAIGN.es.init(jnp.zeros(3), jax.random.key(0)))
    firsts = jax.jit(jax.vmap(lambda key: begin(config, key)))(keys[:, 0])
    state = firsts.life.world.env_state.env
    seen = [
        *jax.tree.leaves(firsts.life.agent.params),
        state.length,
        state.first_is_good,
    ]
    for array in map(np.asarray, seen):
        np.testing.assert_array_equal(array[:2], array[2:])
    assert (seen[0][0] != seen[0][1]).any()


def test_an_agent_that_is_not_finite_has_no_fitness(quick_compilation):
    run = jax.jit(make_run(CAMPAIGN.learned, tasks(CAMPAIGN.runs(36))))
    whole = CAMPAIGN.learned.start("random", jax.random.key(0))
    found = [run(vector, jax.random.key(0)) for vector in (whole, whole * jnp.nan)]
    assert np.isfinite(found).ravel().tolist() == [True, False]


def _run(folder, devices=1, **changes):
    config = dataclasses.replace(CAMPAIGN, **changes)
    standing = Campaign(config, folder, Execution(devices), io.StringIO()).run()
    rows = [row.get("fitness") for row in jsonl.read(folder / LOG)]
    return np.asarray(standing.search.mean), rows


@pytest.mark.slow
def test_a_campaign_resumes_and_two_devices_change_nothing(tmp_path, quick_compilation):
    mean, rows = _run(tmp_path / "one")
    assert len({value for row in rows[1:] for value in row or ()}) > 1
    _run(tmp_path / "parts", generations=1)
    for other in (_run(tmp_path / "parts"), _run(tmp_path / "two", devices=2)):
        np.testing.assert_array_equal(other[0], mean)
        assert other[1] == rows


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_evolution_finds_a_rule_whose_agents_learn(tmp_path):
    """Agents of its first weights return 0 on average, of an optimal return of 1."""
    config = preset(
        "lpg-es-cpu",
        environments=("chain/short",),
        horizon_unit="steps",
        horizons=((0, 16_000),),
        agent={"workers": 8},
        validation_seeds=64,
        validate_every=20,
        generations=20,
    )
    Campaign(config, tmp_path, Execution(block=16), io.StringIO()).run()
    first, last = (row["validation"] for row in jsonl.read(tmp_path / LOG)[::20])
    assert last > first + 0.2
