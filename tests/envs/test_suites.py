import pytest

from learned_opt_rl import envs
from learned_opt_rl.envs import chain, gridworld


def test_the_published_suites():
    assert envs.suite("minatar") == (
        "Asterix-MinAtar",
        "Breakout-MinAtar",
        "Freeway-MinAtar",
        "SpaceInvaders-MinAtar",
    )
    assert envs.suite("minatar5") == (*envs.suite("minatar"), "Seaquest-MinAtar")
    assert envs.suite("brax") == ("ant", "humanoid", "hopper", "walker2d")


def test_five_of_each_kind_in_the_suite_of_lpg():
    names = envs.suite("lpg")
    assert len(set(names)) == len(names) == 15
    assert names[10:] == tuple(f"chain/{name}" for name in chain.NAMES)
    grids = [name.removeprefix("gridworld/") for name in names[:10]]
    observed = [gridworld.get_mode(name).observation for name in grids]
    assert observed == ["tabular"] * 5 + ["image"] * 5


def test_sizes_of_deep_sea_span_all():
    sizes = [int(name.partition("/")[2]) for name in envs.suite("deepsea")]
    assert (min(sizes), max(sizes)) == (4, 50)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("minatr", "suite='minatr' is not a suite; did you mean 'minatar'"),
        ("zzz", "suite='zzz' is not a suite; choose one of minatar, minatar5,"),
        ("ant", "it is an environment. Suites: minatar, minatar5,"),
    ],
)
def test_unknown_suites(name, message):
    with pytest.raises(ValueError, match=message):
        envs.suite(name)
