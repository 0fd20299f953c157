"""Fitness by agents that are trained, on one device and on two."""

import io
import os
import socket
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from learned_opt_rl import envs
from learned_opt_rl.agents import ppo
from learned_opt_rl.rules import open_rl
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.cluster import ClusterError, connected
from learned_opt_rl.training.evolution import (
    PRESETS,
    Campaign,
    EvolutionConfig,
    Execution,
    preset,
)
from learned_opt_rl.training.evolution.fitness import (
    Evaluator,
    check_execution,
    fitness,
    member_keys,
)
from learned_opt_rl.training.evolution.folder import read_campaign
from learned_opt_rl.training.evolution.strategy import generation_key
from learned_opt_rl.training.run_folder import BEST, LOG
from tests.clusters import workers
from tests.conftest import quickly_compiled

AGENT = {"num_envs": 4, "num_steps": 16, "minibatches": 2, "epochs": 1, "hidden": (4,)}
CONFIG = EvolutionConfig(
    "open",
    {"carry": None, "width": 4},
    ("CartPole-v1",),
    ((0, 512),),
    agent=AGENT,
    start="random",
    population=4,
    sigma=30.0,  # so large that updates of 0.001 change what agents do in 8 rollouts
    rollouts=2,
    validate_every=2,
    validation_seeds=3,
    generations=3,
)
STEPS = 512
_LPG = sorted(name for name in PRESETS if preset(name).algorithm == "lpg")
_PPO = sorted(set(PRESETS) - {"open-ant", *_LPG})


def on_one_and_two_devices(tmp_path_factory):
    """The same campaign on one device and on two, and where each ended."""
    made = {}
    for devices in (1, 2):
        folder = tmp_path_factory.mktemp(f"devices{devices}")
        campaign = Campaign(CONFIG, folder, Execution(devices), io.StringIO())
        made[devices] = campaign, campaign.run()
    return made


@pytest.fixture(scope="module")
def campaigns(tmp_path_factory):
    with quickly_compiled():
        yield on_one_and_two_devices(tmp_path_factory)


def check_same(campaigns):
    """Identical fitness and identical weights after 3 generations."""
    one, two = (
        [row.get("fitness") for row in jsonl.read(campaigns[n][0].path / LOG)]
        for n in (1, 2)
    )
    assert len(one) == 4
    assert len(set(one[1])) > 1
    assert one == two
    check_same_states(*(campaigns[n][1] for n in (1, 2)))


def check_same_states(*states):
    for first, second in zip(*map(jax.tree.leaves, states), strict=True):
        if jnp.issubdtype(first.dtype, jax.dtypes.prng_key):
            first, second = map(jax.random.key_data, (first, second))
        np.testing.assert_array_equal(first, second)


@pytest.mark.exact
def test_devices_change_nothing(campaigns):
    check_same(campaigns)


def test_workers_of_a_cluster_change_nothing(campaigns, tmp_path):
    with workers() as address, connected(address) as cluster:
        execution = Execution(cluster=cluster)
        campaign = Campaign(CONFIG, tmp_path, execution, io.StringIO())
        assert campaign.estimate().seconds is None
        check_same({1: campaigns[1], 2: (campaign, campaign.run())})


def test_a_task_that_raises_ends_the_campaign(tmp_path, monkeypatch):
    def raises(*_):
        raise MemoryError("too much")

    name = "learned_opt_rl.training.evolution.fitness._evaluator"
    monkeypatch.setattr(name, raises)
    with workers() as address, connected(address) as cluster:
        campaign = Campaign(CONFIG, tmp_path, Execution(cluster=cluster), io.StringIO())
        with pytest.raises(ClusterError, match="MemoryError: too much"):
            campaign.run()


def test_a_cluster_has_no_devices(tmp_path):
    with workers(1) as address, connected(address) as cluster:
        execution = Execution(2, cluster=cluster)
        with pytest.raises(ValueError, match="devices=2 and 1 process.* with a cl"):
            Campaign(CONFIG, tmp_path, execution).run()


@pytest.mark.slow
def test_devices_change_nothing_when_programs_are_optimized(tmp_path_factory):
    check_same(on_one_and_two_devices(tmp_path_factory))


