"""LPG's fifteen training environments and their agents."""

import pytest

from learned_opt_rl.envs import chain, gridworld
from learned_opt_rl.envs.lpg_suite import LPG_SUITE, get_agent


def test_five_of_each_kind():
    assert len(set(LPG_SUITE)) == 15
    chains = [name for name in LPG_SUITE if name.startswith("chain/")]
    assert chains == [f"chain/{name}" for name in chain.NAMES]
    grids = [name.removeprefix("gridworld/") for name in LPG_SUITE[:10]]
    observed = [gridworld.get_mode(name).observation for name in grids]
    assert observed == ["tabular"] * 5 + ["image"] * 5


def test_agents_of_the_paper():
    for name in LPG_SUITE:
        agent = get_agent(name)
        tabular = not agent.hidden
        assert agent.optimizer == ("sgd" if tabular else "adam")
        assert agent.learning_rates[0] == (20.0 if tabular else pytest.approx(1e-3, 1))
        assert agent.alpha_y == (0.1, 0.5, 1.0)
    assert get_agent("gridworld/paper_rand_very_dense").filters == (32, 16, 16)
    assert get_agent("chain/short").lifetime == (781, 781)
    assert get_agent("gridworld/paper_dense").lifetime == (2343, 2343)


def test_agents_of_groove():
    agent = get_agent("gridworld/all_vrandlife")
    assert (agent.learning_rates, agent.predictor_learning_rates) == ((40.0,), (4.0,))
    assert (agent.lifetime, agent.max_grad_norm) == ((10, 250), 0.5)
    assert get_agent("gridworld/rand_tiny").hidden == (32, 32, 32)


def test_unknown_environments():
    with pytest.raises(ValueError, match="name='CartPole-v1' must be \"gridworld/"):
        get_agent("CartPole-v1")
    with pytest.raises(ValueError, match="name='densee' is unknown"):
        get_agent("gridworld/densee")
