import pytest

from learned_opt_rl import envs


def test_the_published_suites():
    assert envs.suite("minatar") == (
        "Asterix-MinAtar",
        "Breakout-MinAtar",
        "Freeway-MinAtar",
        "SpaceInvaders-MinAtar",
    )
    assert envs.suite("minatar5") == (*envs.suite("minatar"), "Seaquest-MinAtar")
    assert envs.suite("brax") == ("ant", "humanoid", "hopper", "walker2d")
    assert len(envs.suite("lpg")) == 15


def test_sizes_of_deep_sea_span_all():
    sizes = [int(name.partition("/")[2]) for name in envs.suite("deepsea")]
    assert (min(sizes), max(sizes)) == (4, 50)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "minatr",
            "suite='minatr' is no suite; nearest: 'minatar'.*there are minatar,",
        ),
        ("ant", "it is an environment of its own; there are"),
    ],
)
def test_unknown_suites(name, message):
    with pytest.raises(ValueError, match=message):
        envs.suite(name)
