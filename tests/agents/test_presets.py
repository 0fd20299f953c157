import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from learned_opt_rl import agents, envs
from learned_opt_rl.agents import (
    LPGConfig,
    PPOConfig,
    lpg_arms,
    lpg_optimizer,
    preset,
    presets,
)
from learned_opt_rl.agents.lpg import init_params


def ppo(environment, **options):
    config = preset(environment, **options)
    network = config.hidden, config.activation
    sizes = config.num_envs, config.num_steps, config.minibatches, config.epochs
    return (*sizes, config.total_timesteps, config.ent_coef, *network)


def test_the_columns_of_ppo_are_the_published_ones():
    relu, tanh = ((64, 64), "relu"), ((64, 64), "tanh")
    minatar = (64, 128, 8, 4, 10**7, 0.01, *relu)
    brax = (2048, 10, 32, 4, 3 * 10**7, 0.0, *tanh)
    assert ppo("Breakout-MinAtar") == ppo("Asterix-MinAtar") == minatar
    for name in ("ant", "humanoid", "hopper", "walker2d", "ant/spring"):
        assert ppo(name) == brax
        assert preset(name).normalize_observations and preset(name).normalize_rewards
    assert ppo("ant", column="brax_open") == (*brax[:4], 5 * 10**7, *brax[5:])
    assert ppo("CartPole-v1") == (4, 128, 4, 4, 500_000, 0.01, *tanh)
    craftax = "Craftax-Classic-Symbolic-v1"
    assert ppo(craftax) == (1024, 20, 16, 2, 3 * 10**7, 0.01, *tanh)
    # The paper on symbolic and black-box optimizers uses ReLU in all three suites.
    assert ppo(craftax, column="craftax_symbolic") == (
        *(256, 16, 8, 4, 10**7, 0.01),
        *relu,
    )
    assert ppo("CartPole-v1", column="cartpole_symbolic") == (
        *(4, 128, 4, 4, 500_000, 0.01),
        *relu,
    )
    assert preset("CartPole-v1", column="cartpole_symbolic").gae_lambda == 0.95
    assert preset(craftax, column="craftax_symbolic").gae_lambda == 0.8
    gridworld = (1024, 20, 16, 2, 3 * 10**7, 0.01, (16, 16), "tanh")
    assert ppo("gridworld/all_shortlife") == gridworld
    for name in ("Breakout-MinAtar", "ant", "CartPole-v1", craftax):
        config = preset(name)
        assert (config.gamma, config.gae_lambda) == (0.99, 0.95)
        assert (config.clip_eps, config.vf_coef, config.max_grad_norm) == (
            0.2,
            0.5,
            0.5,
        )


def test_settings_that_ran_before_are_the_same():
    ends = {"truncation": "terminate"}
    cartpole = PPOConfig(5e5, num_envs=4, minibatches=4, activation="tanh", **ends)
    assert preset("CartPole-v1") == cartpole
    assert preset("Breakout-MinAtar", 5e5) == PPOConfig(5e5, **ends)
    assert preset("unheard-of") == PPOConfig()
    assert not preset("Breakout-MinAtar").normalize_rewards


@pytest.mark.parametrize("agent", ["ppo", "a2c"])
def test_published_settings_end_where_a_time_limit_cuts(agent):
    published = [*envs.suite("minatar5"), *envs.suite("brax"), "CartPole-v1"]
    for name in [*published, *envs.suite("deepsea"), "gridworld/dense", "ant/spring"]:
        assert preset(name, agent=agent).truncation == "terminate", name
    assert preset("ant", agent=agent, column="minatar").truncation == "terminate"
    assert preset("unheard-of", agent=agent).truncation == "bootstrap"
    assert preset("ant", agent=agent, truncation="bootstrap").truncation == "bootstrap"
    assert preset("unheard-of", agent="lpg").truncation == "terminate"
    with pytest.raises(
        ValueError, match="truncation='bootstrap' must be \"terminate\""
    ):
        preset("unheard-of", agent="lpg", truncation="bootstrap")


