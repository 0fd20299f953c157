import dataclasses

import pytest

from learned_opt_rl.evaluation.runs import generalize
from learned_opt_rl.evaluation.runs.plan import Comparison
from learned_opt_rl.evaluation.runs.rules import FEATURES

ASKED = Comparison(
    ("minatar", "adam", "discovered/dpo"),
    ("Breakout-MinAtar",),
    3,
    1e6,
    settings=("gamma=0.9",),
)


def along(axis, values=None, asked=ASKED):
    return generalize.comparisons(axis, asked, values)


def test_each_axis_changes_one_thing():
    assert [c.total_timesteps for c in along("length", ["1e5", "2e5"])] == [1e5, 2e5]
    assert [c.settings for c in along("width", ["16"])] == [
        ("gamma=0.9", "hidden=16x16")
    ]
    assert [c.settings[1] for c in along("depth")] == [
        "hidden=64",
        "hidden=64x64",
        "hidden=64x64x64",
        "hidden=64x64x64x64",
    ]
    assert [c.settings[1] for c in along("activation")] == [
        "activation=relu",
        "activation=tanh",
    ]


def test_only_learned_optimisers_miss_features():
    everything, *without = along("features")
    assert everything == ASKED
    assert [c.rules for c in without] == [(f"minatar@{f}",) for f in FEATURES]


@pytest.mark.parametrize(
    ("axis", "values", "message"),
    [
        ("height", None, "axis='height' must be one of length, width"),
        ("width", [], "values=.* is empty"),
        ("width", ["wide"], "width 'wide' is not a number"),
        ("width", ["0.5"], "width '0.5' must be a positive whole number"),
        ("width", ["nan"], "width 'nan' must be a positive whole number"),
        ("depth", ["0"], "depth '0' must be a positive whole number"),
        ("width", ["inf"], "width 'inf' must be a positive whole number"),
        ("length", ["long"], "length 'long' is not a number"),
        ("features", ["no-luck"], "values='no-luck' must be one of all, no-dormancy"),
    ],
)
def test_what_is_no_axis_or_value_is_refused(axis, values, message):
    with pytest.raises(ValueError, match=message):
        along(axis, values)


def test_handcrafted_optimisers_have_no_features_to_miss():
    asked = Comparison(("adam",), ("Breakout-MinAtar",), 1, 1e6)
    with pytest.raises(ValueError, match="only a learned optimizer can"):
        along("features", ["no-horizon"], asked)


def test_the_axis_wins_over_a_setting_of_its_name():
    asked = dataclasses.replace(ASKED, settings=("hidden=8x8", "gamma=0.9"))
    (found,) = along("width", ["16"], asked)
    assert found.settings == ("gamma=0.9", "hidden=16x16")


def test_rules_miss_features_however_they_are_written():
    rules = ("artifact:minatar", "open:minatar", "minatar@no-horizon", "adam:1e-3")
    (found,) = along(
        "features", ["no-dormancy"], dataclasses.replace(ASKED, rules=rules)
    )
    assert found.rules == tuple(
        f"{name}@no-dormancy"
        for name in ("artifact:minatar", "open:minatar", "minatar")
    )