def test_fitness_is_that_of_agents_trained_one_by_one(campaigns):
    campaign, _ = campaigns[2]
    state = campaign._first().search
    population = CONFIG.es.ask(state)
    config = CONFIG.runs(STEPS)["CartPole-v1"]
    env = envs.make("CartPole-v1")
    generation = generation_key(state, "tasks")

    @jax.jit
    def train(vector, key):
        rule_key, train_key = jax.random.split(jax.random.fold_in(key, 0))
        weights = CONFIG.learned.unravel(vector)
        optimizer = open_rl.optimizer(weights, config.horizon(), key=rule_key)
        return ppo.make_train(config, env, optimizer)(train_key).final_return

    keys = jax.random.split(jax.random.fold_in(generation, 0), CONFIG.rollouts)
    alone = [[train(member, key) for key in keys] for member in population]
    (row,) = jsonl.read(campaign.path / LOG)[1:2]
    expected = np.mean(alone, axis=1)
    # Two programs may differ in a last digit, and an agent may amplify it.
    np.testing.assert_allclose(row["fitness"], expected, rtol=0.1)
    assert np.mean(row["fitness"] == expected) >= 0.5


def test_runs_that_fill_up_the_slots_do_not_count(campaigns):
    """3 runs, of slots for 8 on two devices; in another order they return the same."""
    evaluator: Evaluator = campaigns[2][0]._evaluator_of(STEPS, CONFIG.environments)
    state = campaigns[2][1].search
    vectors = CONFIG.es.ask(state)[:3]
    keys = jax.random.split(jax.random.key(5), 3)
    found = np.asarray(evaluator.returns(vectors, keys))
    assert found.shape == (3, 1)
    order = jnp.array([2, 0, 1])
    again = np.asarray(evaluator.returns(vectors[order], keys[order]))
    np.testing.assert_array_equal(again, found[order])
    assert len(set(found.ravel())) > 1


@pytest.mark.slow
def test_side_by_side_runs_equal_runs_one_after_the_other(campaigns, quick_compilation):
    state = campaigns[1][1].search
    vectors = jnp.repeat(CONFIG.es.ask(state), 2, axis=0)
    keys = member_keys(CONFIG, state).reshape(-1)
    blocks = Evaluator(CONFIG, STEPS, block=4)
    one = campaigns[1][0]._evaluator_of(STEPS, CONFIG.environments)
    found, expected = (np.asarray(e.returns(vectors, keys)) for e in (blocks, one))
    # A batched product may round otherwise, and then an episode may end otherwise.
    assert np.isclose(found, expected).mean() >= 0.75


def test_an_agent_that_is_not_finite_has_no_fitness(campaigns):
    evaluator = campaigns[1][0]._evaluator_of(STEPS, CONFIG.environments)
    vectors = jnp.zeros((2, CONFIG.learned.size)).at[1, -1].set(jnp.inf)
    found = evaluator.returns(vectors, jax.random.split(jax.random.key(0)))
    assert np.isfinite(found).ravel().tolist() == [True, False]


def test_members_share_seeds_and_generations_do_not():
    state = CONFIG.es.init(jnp.zeros(3), jax.random.key(0))
    keys = jax.random.key_data(member_keys(CONFIG, state))
    assert keys.shape == (4, 2, 2)
    np.testing.assert_array_equal(keys, np.broadcast_to(keys[:1], keys.shape))
    assert (keys[0, 0] != keys[0, 1]).any()
    later = state._replace(generation=state.generation + 1)
    assert (jax.random.key_data(member_keys(CONFIG, later)) != keys).any()


def test_with_pairs_only_the_two_members_of_a_pair_share_a_level():
    config = preset("open-gridworld", population=6, rollouts=1)
    state = config.es.init(jnp.zeros(3), jax.random.key(0))
    keys = member_keys(config, state)[:, 0]
    env = envs.make("gridworld/all")
    draw = jax.jit(jax.vmap(lambda key: env.reset_many(key, 1)[1].env.level))
    levels = draw(keys)
    flat = np.concatenate(
        [np.asarray(leaf).reshape(6, -1) for leaf in jax.tree.leaves(levels)], axis=1
    )
    np.testing.assert_array_equal(flat[:3], flat[3:])
    assert len({row.tobytes() for row in flat}) == 3