def test_lpg_agents():
    def lpg(environment, **options):
        config = preset(environment, agent="lpg", **options)
        return config.hidden, config.max_grad_norm, config.num_updates

    assert lpg("gridworld/all_shortlife") == ((), 0.5, 250)
    assert lpg("gridworld/all") == ((), 0.5, 1000)
    assert lpg("gridworld/dense") == ((), 0.5, 2500)
    assert lpg("gridworld/rand_dense") == ((32,), None, 25_000)
    assert lpg("gridworld/rand_tiny") == ((32, 32, 32), None, 250)
    assert lpg("CartPole-v1") == ((64, 64), None, 1000)
    assert lpg("DeepSea-bsuite/10") == ((64, 64), None, 100)
    assert lpg("chain/short") == ((), None, 781)
    assert lpg("chain/distractor") == ((16,), None, 1562)
    assert lpg("Breakout-MinAtar", column="groove_minatar")[2] == 100_000
    assert lpg("gridworld/all", column="study_gridworld") == ((32,), 0.5, 2343)
    assert lpg("gridworld/all_vrandlife") == ((), 0.5, 250)
    minatar = preset("Breakout-MinAtar", agent="lpg")
    assert (minatar.conv, minatar.input_divisor) == (((32, 4, 1), (32, 4, 1)), 255)
    assert isinstance(preset("unheard-of", agent="lpg"), LPGConfig)


TABULAR = ((), (), "sgd", (20, 40, 80))
RANDOM = "adam", (5e-4, 1e-3, 2e-3, 5e-3)
OH = {
    "gridworld/paper_dense": (*TABULAR, 2343),
    "gridworld/paper_sparse": (*TABULAR, 2343),
    "gridworld/paper_long": (*TABULAR, 2343),
    "gridworld/paper_longer": (*TABULAR, 2343),
    "gridworld/paper_long_dense": (*TABULAR, 2343),
    "gridworld/paper_rand_dense": ((16,), (32,), *RANDOM, 23437),
    "gridworld/paper_rand_long": ((16,), (32,), *RANDOM, 23437),
    "gridworld/paper_rand_small": ((), (32,), *RANDOM, 23437),
    "gridworld/paper_rand_sparse": ((), (32,), *RANDOM, 23437),
    "gridworld/paper_rand_very_dense": ((32, 16, 16), (256,), *RANDOM, 23437),
    "chain/short": (*TABULAR, 781),
    "chain/short_noisy": (*TABULAR, 781),
    "chain/long": (*TABULAR, 781),
    "chain/long_noisy": (*TABULAR, 781),
    "chain/distractor": ((), (16,), "adam", (2e-3, 5e-3, 1e-2), 1562),
}


def test_the_agents_of_oh_et_al():
    assert tuple(OH) == envs.suite("lpg")
    for name, (filters, hidden, optimizer, rates, updates) in OH.items():
        config, arms = preset(name, agent="lpg"), lpg_arms(name)
        assert tuple(layer[0] for layer in config.conv) == filters, name
        assert (config.hidden, config.num_updates) == (hidden, updates), name
        assert (config.max_grad_norm, config.alpha_y) == (None, 0.5), name
        assert arms == (rates, (0.1, 0.5, 1.0)), name
        published = presets._settings(name, "lpg", None)["optimizer"]
        assert published["name"] == optimizer, name
        assert published["actor"] == published["predictor"], name
        assert published["actor"] in rates[1:-1], name


def test_arms_of_agents_without_a_choice():
    assert lpg_arms("gridworld/all_vrandlife") == ((40,), (0.5,))
    assert lpg_arms("CartPole-v1") == ((5e-4,), (0.5,))
    assert lpg_arms("CartPole-v1", column="paper_distractor").learning_rates[0] == 2e-3


def test_a_lifetime_is_in_updates_of_the_configuration():
    small = preset("gridworld/all", agent="lpg", num_envs=2, num_steps=5)
    assert (small.total_timesteps, small.num_updates) == (10_000, 1000)
    assert preset("gridworld/all", 12_800, "lpg").num_updates == 10


def test_modes_without_a_lifetime():
    for name, near in [("gridworld/densee", "dense"), ("chain/shor", "short")]:
        mode = name.partition("/")[2]
        match = f"'{name}' has no lifetime: name='{mode}' is unknown; did you mean "
        with pytest.raises(ValueError, match=f"{match}'{near}.*; give total_timesteps"):
            preset(name, agent="lpg")
    assert preset("gridworld/mine", 12_800, "lpg").num_updates == 10


def moves(optimizer, params):
    """The sizes of an agent's two steps, for gradients of ones."""
    state, ones = optimizer.init(params), jax.tree.map(jnp.ones_like, params)
    sizes = []
    for _ in range(2):
        updates, state = optimizer.update(ones, state, params)
        sizes.append([-float(updates[k]["w"]) for k in ("actor", "predictor")])
    return np.array(sizes)


