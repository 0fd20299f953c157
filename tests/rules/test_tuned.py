"""The tuned settings against the tables they were copied from."""

import json
import pathlib

import pytest

from learned_opt_rl.rules.tuned import tuned

SWEEP = pathlib.Path(__file__).parents[2] / "results/tuned_adam_deep_sea.json"

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


def test_deep_sea_takes_the_winner_of_our_sweep():
    sweep = json.loads(SWEEP.read_text(encoding="utf-8"))
    means: dict[tuple[float, ...], list[float]] = {}
    for row in sweep["rows"]:
        setting = row["learning_rate"], row["b1"], row["b2"]
        means.setdefault(setting, []).extend(row["final_returns"])
    assert {len(returns) for returns in means.values()} == {16}  # 4 sizes, 4 seeds
    best = max(means, key=lambda setting: sum(means[setting]))
    found = tuned("adam", "DeepSea-bsuite/10")
    assert (found["learning_rate"], found["b1"], found["b2"]) == best


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