def test_fitness_is_the_mean_of_normalized_returns():
    config = preset("open-minatar", rollouts=2)
    returns = np.ones((3, 2, 4), np.float32) * [15.0353, 50.0822, 61.8369, 167.0913]
    returns[1] *= 3
    returns[2, 1, 3] = np.nan
    found = fitness(returns, config)
    np.testing.assert_allclose(found[:2], [1, 3], rtol=1e-6)
    assert np.isnan(found[2])


@pytest.mark.parametrize(
    ("devices", "block", "message"),
    [
        (3, None, "devices=3 does not divide the population of 4; choose a divisor"),
        (0, None, "devices=0 does not divide"),
        (4, None, "devices=4, but there are 2"),
        (2, 3, "block=3 does not divide the 4 runs of a generation on each device"),
        (1, 0, "block=0 does not divide the 8 runs"),
    ],
)
def test_devices_and_blocks_that_do_not_fit_are_refused(
    tmp_path, devices, block, message
):
    folder = tmp_path / "new"
    with pytest.raises(ValueError, match=message):
        Campaign(CONFIG, folder, Execution(devices, block)).run()
    assert not folder.exists()


def test_blocks_of_one_on_a_cpu_and_as_many_as_fit_elsewhere(monkeypatch):
    config = preset("open-breakout", population=24, rollouts=4)
    assert check_execution(config, 2, None) == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert check_execution(config, 2, None) == 48
    assert check_execution(config, 1, None) == 48
    assert check_execution(config, 1, 96) == 96


@pytest.mark.slow
@pytest.mark.parametrize("name", _PPO)
def test_a_generation_of_every_preset(name, tmp_path, quick_compilation):
    """Two members, of so few rollouts that an episode ends in every environment."""
    agent = {"num_envs": 2, "num_steps": 128, "minibatches": 2, "hidden": (8,)}
    config = preset(
        name,
        agent=agent,
        horizons=((0, 5632),),
        population=2,
        validation_seeds=1,
        generations=1,
    )
    standing = Campaign(config, tmp_path, stream=io.StringIO()).run()
    row = jsonl.read(tmp_path / LOG)[1]
    assert row["failed"] == 0
    assert [*row["returns"]] == [*config.environments]
    assert np.isfinite(standing.search.mean).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", _LPG)
def test_a_generation_of_every_preset_of_lpg(name, tmp_path, quick_compilation):
    config = preset(
        name,
        agent={"workers": 2},
        horizons=((0, 80),),
        horizon_unit="steps",
        population=2,
        validation_seeds=1,
        generations=1,
    )
    Campaign(config, tmp_path, stream=io.StringIO()).run()
    assert jsonl.read(tmp_path / LOG)[1]["failed"] == 0


def _free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_two_processes_change_nothing(tmp_path):
    """Two on loopback, of one device each, as the command line starts them."""
    settings = [
        *("environments=CartPole-v1", "horizons=512", "start=random", "population=4"),
        *("sigma=30", "rollouts=2", "validate_every=2", "validation_seeds=3"),
        *("agent.num_envs=4", "agent.num_steps=16", "agent.minibatches=2"),
        *("agent.epochs=1", "agent.hidden=4", "architecture.width=4"),
    ]
    command = [
        *(sys.executable, "-m", "learned_opt_rl", "train", "es"),
        *("--preset", "open-breakout", "--generations", "3", "--set", *settings),
    ]
    folder, alone = tmp_path / "several", tmp_path / "alone"
    environment = {k: v for k, v in os.environ.items() if k != "XLA_FLAGS"}
    subprocess.run([*command, "--out", str(alone)], env=environment, check=True)
    command += ["--coordinator", f"127.0.0.1:{_free_port()}", "--processes", "2"]
    command += ["--out", str(folder), "--process"]
    processes = [
        subprocess.Popen([*command, str(index)], env=environment) for index in range(2)
    ]
    try:
        assert [process.wait(timeout=600) for process in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
    fitness = [
        [row.get("fitness") for row in jsonl.read(path / LOG)]
        for path in (folder, alone)
    ]
    assert len(set(fitness[1][1])) > 1
    assert fitness[0] == fitness[1]
    assert (folder / BEST).read_bytes() == (alone / BEST).read_bytes()
    found, expected = (
        Campaign(read_campaign(path), path, stream=io.StringIO()).run().search.mean
        for path in (folder, alone)
    )
    np.testing.assert_array_equal(found, expected)
