import numpy as np
import pytest
from scipy import stats

from learned_opt_rl.evaluation.report import statistics
from tests.evaluation.result_rows import row, table

rng = np.random.default_rng(3)
X = rng.normal(1.0, 0.5, (5, 3))
Y = rng.normal(0.8, 0.5, (6, 3))


def by_hand(x):
    """The four metrics from their definitions."""
    ordered = np.sort(x.ravel())
    cut = len(ordered) // 4
    means = x.mean(axis=0)
    return {
        "mean": means.mean(),
        "median": np.median(means),
        "IQM": ordered[cut : len(ordered) - cut].mean(),
        "optimality gap": np.mean([max(1 - value, 0) for value in x.ravel()]),
    }


def bootstrap_by_hand(x, metric, resamples=4000):
    """Runs drawn again within each environment, by another generator."""
    picks = np.random.default_rng(7).integers(len(x), size=(resamples, *x.shape))
    samples = np.take_along_axis(np.broadcast_to(x, picks.shape), picks, axis=1)
    return np.quantile([by_hand(s)[metric] for s in samples], (0.025, 0.975))


def test_aggregates_are_their_definitions():
    found = statistics.aggregate(X)
    assert tuple(found) == statistics.METRICS
    for metric, value in by_hand(X).items():
        assert found[metric].value == pytest.approx(value, rel=1e-12), metric
    assert found["IQM"].value == stats.trim_mean(X, 0.25, axis=None)
    assert {estimate.seeds for estimate in found.values()} == {5}


@pytest.fixture
def many(monkeypatch):
    """More resamples, so that two bootstraps agree to a few percent of their width."""
    monkeypatch.setattr(statistics, "RESAMPLES", 20_000)


def test_aggregates_and_intervals_are_those_of_rliable(many):
    pytest.importorskip("rliable")
    from rliable import library, metrics

    def every(x):
        return np.array(
            [
                metrics.aggregate_mean(x),
                metrics.aggregate_median(x),
                metrics.aggregate_iqm(x),
                metrics.aggregate_optimality_gap(x),
            ]
        )

    state = np.random.get_state()
    np.random.seed(0)  # rliable draws from the global generator
    values, ends = library.get_interval_estimates({"it": X}, every, reps=4000)
    np.random.set_state(state)
    found = statistics.aggregate(X)
    for i, metric in enumerate(statistics.METRICS):
        one, (low, high) = found[metric], ends["it"][:, i]
        assert one.value == pytest.approx(values["it"][i], rel=1e-12)
        np.testing.assert_allclose(
            [one.low, one.high], [low, high], atol=0.05 * (high - low)
        )


@pytest.mark.parametrize("metric", statistics.METRICS)
def test_intervals_are_those_of_a_stratified_bootstrap(many, metric):
    found = statistics.aggregate(X)[metric]
    low, high = bootstrap_by_hand(X, metric)
    spread = high - low
    np.testing.assert_allclose([found.low, found.high], [low, high], atol=0.06 * spread)


def test_improvement_and_profile_intervals_are_those_of_rliable(many):
    pytest.importorskip("rliable")
    from rliable import library, metrics

    taus = np.array([0.5, 1.0, 1.5])
    state = np.random.get_state()
    np.random.seed(0)
    _, pair = library.get_interval_estimates(
        {"it": [X, Y]}, metrics.probability_of_improvement, reps=1000
    )
    shares, bands = library.create_performance_profile({"it": X}, taus, reps=4000)
    np.random.set_state(state)
    found = statistics.probability_of_improvement(X, Y)
    # Shares of few runs move in steps of 1 / 15, and wins in steps of 1 / 90.
    np.testing.assert_allclose([found.low, found.high], pair["it"].ravel(), atol=0.04)
    profile, low, high = statistics.performance_profile(X, taus)
    np.testing.assert_allclose(profile, shares["it"])
    np.testing.assert_allclose([low, high], bands["it"], atol=0.067)


def test_strata_are_kept_apart():
    # Environments differ and runs do not: nothing is uncertain.
    found = statistics.aggregate(np.array([[1.0, 9.0]] * 5))["mean"]
    assert (found.value, found.low, found.high) == (5.0, 5.0, 5.0)


def test_the_same_is_drawn_each_time_and_numpy_stays_as_it_was():
    before = np.random.get_state()[1].copy()
    assert statistics.aggregate(X) == statistics.aggregate(X)
    np.testing.assert_array_equal(np.random.get_state()[1], before)


@pytest.mark.parametrize("seeds", [1, 2, 3, 4])
def test_few_seeds_have_no_interval(seeds):
    x = X[:seeds]
    estimates = [
        *statistics.aggregate(x).values(),
        statistics.probability_of_improvement(x, Y),
        statistics.estimate(x[:, 0]),
    ]
    assert {(e.low, e.high, e.seeds) for e in estimates} == {(None, None, seeds)}
    shares, low, high = statistics.performance_profile(x, np.array([0.0]))
    assert shares.shape == (1,) and low is high is None


