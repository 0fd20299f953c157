import re
from xml.etree import ElementTree

import numpy as np
import pytest

from learned_opt_rl.evaluation.pictures import comparison, figures
from learned_opt_rl.evaluation.report import tables
from learned_opt_rl.evaluation.report.measures import measure
from learned_opt_rl.evaluation.report.statistics import Estimate
from tests.evaluation import result_rows


def test_results_have_returns_failures_and_times():
    rows = result_rows.table({"adam": {"ant": [1.0, 3.0]}})
    rows += [result_rows.row("sgd", "ant", final=None, curve=[None])]
    assert tables.results(measure(rows))[1:] == [
        ("adam", "ant", "2", "2.00 (2 seeds)", "-", "100", "3.0", "8.0"),
        (
            "sgd",
            "ant",
            "1",
            "0.00 (1 seed); 1 too short as 0.00",
            "1 too short",
            "100",
            "3.0",
            "8.0",
        ),
    ]


def test_columns_are_aligned():
    lines = tables.render([("rule", "agent", "x"), ("rmsprop", "ppo", "1")], "plain")
    header, line = lines.splitlines()
    assert header.index("agent") == line.index("ppo")
    assert len(header) == len(line)


def cells(line):
    return [cell.strip() for cell in line.strip("|").split(" | ")]


def test_tables_of_environments_say_what_is_missing():
    rows = result_rows.table({"adam": {"ant": [1.0, 3.0]}, "a|b": {"ant": [1.0] * 5}})
    rows += [result_rows.row("sgd", "ant", final=None, curve=[None])]
    lines = tables.render(tables.environments(measure(rows)), "github").splitlines()
    assert cells(lines[2]) == [
        "ant",
        "adam",
        "2.00 (2 seeds)",
        "-",
        "2",
        "0.83 (2 seeds)",
        "1,000",
        "-",
        "-",
        "-",
    ]
    assert cells(lines[3])[:3] == ["ant", "a\\|b", "1.00 [1.00, 1.00]"]
    assert cells(lines[4])[:3] == ["ant", "sgd", "0.00 (1 seed); 1 too short as 0.00"]
    assert cells(lines[4])[-1] == "1 too short"


def test_a_terminal_is_not_steered_by_a_name():
    text = tables.render([("rule",), ("\x1b[31mred\n",)], "plain")
    assert text.split() == ["rule", "?[31mred?"]


def test_aggregates_have_a_column_per_metric_in_a_fixed_order():
    found = {
        "adam": {"IQM": Estimate(1.0, 0.5, 1.5, 3), "mean": Estimate(2.0, 1, 3, 3)},
        "lion": {"IQM": Estimate(1.0, None, None, 2), "P": Estimate(0.5, 0, 1, 2)},
    }
    assert tables.aggregates(found) == [
        ("rule", "IQM [95%]", "P [95%]", "mean [95%]", "seeds"),
        ("adam", "1.00 [0.50, 1.50]", "-", "2.00 [1.00, 3.00]", "3"),
        ("lion", "1.00 (2 seeds)", "0.50 [0.00, 1.00]", "-", "2"),
    ]


def test_the_best_values_are_marked():
    rows = result_rows.table({"adam": {"ant": [1.0]}, "li_on": {"ant": [2.0]}})
    text = tables.render(tables.environments(measure(rows)), "latex")
    assert [line for line in text.splitlines() if "textbf" in line] == [
        line for line in text.splitlines() if r"li\_on" in line
    ]
    assert r"\textbf{2.00 (1 seed)}" in text
    assert text.count("rule\n") == 3 and "hline" not in text  # booktabs
    gaps = {"a": {"optimality gap": Estimate(0.1, None, None, 1)}}
    gaps["b"] = {"optimality gap": Estimate(0.2, None, None, 1)}
    low, high = (line[1] for line in tables.aggregates(gaps)[1:])
    assert isinstance(low, tables.Best) and not isinstance(high, tables.Best)


@pytest.mark.parametrize("width", [40, 80])
def test_a_table_fits_the_terminal(width):
    rows = result_rows.random_table(("adam", "lpo/minatar"), ("Breakout-MinAtar",))
    text = tables.render(tables.environments(measure(rows)), "plain", width)
    assert max(map(len, text.splitlines())) <= width
    assert re.search(r"\d\.\d\d \[\d\.\d\d, \d\.\d\d\]", text)
    assert text.splitlines()[0].split()[0] == (
        "Breakout-MinAtar" if width == 40 else "environment"
    )


def drawn(figure, tmp_path):
    """The figure's files; writing them is what finds bad text and bad layout."""
    png, svg, pdf = comparison.save(figure, tmp_path / "picture")
    assert pdf.read_bytes().startswith(b"%PDF")
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


