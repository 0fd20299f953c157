"""The tuned settings against the tables they were copied from."""

import pytest

from learned_opt_rl.rules.tuned import tuned

ADAM = {
    "Asterix-MinAtar": (3e-3, 0.9, 0.999),
    "Breakout-MinAtar": (1e-2, 0.9, 0.99),
    "Freeway-MinAtar": (1e-3, 0.9, 0.99),
    "SpaceInvaders-MinAtar": (7e-3, 0.9, 0.99),
    "ant": (3e-4, 0.99, 0.99),
    "humanoid": (3e-4, 0.9, 0.999),
    "walker2d": (1e-3, 0.9, 0.999),
    "hopper": (8e-4, 0.9, 0.999),
    "CartPole-v1": (1e-3, 0.9, 0.999),
    "Craftax-Classic-Symbolic-v1": (5e-4, 0.9, 0.999),
    "gridworld/all": (1e-4, 0.99, 0.99),
}


@pytest.mark.parametrize("environment", ADAM)
def test_adam_is_tuned_as_published(environment):
    found = tuned("adam", environment)
    assert (found["learning_rate"], found["b1"], found["b2"]) == ADAM[environment]
    assert found["anneal"] is True


def test_all_members_of_a_family_share_its_entry():
    assert tuned("adam", "gridworld/dense") == tuned("adam", "gridworld/all")
    assert tuned("sgd", "gridworld/dense") == {"learning_rate": 1.33, "anneal": True}


@pytest.mark.parametrize(
    ("name", "environment"),
    [("lion", "gridworld/all"), ("adam", "chain/short"), ("adam", "ant/spring")],
)
def test_what_nobody_tuned_is_refused(name, environment):
    with pytest.raises(ValueError, match=f"{name!r} on environment={environment!r}"):
        tuned(name, environment)