def test_the_optimizers_of_lpg_agents():
    params = {k: {"w": jnp.float32(0)} for k in ("actor", "predictor")}
    tabular = moves(lpg_optimizer("gridworld/all", 10), params)
    np.testing.assert_allclose(tabular, [[40, 4], [40, 4]])
    paper = moves(lpg_optimizer("gridworld/paper_dense", 10), params)
    np.testing.assert_allclose(paper, [[40, 40], [40, 40]])
    adam = moves(lpg_optimizer("gridworld/rand_dense", 10), params)
    np.testing.assert_allclose(adam, 1e-3, rtol=1e-4)
    annealed = moves(lpg_optimizer("Breakout-MinAtar", 2), params)
    np.testing.assert_allclose(annealed, [[5e-4] * 2, [2.5e-4] * 2], rtol=1e-4)


def test_annealing_takes_a_traced_number_of_updates():
    def second(updates):
        optimizer = agents.lpg_optimizers("Breakout-MinAtar", updates)["actor"]
        state = optimizer.init(jnp.float32(0))
        for _ in range(2):
            step, state = optimizer.update(jnp.float32(1), state)
        return step

    np.testing.assert_allclose(jax.jit(second)(jnp.int32(4)), -0.75 * 5e-4, rtol=1e-4)


def test_annealing_ends_at_zero():
    def after(count):
        optimizer = agents.lpg_optimizers("Breakout-MinAtar", 250)["actor"]
        state = optimizer.init(jnp.float32(0))
        state = optax.tree.set(state, count=count)
        return optimizer.update(jnp.float32(1), state)[0]

    found = jax.jit(jax.vmap(after))(jnp.int32([249, 250, 251]))
    assert found[0] < 0 and found[1] == 0 == found[2]


MODE_OF = {
    "chain/": "long",
    "gridworld/": "dense",
    "gridworld/paper_": "dense",
    "gridworld/paper_rand_": "small",
    "gridworld/rand_": "dense",
}
"""A mode of each family, which takes the family's column."""


def test_every_column_is_a_valid_configuration_and_every_entry_names_one():
    for agent, table in presets._tables().items():
        for column in table["columns"]:
            assert preset("x", agent=agent, column=column)
            if agent == "lpg":
                assert lpg_optimizer("x", 10, column=column)
        for name in [*table["environments"], *table["families"]]:
            assert preset(name + MODE_OF.get(name, ""), agent=agent)


@pytest.mark.parametrize("agent", presets.CONFIGS)
def test_every_entry_is_of_an_environment_there_is(agent):
    table, names = presets._tables()[agent], envs.names()
    assert set(table["environments"]) <= set(names)
    for family in table["families"]:
        assert any(name.startswith(family) for name in names), family


@pytest.mark.parametrize("mode", ["dense", "long", "small", "sparse", "very_dense"])
def test_agents_fit_the_images_of_grid_worlds(mode):
    name = f"gridworld/paper_rand_{mode}"
    config = preset(name, agent="lpg")
    params = jax.eval_shape(
        lambda key: init_params(key, config, envs.make(name), 8), jax.random.key(0)
    )
    layers = len(config.conv) + len(config.hidden) + 1
    assert len(params["actor"]) == len(params["predictor"]) == layers


def test_the_conv_agent_fits_minatar():
    config = preset("Breakout-MinAtar", agent="lpg")
    params = jax.eval_shape(
        lambda key: init_params(key, config, envs.make("Breakout-MinAtar"), 8),
        jax.random.key(0),
    )
    shapes = {name: layer["kernel"].shape for name, layer in params["actor"].items()}
    assert shapes == {
        "Conv_0": (4, 4, 4, 32),
        "Conv_1": (4, 4, 32, 32),
        "Dense_0": (512, 64),
        "Dense_1": (64, 3),
    }


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"agent": "dqn"}, "agent='dqn' must be one of ppo, a2c, lpg"),
        (
            {"column": "atari"},
            "column='atari' is not a column of agent 'ppo'; did you",
        ),
        (
            {"minibatch": 4},
            "minibatch=4 is not a field of PPOConfig; did you mean .minibatches",
        ),
        ({"optimizer": "adam"}, "optimizer='adam' is not a field of PPOConfig"),
        ({"total_timesteps": 10}, "total_timesteps=10 is less than one rollout"),
    ],
)
def test_errors_name_the_argument_and_the_fix(options, match):
    with pytest.raises(ValueError, match=match):
        preset("ant", **options)