def test_probability_of_improvement_is_mann_whitney():
    x, y = X.round(1), Y.round(1)  # with ties
    found = statistics.probability_of_improvement(x, y)
    wins = np.mean(
        [(a > b) + (a == b) / 2 for j in range(3) for a in x[:, j] for b in y[:, j]]
    )
    assert found.value == pytest.approx(wins)
    assert 0 <= found.low < found.value < found.high <= 1
    assert found.seeds == 5
    other = statistics.probability_of_improvement(y, x)
    assert other.value == pytest.approx(1 - found.value)


def test_probability_of_improvement_wants_the_same_environments():
    with pytest.raises(ValueError, match="x has 3 environments and y has 2"):
        statistics.probability_of_improvement(X, Y[:, :2])


def test_profiles_are_shares_of_runs():
    thresholds = np.linspace(0, 2, 7)
    shares, low, high = statistics.performance_profile(X, thresholds)
    np.testing.assert_allclose(shares, [(t < X).mean() for t in thresholds])
    assert (low <= shares).all() and (shares <= high).all() and (low < high).any()


def test_paired_differences_are_narrower_than_the_returns():
    start = rng.normal(0, 10, 8)  # what seeds share
    x = {seed: value + 1 for seed, value in enumerate(start)}
    y = dict(enumerate(start + rng.normal(0, 0.1, 8)))
    found = statistics.paired_difference(x, y)
    assert found.seeds == 8
    assert found.value == pytest.approx(np.mean([x[s] - y[s] for s in range(8)]))
    assert 0.8 < found.low < found.value < found.high < 1.2
    assert statistics.estimate([*x.values()]).high - found.value > 2


def test_paired_differences_use_common_seeds():
    found = statistics.paired_difference({0: 3.0, 1: 5.0, 9: 7.0}, {1: 1.0, 9: 1.0})
    assert (found.value, found.seeds, found.low) == (5.0, 2, None)
    assert statistics.paired_difference({0: 1.0}, {1: 1.0}) is None


def test_failed_runs_count_as_no_more_than_any_of_their_environment():
    rows = [
        *table({"adam": {"ant": [3.0, 5.0], "hopper": [2.0]}}),
        row("sgd", "ant", 0, None),
        row("sgd", "ant", 1, 8.0, diverged=True),
        row("sgd", "hopper", 0, None),
        row("sgd", "walker2d", 0, None),
    ]
    found = statistics.returns(rows)
    assert found["sgd"] == {"ant": {0: 0.0, 1: 0.0}, "hopper": {0: 0.0}}
    assert sum(row.failed for row in rows) == 4


@pytest.mark.parametrize(
    ("finals", "lowest", "value"),
    [
        ([3.0, 5.0], 1.0, 0.0),
        ([3.0, 5.0], -7.0, -7.0),
        ([-3.0, 5.0], 1.0, -6.0),
        ([0.0, 5.0], 1.0, 0.0),
        ([0.0, 0.0], 0.0, -1.0),
    ],
)
def test_what_a_failed_run_counts_as(finals, lowest, value):
    rows = [row(final=one, curve=[None, lowest, one]) for one in finals]
    rows += [row(final=-100.0, curve=[-100.0], diverged=True), row("sgd", "ant")]
    found = statistics.failed_values([*rows, row("sgd", "sea", final=None)])
    assert found == {"Breakout-MinAtar": value, "ant": 0.0}


def test_one_rule_without_some_environments_does_not_cost_the_others_theirs():
    games = {"ant": {0: 1.0, 1: 2.0}, "hopper": {1: 3.0, 2: 4.0}}
    found = {"adam": games, "lion": games, "sgd": {"ant": {0: 1.0}}}
    chosen = statistics.scores(found)
    assert chosen.environments == ("ant", "hopper")
    assert chosen.matrices["lion"].tolist() == [[2.0, 3.0]]  # of seed 1
    assert chosen.left_out == {"sgd": "no return in hopper"}


def test_rules_without_a_common_seed_are_left_out():
    chosen = statistics.scores({"adam": {"ant": {0: 1.0}, "hopper": {1: 1.0}}})
    assert chosen.matrices == {}
    assert chosen.left_out == {"adam": "no seed was run in all environments"}


def test_no_returns_are_no_scores():
    assert statistics.scores({}).environments == ()


def test_a_band_is_the_interval_of_each_point():
    curves = rng.normal(size=(6, 4))
    low, high = statistics.bootstrap_band(curves, statistics.MEAN_RESAMPLES)
    for point in range(4):
        found = statistics.estimate(curves[:, point])
        assert (found.low, found.high) == (low[point], high[point])


def test_the_interval_is_the_normal_one_for_many_values():
    values = np.random.default_rng(1).normal(10, 2, size=400)
    found = statistics.estimate(values)
    half = 1.96 * values.std(ddof=1) / 20
    ends = values.mean() + [-half, half]
    np.testing.assert_allclose([found.low, found.high], ends, atol=0.03)
    assert found == statistics.estimate(values)
