import pytest

from learned_opt_rl.evaluation.report.normalization import (
    check,
    distribution,
    normalize,
)
from tests.evaluation.result_rows import row, table


def test_adam_is_one():
    rows = table({"adam": {"ant": [2.0, 4.0]}, "lion": {"ant": [6.0, 1.5]}})
    found = normalize(rows)
    assert found.method == "adam"
    assert found.references == {"ant": 3.0}
    assert found.returns["lion"] == {"ant": {0: 2.0, 1: 0.5}}
    assert sum(found.returns["adam"]["ant"].values()) / 2 == 1


def test_a_black_box_rule_of_the_rows():
    rows = table({"adam": {"ant": [2.0]}, "box": {"ant": [4.0]}})
    found = normalize(rows, "rule:box")
    assert found.returns == {"adam": {"ant": {0: 0.5}}, "box": {"ant": {0: 1.0}}}


def test_published_references_with_their_source():
    rows = table({"lion": {"Asterix-MinAtar": [30.0706], "ant": [6517.31]}})
    found = normalize(rows)
    assert found.method == "published"
    assert found.returns["lion"] == {
        "Asterix-MinAtar": {0: pytest.approx(2)},
        "ant": {0: pytest.approx(1)},
    }
    assert "1e7 steps (ant 5e7)" in found.description
    sgd = normalize(rows, "published-sgd")
    assert sgd.references == {"Asterix-MinAtar": 15.414, "ant": 4443.31}


def test_optimal_returns_are_those_that_rows_tell():
    rows = [
        row("adam", "gridworld/a", 0, 1.0, environment_details={"optimal_return": "2"}),
        row("adam", "gridworld/a", 1, 1.0, environment_details={"optimal_return": "6"}),
        row("adam", "sea", 0, 0.495, environment_details={"optimal_return": 0.99}),
        row("adam", "DeepSea-bsuite/10", 0, 0.495),
    ]
    found = normalize(rows, "optimal")
    assert found.references == {"gridworld/a": 4.0, "sea": 0.99}
    assert found.returns["adam"]["sea"] == {0: 0.5}
    assert "DeepSea-bsuite/10 is not in the aggregates" in found.notes[0]


def test_the_baseline_is_one_where_there_is_no_adam():
    rows = table({"adam:1e-3": {"mine": [2.0]}, "lion": {"mine": [3.0]}})
    found = normalize(rows, baseline="adam:1e-3")
    assert found.method == "rule:adam:1e-3"
    assert found.returns["lion"] == {"mine": {0: 1.5}}


@pytest.mark.parametrize(
    ("method", "environments"),
    [
        ("adm", ()),
        ("rule:", ()),
        ("published", ["CartPole-v1"]),
        ("optimal", ["Breakout-MinAtar"]),
    ],
)
def test_methods_are_refused_before_there_are_rows(method, environments):
    with pytest.raises(ValueError, match=f"normalization='{method}'"):
        check(method, environments=environments)
    check("optimal", environments=["CartPole-v1", "Breakout-MinAtar"])


def test_raw_where_nothing_is_known():
    rows = table({"lion": {"mine": [30.0]}})
    found = normalize(rows)
    assert (found.method, found.references) == ("raw", {})
    assert found.returns["lion"] == {"mine": {0: 30.0}}


def test_environments_without_a_positive_reference_are_left_out_aloud():
    rows = table(
        {
            "adam": {"ant": [2.0], "sea": [-1.0]},
            "lion": {"ant": [1.0], "sea": [1.0], "hopper": [1.0]},
        }
    )
    found = normalize(rows)
    assert found.returns["lion"] == {"ant": {0: 0.5}}
    assert found.notes == (
        "hopper is not in the aggregates: its reference is missing.",
        "sea is not in the aggregates: its reference is -1, not positive.",
    )


@pytest.mark.parametrize(
    ("method", "message"),
    [
        ("adm", "normalization='adm' is unknown; did you mean 'adam'"),
        ("adam", "normalization=adam needs runs of .adam., which is not among the rul"),
        ("rule:box", "normalization=rule:box needs runs of 'box'"),
        ("published", "'published' has no positive reference for mine"),
        ("optimal", "'optimal' has no positive reference for mine"),
    ],
)
def test_what_cannot_be_is_refused(method, message):
    with pytest.raises(ValueError, match=message):
        normalize(table({"lion": {"mine": [30.0]}}), method)


def test_cards_say_what_is_in_distribution():
    games = ["Breakout-MinAtar", "ant", "gridworld/all_shortlife"]
    kinds = distribution("goldie2024/minatar", games)
    assert list(kinds.values()) == ["i.d.", "o.o.d.", "o.o.d."]
    assert distribution("artifact:goldie2024/ant", games)["ant"] == "i.d."
    assert distribution("goldie2024/gridworld", games)[games[2]] == "i.d."
    assert distribution("goldie2024/minatar (a2c)", games) == kinds
    # The card does not describe replaced weights.
    assert distribution("goldie2024/minatar@no-horizon:11111111", games) is None
    assert distribution("adam:1e-3", games) is None
    assert (
        distribution("distilled/sign_mixture", games) is None
    )  # was trained in no environment
    assert distribution("nobody/knows", games) is None


def test_a_missing_feature_does_not_change_what_a_rule_was_trained_on():
    found = distribution("goldie2024/breakout@no-dormancy", ["Breakout-MinAtar"])
    assert found == {"Breakout-MinAtar": "i.d."}
