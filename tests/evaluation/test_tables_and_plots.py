import sys

import numpy as np
import pytest

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.evaluation import plots, tables


def row(rule="adam", final_return=1.0, environment="Breakout-MinAtar", **other):
    return {
        "rule": rule,
        "environment": environment,
        "final_return": final_return,
        "total_timesteps": 1000,
        "curve": [0.0, 0.5, final_return],
        "steps_per_second": 123_456.0,
        "compile_seconds": 3.0,
        "wall_seconds": 8.1,
        **other,
    }


def test_interval_is_the_normal_one_for_many_values():
    values = np.random.default_rng(1).normal(10, 2, size=400)
    low, high = tables.bootstrap_interval(values)
    half = 1.96 * values.std(ddof=1) / 20
    np.testing.assert_allclose([low, high], values.mean() + [-half, half], atol=0.03)


def test_interval_is_reproducible_and_narrows_with_the_level():
    values = [1.0, 5.0, 2.0, 8.0]
    wide = tables.bootstrap_interval(values)
    assert wide == tables.bootstrap_interval(values)
    low, high = tables.bootstrap_interval(values, level=0.5)
    assert wide[0] < low < high < wide[1]


def test_one_value_has_no_interval():
    assert np.isnan(tables.bootstrap_interval([1.0])).all()


def test_summary_per_rule_and_environment():
    rows = [row("adam", 1.0), row("lion", 7.0), row("adam", 3.0)]
    adam, lion = tables.summarise(rows)
    assert (adam.rule, adam.num_seeds, adam.mean) == ("adam", 2, 2.0)
    assert (adam.low, adam.high) == (1.0, 3.0)
    assert (lion.rule, lion.num_seeds, lion.mean) == ("lion", 1, 7.0)


def test_a_run_without_a_return_is_not_left_out_of_the_mean():
    (summary,) = tables.summarise([row(final_return=1.0), row(final_return=None)])
    assert np.isnan(summary.mean)


def test_markdown():
    lines = tables.markdown([row("adam", 1.0), row("adam", 3.0)]).splitlines()
    assert lines[1] == "| --- | --- | --- | --- | --- | --- | --- | --- |"
    assert lines[2] == (
        "| adam | Breakout-MinAtar | 2 | 2.00 | 1.00 to 3.00 | 123,456 | 3.0 | 8.1 |"
    )


def test_plain_is_aligned():
    header, first, second = tables.plain([row("adam"), row("rmsprop")]).splitlines()
    assert header.index("environment") == first.index("Breakout")
    assert len(header) == len(first) == len(second)


def test_curves_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    file = tmp_path / "curves.png"
    plots.curves([row("adam", 1.0), row("adam", 3.0), row("lion", 2.0)], file)
    assert file.read_bytes().startswith(b"\x89PNG")


def test_curves_want_one_environment(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=r"\['a', 'b'\]"):
        plots.curves([row(environment="a"), row(environment="b")], tmp_path / "x.png")
    with pytest.raises(ValueError, match="none"):
        plots.curves([], tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_missing_matplotlib_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"learned-opt-rl\[eval\]"):
        plots.curves([row()], tmp_path / "x.png")