def test_curves_of_runs_without_a_return_at_first_are_drawn(tmp_path):
    pytest.importorskip("matplotlib")
    curves = [None, None, 1.0], [None, 0.5, 2.0]
    late = [result_rows.row(seed=i, curve=curve) for i, curve in enumerate(curves)]
    never = result_rows.row("lion", final=None, curve=[None] * 3)
    for rows in ([*late, never], [never]):
        drawn(comparison.curves_figure(rows), tmp_path)
        assert "nan" not in tables.render(tables.results(measure(rows)), "plain")


def test_the_axis_shows_the_steps_that_were_played():
    pytest.importorskip("matplotlib")
    row = result_rows.row(config={"num_envs": 3, "num_steps": 100})
    (axes,) = comparison.curves_figure([row]).axes
    assert axes.lines[0].get_xdata().tolist() == [300, 600, 900]  # of 1000 requested


def test_a_rule_looks_the_same_in_every_figure():
    pytest.importorskip("matplotlib")
    both = result_rows.random_table(("adam", "a"), seeds=1)
    alone = [row for row in both if row.rule == "adam"]
    styles = [comparison.curves_figure(rows).axes[0].lines for rows in (both, alone)]
    looks = [{(x.get_color(), x.get_marker()) for x in lines} for lines in styles]
    assert looks[1] < looks[0]
    given = comparison.returns_figure(both, styles=figures.styles(["z", "a", "adam"]))
    assert figures.styles(["z", "a"])["a"]["color"] in {
        line.get_color() for line in given.axes[0].lines
    }


def test_every_run_has_a_dot():
    pytest.importorskip("matplotlib")
    rows = result_rows.table({"adam": {"ant": [1.0, 2.0, 3.0]}})
    rows += [result_rows.row("adam", "ant", 3, None, diverged=True)]
    (axes,) = comparison.returns_figure(rows).axes
    dots = {line.get_marker(): list(line.get_xdata()) for line in axes.lines}
    assert (dots["o"], dots["x"]) == ([1.0, 2.0, 3.0], [0.0])


def test_dormancy_is_drawn_where_it_was_measured():
    pytest.importorskip("matplotlib")
    rows = [result_rows.row(dormant=[0.0, 0.5]), result_rows.row("lion")]
    (axes,) = comparison.curves_figure(rows, "dormant").axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [[0.0, 0.5]]
    with pytest.raises(ValueError, match="no row has a 'dormant'"):
        comparison.curves_figure(rows[1:], "dormant")


def test_generalization_is_in_order_of_size():
    pytest.importorskip("matplotlib")
    at = {"64x64": 2.0, "16x16": 1.0, "256x256": 3.0}
    found = {"adam": {value: Estimate(y, None, None, 1) for value, y in at.items()}}
    figure = comparison.generalization_figure({"ant": found, "sea": found}, "hidden")
    axes, other = figure.axes
    assert (axes.get_title(), other.get_title()) == ("ant", "sea")
    labels = [label.get_text() for label in axes.get_xticklabels()]
    assert labels == ["16x16", "64x64", "256x256"]
    assert axes.lines[0].get_ydata().tolist() == [1.0, 2.0, 3.0]
    numbers = {"adam": {n: Estimate(1.0, 0.0, 2.0, 3) for n in (10_000, 100)}}
    (axes,) = comparison.generalization_figure({"ant": numbers}, "steps").axes
    assert axes.get_xscale() == "log"
    assert axes.lines[0].get_xdata().tolist() == [100, 10_000]


def test_the_same_figure_gives_the_same_files(tmp_path):
    pytest.importorskip("matplotlib")
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        figure = comparison.curves_figure([result_rows.row()])
        comparison.save(figure, tmp_path / folder / "x")
    for name in ("x.png", "x.svg", "x.pdf"):
        one, other = ((tmp_path / f / name).read_bytes() for f in ("a", "b"))
        assert one == other


def test_nothing_is_not_drawn():
    for draw in (
        comparison.aggregate_figure,
        lambda found: comparison.returns_figure(found),
        lambda found: comparison.profile_figure(np.zeros(1), found),
        lambda found: comparison.generalization_figure(found, "hidden"),
    ):
        with pytest.raises(ValueError, match="found is empty"):
            draw({})


@pytest.mark.parametrize("ending", ["png", "svg"])
def test_a_users_style_does_not_change_a_figure(tmp_path, ending):
    matplotlib = pytest.importorskip("matplotlib")
    rows = result_rows.random_table(games=("ant",), seeds=2)
    style = {
        "text.usetex": True,
        "axes.facecolor": "black",
        "font.size": 20,
        "savefig.bbox": "tight",
    }
    for name, changed in (("plain", {}), ("styled", style)):
        with matplotlib.rc_context(changed):
            before = dict(matplotlib.rcParams)
            figure = comparison.curves_figure(rows)
            comparison.save(figure, tmp_path / name)
            assert dict(matplotlib.rcParams) == before
    plain, styled = ((tmp_path / f"{n}.{ending}") for n in ("plain", "styled"))
    assert plain.read_bytes() == styled.read_bytes()
