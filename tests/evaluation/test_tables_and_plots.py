import sys
from xml.etree import ElementTree

import numpy as np
import pytest

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.evaluation.pictures import comparison, curves
from learned_opt_rl.evaluation.report import tables
from learned_opt_rl.evaluation.report.measures import measure
from learned_opt_rl.evaluation.report.statistics import Estimate
from tests.evaluation import result_rows


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
    curves.curves([row("adam", 1.0), row("adam", 3.0), row("lion", 2.0)], file)
    assert file.read_bytes().startswith(b"\x89PNG")


def test_curves_of_runs_without_a_return_at_first_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    late = [row(curve=[None, None, 1.0]), row(curve=[None, 0.5, 2.0])]
    never = row("lion", None, curve=[None] * 3)
    for rows in ([*late, never], [never]):
        curves.curves(rows, tmp_path / "x.png")
        drawn(comparison.curves_figure(rows), tmp_path)
    assert "--" in tables.plain([never]) and "nan" not in tables.plain([*late, never])


def test_curves_want_one_environment(tmp_path):
    pytest.importorskip("matplotlib")
    with pytest.raises(ValueError, match=r"\['a', 'b'\]"):
        curves.curves([row(environment="a"), row(environment="b")], tmp_path / "x.png")
    with pytest.raises(ValueError, match="none"):
        curves.curves([], tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_missing_matplotlib_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"learned-opt-rl\[eval\]"):
        curves.curves([row()], tmp_path / "x.png")


def test_tables_of_environments_say_what_is_missing():
    rows = result_rows.table({"adam": {"ant": [1.0, 3.0]}, "a|b": {"ant": [1.0] * 5}})
    rows += [result_rows.row("sgd", "ant", final=None, curve=[None])]
    lines = tables.render(tables.environments(measure(rows)), "markdown").splitlines()
    assert lines[2] == (
        "| ant | adam | 2 | 2.00 (2 seeds) | - | 0.83 (2 seeds) | 1,000 | - | - | 0 |"
    )
    assert lines[3].startswith("| ant | a\\|b | 5 | 1.00 [1.00, 1.00] | ")
    assert lines[4].startswith("| ant | sgd | 1 | 1.00 (1 seed) | ")
    assert lines[4].endswith(" | 1 |")


def test_a_terminal_is_not_steered_by_a_name():
    text = tables.render([("rule",), ("\x1b[31mred\n",)], "plain")
    assert text == "rule\n?[31mred?"


def test_aggregates_have_a_column_per_metric_in_a_fixed_order():
    found = {
        "adam": {"IQM": Estimate(1.0, 0.5, 1.5, 3), "mean": Estimate(2.0, 1, 3, 3)},
        "lion": {"IQM": Estimate(1.0, None, None, 2), "P": Estimate(0.5, 0, 1, 2)},
    }
    assert tables.aggregates(found, "rule") == [
        ("rule", "seeds", "mean [95%]", "IQM [95%]", "P [95%]"),
        ("adam", "3", "2.00 [1.00, 3.00]", "1.00 [0.50, 1.50]", "-"),
        ("lion", "2", "-", "1.00 (2 seeds)", "0.50 [0.00, 1.00]"),
    ]


def drawn(figure, tmp_path):
    """The figure's files; writing them is what finds bad text and bad layout."""
    png, svg = comparison.save(figure, tmp_path / "picture")
    assert png.read_bytes().startswith(b"\x89PNG")
    return svg.read_bytes()


NASTY = ("$x_1$ \\frac", "_hidden", "-->&<script>", "名前\x00", "long " * 40)


def test_names_are_drawn_as_they_are(tmp_path):
    pytest.importorskip("matplotlib")
    rows = [result_rows.row(name, name) for name in NASTY]
    svg = drawn(comparison.curves_figure(rows), tmp_path)
    ElementTree.fromstring(svg)
    assert b"<script>" not in svg


def test_curves_have_a_panel_per_environment_and_a_band_from_five_seeds_on():
    pytest.importorskip("matplotlib")
    rows = result_rows.table({"adam": {"ant": [1.0] * 5, "hopper": [1.0] * 4}})
    ant, hopper = comparison.curves_figure(rows).axes
    assert (ant.get_title(), hopper.get_title()) == ("ant", "hopper")
    assert (len(ant.collections), len(hopper.collections)) == (1, 0)
    np.testing.assert_allclose(ant.lines[0].get_xdata(), [1000 / 3, 2000 / 3, 1000])


def test_dormancy_is_drawn_where_it_was_measured():
    pytest.importorskip("matplotlib")
    rows = [result_rows.row(dormant=[0.0, 0.5]), result_rows.row("lion")]
    (axes,) = comparison.curves_figure(rows, "dormant").axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0.0, 0.5]]
    with pytest.raises(ValueError, match="no row has a 'dormant'"):
        comparison.curves_figure(rows[1:], "dormant")


def test_generalisation_is_in_order_of_size():
    pytest.importorskip("matplotlib")
    at = {"64x64": 2.0, "16x16": 1.0, "256x256": 3.0}
    found = {"adam": {value: Estimate(y, None, None, 1) for value, y in at.items()}}
    figure = comparison.generalisation_figure({"ant": found, "sea": found}, "hidden")
    axes, other = figure.axes
    assert (axes.get_title(), other.get_title()) == ("ant", "sea")
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["16x16", "64x64", "256x256"]
    assert axes.lines[0].get_ydata().tolist() == [1.0, 2.0, 3.0]
    numbers = {"adam": {n: Estimate(1.0, 0.0, 2.0, 3) for n in (10_000, 100)}}
    (axes,) = comparison.generalisation_figure({"ant": numbers}, "steps").axes
    assert axes.get_xscale() == "log"
    assert axes.lines[0].get_xdata().tolist() == [100, 10_000]


def test_the_same_figure_gives_the_same_files(tmp_path):
    pytest.importorskip("matplotlib")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        figure = comparison.curves_figure([result_rows.row()])
        comparison.save(figure, tmp_path / folder / "x")
    for name in ("x.png", "x.svg"):
        one, other = ((tmp_path / f / name).read_bytes() for f in ("a", "b"))
        assert one == other


def test_nothing_is_not_drawn():
    for draw in (
        comparison.aggregate_figure,
        lambda found: comparison.improvement_figure(found, "adam"),
        lambda found: comparison.profile_figure(np.zeros(1), found),
        lambda found: comparison.generalisation_figure(found, "hidden"),
    ):
        with pytest.raises(ValueError, match="found is empty"):
            draw({})
