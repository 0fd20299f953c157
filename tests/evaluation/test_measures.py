import numpy as np
import pytest

from learned_opt_rl.evaluation.report.measures import (
    curve_matrix,
    measure,
    worst_points,
)
from tests.evaluation.result_rows import changed, row, table


def by_rule(rows):
    return {found.rule: found for found in measure(rows)}


def test_everything_is_measured():
    rows = [
        row("adam", seed=seed, final=4.0, curve=[1.0, 2.0, 3.0, 4.0])
        for seed in range(5)
    ]
    rows += [
        row(
            "lion",
            seed=seed,
            final=5.0 + seed,
            curve=[0.0, 4.0 + seed, 1.0, 5.0 + seed],
            dormant=[0.0, 0.25],
            nan_updates=seed,
        )
        for seed in range(5)
    ]
    found = by_rule(rows)["lion"]
    assert (found.seeds, found.steps, found.failed) == ((0, 1, 2, 3, 4), 1000, 0)
    assert found.final.value == 7.0
    assert 5.0 < found.final.low < 7.0 < found.final.high < 9.0
    assert found.auc.value == pytest.approx(
        np.mean([(10 + 2 * s) / 4 for s in range(5)])
    )
    assert found.steps_to_baseline == 500.0  # the mean there is 6
    assert found.seconds_to_baseline == 4.0  # half of 8
    assert (found.dormant, found.nan_updates) == (0.25, 10)
    assert found.paired.value == 3.0
    adam = by_rule(rows)["adam"]
    assert (adam.paired, adam.steps_to_baseline, adam.dormant) == (None, 1000.0, None)


def test_adams_return_may_never_be_reached_or_not_be_known():
    rows = table({"adam": {"ant": [9.0]}, "lion": {"ant": [1.0], "hopper": [1.0]}})
    ant, hopper = (m for m in measure(rows) if m.rule == "lion")
    assert ant.steps_to_baseline is ant.seconds_to_baseline is None
    assert hopper.steps_to_baseline is None and hopper.paired is None


def test_failed_runs_count_as_no_more_than_others_and_in_no_difference():
    rows = [
        row("adam", seed=0, final=2.0, curve=[2.0, 2.0]),
        row("sgd", seed=0, final=None, curve=[9.0, None], auc=None, diverged=True),
        row("sgd", seed=1, final=4.0, curve=[4.0, 4.0], auc=4.0),
    ]
    sgd = by_rule(rows)["sgd"]
    assert (sgd.failed, sgd.final.value, sgd.auc.value) == (1, 2.0, 2.0)
    assert (sgd.failed_as, sgd.paired) == (0.0, None)
    # A failed run of the baseline removes the differences of all rules.
    rows[0] = row("adam", seed=0, final=None, curve=[1.0, None], diverged=True)
    rows += [row("lion", seed=seed, final=5.0, curve=[5.0, 5.0]) for seed in (0, 1)]
    assert by_rule(rows)["lion"].paired is None


@pytest.mark.parametrize("offset", [100.0, 0.0, -2.0, -100.0, -1e6])
@pytest.mark.parametrize("start", [None, 0.0])
def test_a_rule_whose_runs_diverge_never_looks_as_good(offset, start):
    """Every run of the other rule is good, perhaps from the start."""

    def made(rule, seed, final):
        first = final if start is None else start
        return row(rule, seed=seed, final=final, curve=[first, final])

    rows = [made("adam", seed, offset + seed) for seed in range(5)]
    rows += [made("lion", 0, offset + 4)]
    for seed in range(1, 5):
        # A diverged run may still have a return, of episodes from before.
        lost = made("lion", seed, offset + 4)
        rows.append(changed(lost, diverged=True))
    adam, lion = by_rule(rows).values()
    assert lion.final.value <= adam.final.low
    assert lion.auc.value < adam.auc.value
    assert lion.paired is None and lion.steps_to_baseline is None
    assert lion.failed_as <= offset


def test_without_any_return_there_is_no_mean():
    (found,) = measure([row(final=None, curve=[None, None])])
    assert found.final is found.auc is found.steps_to_baseline is None
    assert found.failed == 1


def test_missing_points_are_the_lowest_of_the_environment():
    rows = [row(curve=[None, 3.0]), row("sgd", curve=[-1.0, 2.0])]
    assert worst_points(rows) == {"Breakout-MinAtar": -1.0}


def test_curves_of_several_lengths_meet_on_common_points():
    shares, values = curve_matrix([[2.0, 4.0], [1.0, 2.0, 3.0, 4.0]], floor=0.0)
    np.testing.assert_allclose(shares, [0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(values, [[2.0, 2.0, 3.0, 4.0], [1.0, 2.0, 3.0, 4.0]])


def test_long_curves_are_thinned_up_to_the_last_point():
    curve = [float(i) for i in range(1, 1221)]
    shares, values = curve_matrix([curve], 0.0, max_points=200)
    assert len(shares) <= 200
    assert (shares[-1], values[0, -1]) == (1.0, 1220.0)
    np.testing.assert_allclose(values[0], shares * 1220)


def test_another_rule_can_be_the_baseline():
    rows = table({"adam:1e-3": {"chain": [2.0, 2.0]}, "lion": {"chain": [3.0, 5.0]}})
    fixed, lion = measure(rows, "adam:1e-3")
    assert (lion.paired.value, lion.steps_to_baseline) == (2.0, 1000.0)
    assert fixed.paired is None
    assert all(m.paired is m.steps_to_baseline is None for m in measure(rows))
