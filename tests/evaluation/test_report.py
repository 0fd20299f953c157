import csv
import dataclasses
import io
import json
import math
import pathlib
import random
import re
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from learned_opt_rl import agents
from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.evaluation.pictures import comparison
from learned_opt_rl.evaluation.report import (
    comparable,
    gather,
    report,
    statistics,
    tables,
    write,
)
from learned_opt_rl.evaluation.report.verdict import verdict
from learned_opt_rl.evaluation.runs.row import append_rows, read_rows
from learned_opt_rl.rundir import jsonl
from tests.evaluation.result_rows import changed, random_table, row, table

NASTY = '"><script>alert(1)</script>&$x$'
VOID = {"meta", "img", "source"}


@pytest.fixture
def without_plots(monkeypatch):
    """Figures take most of a report's time."""
    monkeypatch.setattr(write, "draw", lambda *_: [])


def written(folder, rows, failures=(), **options):
    """The report's files by name, of a folder with these rows."""
    folder.mkdir(exist_ok=True)
    append_rows(folder / "rows.jsonl", rows)
    if failures:
        jsonl.append(folder / "failures.jsonl", failures)
    _, paths = write.write(folder, **options)
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in paths}


def nasty_rows():
    rows = random_table(("adam", "goldie2024/breakout", NASTY), ("ant", NASTY), 5)
    rows[0] = changed(
        rows[0], dormant=[0.0, 0.5], versions={NASTY: NASTY}, device=NASTY
    )
    details = {NASTY: NASTY}
    rows[1] = changed(rows[1], revision=NASTY, cpu=NASTY, environment_details=details)
    rows += [changed(r, variant={"hidden": NASTY}) for r in rows]
    rows[-1] = changed(rows[-1], final_return=None, diverged=True)
    return rows


class Page(HTMLParser):
    """Checks that tags are closed, and collects them and the text."""

    def __init__(self, content):
        super().__init__()
        self.open, self.tags, self.text = [], [], ""
        self.feed(content.decode())
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data


def test_a_whole_report_of_rows_that_nobody_vouches_for(tmp_path):
    pytest.importorskip("matplotlib")
    failure = {"rule": NASTY, "environment": "ant", "message": NASTY, "traceback": "t"}
    files = written(tmp_path / "a", nasty_rows(), [failure])
    page = Page(files["report.html"])
    names = {name for name, _ in page.tags}
    assert "script" not in names and "link" not in names
    places = {f"#{attributes.get('id')}" for _, attributes in page.tags}
    # Nothing from the network: pictures are in the page, and links lead to its parts.
    for name, attributes in page.tags:
        assert name != "img" or attributes["src"].startswith("data:image/svg+xml;")
        assert name != "a" or attributes["href"] in places
        assert not any(key.startswith("on") for key in attributes)
    assert not re.search(rb"https?://", files["report.html"])
    assert page.text.count(NASTY) > 20  # it is all there, as text
    pictures = sum(name == "img" for name, _ in page.tags)
    assert pictures == sum(name.endswith(".svg") for name in files) == 13
    kinds = ("overview", "curves", "returns", "dormancy", "aggregates", "profiles")
    for kind in kinds:
        assert f"plots/{kind}-1.png" in files
    assert "plots/generalization-1-hidden.png" in files
    json.loads(files["report.json"])
    json.loads(files["leaderboard.json"])


def test_the_same_rows_in_any_order_give_the_same_bytes(tmp_path):
    pytest.importorskip("matplotlib")
    rows = random_table(games=("ant",), seeds=3)
    first = written(tmp_path / "a", rows)
    random.Random(1).shuffle(rows)
    assert written(tmp_path / "b", rows) == first


def test_only_timing_depends_on_the_clock(tmp_path, without_plots):
    slow = [
        changed(r, wall_seconds=99.0, steps_per_second=1.0, compile_seconds=5.0)
        for r in random_table()
    ]
    one, other = (
        json.loads(written(tmp_path / name, rows)["report.json"])
        for name, rows in (("a", random_table()), ("b", slow))
    )
    assert one.pop("timing") != other.pop("timing")
    assert one == other


def test_numbers_are_those_of_the_statistics(tmp_path, without_plots):
    rows = random_table(("adam", "goldie2024/ant"))
    data = json.loads(written(tmp_path, rows)["report.json"])
    (setting,) = data["settings"]
    (found,) = gather.gather(rows)
    assert setting["normalization"]["method"] == "adam"
    iqm = statistics.aggregate(found.scores.matrices["adam"])["IQM"]
    assert setting["aggregates"]["adam"]["IQM"] == iqm.to_dict()
    assert setting["aggregates"]["adam"]["mean"]["value"] == pytest.approx(1)
    parts = setting["distributions"]["goldie2024/ant"]
    assert set(parts) == {"i.d.", "o.o.d."}
    ant = [r for r in rows if r.environment == "ant"]
    (only,) = gather.gather(ant)
    own = only.aggregates["goldie2024/ant"]["mean"].to_dict()
    assert parts["i.d."]["goldie2024/ant"]["mean"] == own
    assert parts["i.d."]["adam"]["mean"]["value"] == pytest.approx(1)
    improvement = setting["probability_of_improvement"]
    assert set(improvement) == {"goldie2024/ant"}
    assert data["run"]["commands"] == [
        "learned-opt-rl compare adam goldie2024/ant --environments ant hopper "
        "--seeds 5 --steps 1000 --out again"
    ]


@pytest.mark.parametrize("name", ["jinja2", "matplotlib", "tabulate"])
def test_a_missing_package_is_named_before_anything_is_written(
    tmp_path, monkeypatch, name
):
    monkeypatch.setitem(sys.modules, name, None)
    message = rf"reports need {name}: pip install 'learned-opt-rl\[eval\]'"
    with pytest.raises(MissingExtraError, match=message):
        write.require_extras()
    with pytest.raises(MissingExtraError, match=message):
        written(tmp_path, random_table())
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_statistics_are_gathered_once(tmp_path, without_plots, monkeypatch):
    calls = []
    for module, name in ((gather, "gather"), (comparable, "read")):
        original = getattr(module, name)

        def counted(*a, original=original, name=name, **k):
            calls.append(name)
            return original(*a, **k)

        monkeypatch.setattr(module, name, counted)
    written(tmp_path, random_table())
    assert sorted(calls) == ["gather", "read"]


def test_what_makes_runs_less_comparable_is_noted(tmp_path, without_plots):
    rows = table({"adam": {"ant": [1.0, 2.0]}, "lion": {"ant": [1.0]}})
    rows += [row("lion", "ant", 0, 3.0), row("lion", "ant", 7, config={"hidden": [8]})]
    rows += [row("sgd", "ant", 0, None, diverged=True), row("sgd", "sea", 0, None)]
    (found,) = gather.gather(rows)
    notes = "\n".join(found.notes)
    for note in (
        "1 of 6 runs diverged. 1 of 6 runs were too short for one episode (sea), so",
        "Run more steps. Each counts as 0.00 in ant. No",
        "environment and seed. Number of ignored rows: 1.",
        "The rules ran with different seeds in ant. Paired differences use only the",
        "differ in more than their rules: setting hidden 64x64 (adam, lion, sgd), 8 "
        "(lion) (in ant).",
    ):
        assert note in notes
    text = report.Report(rows).summary()
    assert all(f"- {note}" in text for note in found.notes)


def test_without_adam_the_report_says_so(without_plots, tmp_path):
    rows = table({"lion": {"mine": [1.0, 2.0, 3.0]}})
    files = written(tmp_path, rows)
    assert "The baseline adam was not run" in Page(files["report.html"]).text
    (setting,) = json.loads(files["report.json"])["settings"]
    assert setting["normalization"]["method"] == "raw"
    assert "optimality gap" not in setting["aggregates"]["lion"]
    with pytest.raises(ValueError, match="normalization=adam needs runs of 'adam'"):
        write.write(tmp_path, normalization="adam")


def test_runs_that_all_failed_are_reported(without_plots, tmp_path):
    files = written(tmp_path, [row(final=None, curve=[None], diverged=True)])
    assert "1 of 1 runs diverged" in Page(files["report.html"]).text
    (line,) = json.loads(files["leaderboard.json"])
    only = line["measures"]["Breakout-MinAtar"]
    assert (only["final"], only["failed"]) == (None, 1)
    assert line["average_rank"] is None


def test_one_seed_has_no_interval(without_plots, tmp_path):
    rows = table({"adam": {"ant": [1.0]}, "lion": {"ant": [2.0]}})
    text = Page(written(tmp_path, rows)["report.html"]).text
    assert "2.00 (1 seed)" in text and "2.00 [" not in text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "rows.jsonl has no rows; run a comparison first"),
        ("", "rows.jsonl has no rows"),
        ("{\n", "line 1 is not valid JSON"),
        ('{"rule": "adam"}\n', "row 1 has environment=None, which must be a name"),
    ],
)
def test_a_folder_without_results_is_refused(tmp_path, content, message):
    if content is not None:
        (tmp_path / "rows.jsonl").write_text(content)
    with pytest.raises(ValueError, match=message):
        write.write(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_axes_are_what_settings_differ_in():
    rows = random_table(config={"hidden": [64, 64]})
    rows += [changed(r, variant={"hidden": "8x8"}) for r in rows]
    rows += [changed(r, variant={"activation": "tanh"}) for r in rows[:20]]
    found = gather.axes(gather.gather(rows))
    assert set(found) == {"hidden"}  # relu is not in these configurations
    assert list(found["hidden"]) == ["ant", "hopper"]
    assert list(found["hidden"]["ant"]["adam"]) == ["8x8", "64x64"]
    lengths = [changed(r, total_timesteps=n) for r in random_table() for n in (10, 20)]
    found = gather.axes(gather.gather(lengths))
    assert set(found["total_timesteps"]["ant"]["lion"]) == {10, 20}


def test_an_axis_shows_returns_as_they_are(tmp_path, without_plots):
    # Adam gains more by width than lion does, which normalized would seem to lose.
    means = {"128x128": (8.0, 6.0), "16x16": (1.0, 3.0)}
    rows = [
        r
        for hidden, (adam, lion) in means.items()
        for r in table(
            {"adam": {"ant": [adam]}, "lion": {"ant": [lion]}},
            variant={"hidden": hidden},
        )
    ]
    data = json.loads(written(tmp_path, rows)["report.json"])
    shown = data["generalization"]["hidden"]["ant"]
    assert [(p["at"], p["value"]) for p in shown["adam"]] == [
        ("16x16", 1.0),
        ("128x128", 8.0),
    ]
    assert [p["value"] for p in shown["lion"]] == [3.0, 6.0]


def test_missing_features_are_an_axis_of_the_report(tmp_path):
    pytest.importorskip("matplotlib")
    finals = {"minatar@no-horizon": 1.0, "minatar": 3.0, "adam": 2.0}
    rows = table({rule: {"ant": [final]} for rule, final in finals.items()})
    files = written(tmp_path, rows)
    assert "plots/generalization-1-features.svg" in files
    page = Page(files["report.html"])
    assert "Final return, not normalized, without each feature" in page.text
    shown = json.loads(files["report.json"])["generalization"]["features"]["ant"]
    points = {rule: [(p["at"], p["value"]) for p in shown[rule]] for rule in shown}
    assert points == {
        "adam": [("all", 2.0)],
        "minatar": [("all", 3.0), ("no-horizon", 1.0)],
    }


def test_a_missing_feature_joins_its_rule_under_every_name():
    old, installed = {"weights_sha256": "1" * 64}, {}
    rows = [
        row(rule, "ant", final=final, agent=agent, **weights)
        for agent in ("ppo", "a2c")
        for weights in (old, installed)
        for rule, final in {
            "goldie2024/ant": 3.0,
            "goldie2024/ant@no-horizon": 1.0,
        }.items()
    ]
    shown = gather.axes(gather.gather(comparable.named(rows)))["features"]["ant"]
    assert set(shown) == {
        "goldie2024/ant",
        "goldie2024/ant:11111111",
        "goldie2024/ant (a2c)",
        "goldie2024/ant:11111111 (a2c)",
    }
    for points in shown.values():
        values = {feature: e.value for feature, e in points.items()}
        assert values == {"all": 3.0, "no-horizon": 1.0}


def test_failures_are_those_beside_the_rows(tmp_path, without_plots):
    written(tmp_path / "a", [row()], [{"rule": "lion", "message": "no"}])
    append_rows(tmp_path / "a" / "other.jsonl", [row(seed=1)])
    for name in ("a", "a/rows.jsonl"):
        out = tmp_path / "out"
        write.write(out, tmp_path / name, tmp_path / "a" / "other.jsonl")
        (failure,) = json.loads((out / "report.json").read_text())["failures"]
        assert failure["rule"] == "lion"


def test_the_leaderboard_of_this_repository(tmp_path, repository, without_plots):
    rows = read_rows(repository / "results" / "released_5e5.jsonl")
    adam, learned = json.loads(written(tmp_path, rows)["leaderboard.json"])
    assert (adam["rule"], learned["rule"]) == ("adam", "goldie2024/minatar")
    assert (adam["average_rank"], learned["average_rank"]) == (1, 2)
    only = learned["measures"]["Breakout-MinAtar"]
    assert only["final"]["interval"] is None  # of four seeds
    assert learned["too_few"] == {"Breakout-MinAtar": 4}
    assert learned["iqm"] is None
    assert (only["seeds"], only["steps"]) == ([0, 1, 2, 3], 500_000)


def test_numbers_of_this_repository_stay_the_same(repository):
    """Golden: as reported before the statistics were vectorized."""
    (found,) = gather.gather(read_rows(repository / "results" / "minatar_1e6.jsonl"))
    (m,) = (
        m
        for m in found.measures
        if (m.rule, m.environment)
        == ("distilled/sign_mixture", "SpaceInvaders-MinAtar")
    )
    assert tables.cell(m.final) == "78.90 [70.72, 87.09]"
    assert tables.cell(m.paired) == "-1.00 [-6.06, 5.06]"
    assert tables.cell(m.auc) == "39.82 [35.92, 43.72]"
    own = found.aggregates["distilled/sign_mixture"]
    values = [own[metric].value for metric in statistics.METRICS]
    np.testing.assert_allclose(
        values,
        [0.885252291851, 0.880753433296, 0.913172629238, 0.126226003026],
        rtol=1e-9,
    )
    assert found.improvement["distilled/sign_mixture"].value == pytest.approx(
        0.265, rel=1e-9
    )
    # rliable's intervals, up to the noise of 2000 resamples.
    np.testing.assert_allclose(
        [own["IQM"].low, own["IQM"].high], [0.8546, 0.9446], atol=0.01
    )


def test_a_summary_of_this_repositorys_rows(repository):
    rows = read_rows(repository / "results" / "breakout_1e6.jsonl")
    kept = ("adam", "distilled/sign_momentum", "discovered/lpo_symbolic_ant_as_printed")
    text = report.Report([r for r in rows if r.rule in kept]).summary()
    assert any(line.endswith("  1 diverged") for line in text.splitlines())
    assert "1 of 9 runs diverged" in text


def test_figures_name_their_missing_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"learned-opt-rl\[eval\]"):
        comparison.curves_figure([row()])


def test_the_page_says_that_intervals_of_few_seeds_are_too_narrow(
    tmp_path, without_plots
):
    text = Page(written(tmp_path, random_table())["report.html"]).text
    assert "from fewer than 5 seeds have no interval" in text
    assert "they cover less than 95%" in text


def test_another_baseline_is_compared_with_everywhere(tmp_path, without_plots):
    rows = random_table(("adam:1e-3", "lion"), ("chain/short",))
    files = written(tmp_path, rows, baseline="adam:1e-3")
    (setting,) = json.loads(files["report.json"])["settings"]
    assert setting["baseline"] == "adam:1e-3"
    assert setting["normalization"]["method"] == "rule:adam:1e-3"
    assert set(setting["probability_of_improvement"]) == {"lion"}
    text = Page(files["report.html"]).text
    for words in ("minus adam:1e-3, paired", "P(better than adam:1e-3)"):
        assert words in text
    assert "Adam" not in text
    assert "minus adam:1e-3" in report.Report(rows, baseline="adam:1e-3").summary()


def test_what_is_not_shown_is_not_explained(tmp_path, without_plots):
    rows = random_table(("lion", "sgd"), ("mine",))
    text = Page(written(tmp_path, rows)["report.html"]).text
    assert "each run is not normalized, so environments with large" in text
    assert "IQM" in text
    for words in ("optimality gap", "P(better", "paired difference compares"):
        assert words not in text.replace("minus Adam, paired", "")


def ppo(environment, **changes):
    """The published PPO as rows have it."""
    config = dataclasses.asdict(agents.preset(environment, 1e6, **changes))
    return json.loads(json.dumps(config))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, None),
        ({"agent": "a2c"}, "agent=a2c"),
        ({"config": ppo("ant", hidden=(8, 8), gamma=0.5)}, "gamma=0.5, hidden=8x8"),
    ],
)
def test_tuned_rules_outside_of_what_they_were_tuned_for_are_noted(changes, said):
    rows = [row(rule, "ant") for rule in ("adam", "lion", "minatar", "adam:1e-3")]
    rows = [changed(r, **({"config": ppo("ant")} | changes)) for r in rows]
    (found,) = gather.gather(rows)
    notes = [note for note in found.notes if "tuned for the published PPO" in note]
    assert notes == [
        "The settings of adam, lion were tuned for the published PPO and were not "
        f"tuned again for the changes in these runs ({said})."
    ] * bool(said)
    (untouched,) = gather.gather(rows[2:])
    assert not any("published PPO" in note for note in untouched.notes)


@pytest.mark.parametrize(
    ("gain", "seeds", "said"),
    [
        (5.0, 5, "Better than Adam: mine. The interquartile mean of"),
        (-5.0, 5, "Worse than Adam: mine."),
        (0.0, 5, "No clear difference from Adam: mine."),
        (5.0, 4, "Too few seeds to call any rule better or worse than Adam; run at"),
    ],
)
def test_a_verdict_needs_an_interval(gain, seeds, said):
    finals = [10.0 + 0.1 * i for i in range(seeds)]
    rows = table({"adam": {"a": finals}, "mine": {"a": [x + gain for x in finals]}})
    (found,) = gather.gather(rows)
    assert verdict(found).startswith(said)
    assert verdict(found).endswith(f"(1,000 steps, {seeds} seeds, a)")


def test_the_best_of_worse_rules_is_not_called_the_highest_of_all():
    rows = table({r: {"a": [x] * 5} for r, x in (("adam", 10), ("a", 5), ("b", 3))})
    (found,) = gather.gather(rows)
    assert verdict(found).startswith(
        "Worse than Adam: a, b. Of the 2 rules compared with Adam, a has the highest "
        "interquartile mean: 0.50 [0.50, 0.50] times Adam's return."
    )


def test_without_a_baseline_there_is_no_verdict():
    (found,) = gather.gather(table({"lion": {"a": [1.0] * 5}}))
    assert verdict(found) == (
        "No rule is compared with Adam. Rules that ran: lion. The interquartile mean "
        "of lion is 1.00 [1.00, 1.00]. (1,000 steps, 5 seeds, a)"
    )


@pytest.mark.parametrize(
    ("returns", "said"),
    [
        (
            {"adam": [1.0, 2.0, 2.0, 3.0, 4.0], "a": [2.0, 3.0, 4.0, 4.0, 5.0]},
            "returns more than Adam in 78% [48%, 100%] of all pairs of runs, where a "
            "tie counts half.",
        ),
        (
            {"adam": [1.0] * 5, "a": [2.0] * 5, "b": [2.001] * 5},
            "Better than Adam: a, b. a and b have the same interquartile mean: "
            "2.00 times Adam's return. (1",
        ),
        (
            {"adam": [1.0], "a": [2.0]},
            "Too few seeds to call any rule better or worse than Adam; run at least 5. "
            "The interquartile mean of a is 2.00 times Adam's return. (1,000 steps, 1 "
            "seed, ant)",
        ),
    ],
)
def test_a_verdict_states_ties_and_no_share_of_one_pair(returns, said):
    rows = table({rule: {"ant": finals} for rule, finals in returns.items()})
    (found,) = gather.gather(rows)
    assert said in verdict(found)


def test_a_report_has_frames(tmp_path):
    pytest.importorskip("pandas")
    append_rows(tmp_path / "rows.jsonl", random_table(games=("ant",), seeds=5))
    loaded = report.load(str(tmp_path))
    means = loaded.frame.groupby("rule")["final_return"].mean()
    shown = loaded.results.set_index("rule")
    np.testing.assert_allclose(means, shown["final_return"])
    assert (shown["final_return_low"] < shown["final_return"]).all()
    assert len(loaded.curves) == 30
    assert loaded.aggregates.set_index("rule").loc["adam", "mean"] == pytest.approx(1)
    assert "Adam" in loaded.verdict


@pytest.mark.parametrize("steps", [[1000], [1000, 2000]])
def test_a_printed_table_has_returns_and_fits_a_terminal(monkeypatch, steps):
    pandas = pytest.importorskip("pandas")
    monkeypatch.setenv("COLUMNS", "80")
    games = ("Asterix-MinAtar", "SpaceInvaders-MinAtar")
    rules = ("adam", "distilled/sign_mixture")
    made = [random_table(rules, games, total_timesteps=n) for n in steps]
    frame = report.Report(sum(made, [])).table
    with pandas.option_context("display.max_columns", 0, "display.width", 80):
        lines = str(frame).splitlines()
    seen = "\n".join(line[:80] for line in lines)
    assert "final_return" in seen and str(frame["final_return"].iloc[0]) in seen
    if len(steps) == 1:
        assert max(map(len, lines)) <= 80
        assert "low" in seen and "high" in seen and "..." not in seen


@pytest.mark.parametrize("seeds", [1, 2, 5])
def test_a_table_shows_intervals_and_failures(seeds):
    pytest.importorskip("pandas")
    rows = random_table(games=("ant",), seeds=seeds)
    rows = [
        dataclasses.replace(row, final_return=None, diverged=True, curve=[None])
        if row.rule == "lion"
        else row
        for row in rows
    ]
    shown = report.Report(rows).table.loc["ant"]
    assert shown["low"].notna()["adam"] == (seeds == 5)
    assert shown["failed"].to_dict() == {"adam": 0, "lion": seeds}
    assert "failed" not in report.Report(rows[:seeds]).table
    nothing = [row for row in rows if row.rule == "lion"]
    (line,) = report.Report(nothing).table.itertuples()
    assert math.isnan(line.final_return) and line.failed == seeds


def test_a_figure_is_drawn_once_and_alone(monkeypatch):
    pytest.importorskip("matplotlib")
    found, names = report.Report(random_table(games=("ant",))), []
    for kind in ("curves", "returns", "aggregate", "profile"):
        real = getattr(comparison, f"{kind}_figure")

        def draw(*rest, kind=kind, real=real, **how):
            names.append(kind)
            return real(*rest, **how)

        monkeypatch.setattr(comparison, f"{kind}_figure", draw)
    assert [*found.figures] == [
        "overview",
        "curves",
        "returns",
        "aggregates",
        "profiles",
    ]
    assert names == []
    assert found.figures["curves"] is found.figures["curves"]
    assert names == ["curves"]


def test_a_notebook_shows_verdict_table_and_curves():
    pytest.importorskip("matplotlib")
    page = Page(report.Report(random_table(games=("ant",)))._repr_html_().encode())
    assert [name for name, _ in page.tags].count("img") == 1
    assert "interquartile mean" in page.text and "lion" in page.text


def test_tables_are_files_too(tmp_path, without_plots):
    files = written(tmp_path, random_table())
    lines = files["tables/results.csv"].decode().splitlines()
    assert lines[0].startswith("environment,rule,seeds,final_return,final_return_low")
    assert len(lines) == 5
    assert files["tables/aggregates.tex"].startswith(b"\\begin{tabular}")


def test_no_name_breaks_a_table_or_runs_in_a_spreadsheet(tmp_path, without_plots):
    rows = random_table(("adam", "lone\ud800", '=cmd("x")', "@a", "+a", "-a"))
    rows = [changed(row, final_return=-row.final_return) for row in rows]
    files = written(tmp_path, rows)
    text = files["tables/runs.csv"].decode()
    names = {line["rule"] for line in csv.DictReader(io.StringIO(text))}
    assert names == {"adam", "lone?", '\'=cmd("x")', "'@a", "'+a", "'-a"}
    returns = [x["final_return"] for x in csv.DictReader(io.StringIO(text))]
    assert all(float(x) < 0 for x in returns)  # Numbers stay numbers.


def test_only_some_rules_and_a_title(tmp_path, without_plots):
    rows = random_table(("adam", "lion", "sgd"))
    files = written(tmp_path, rows, only=["lion", "ant"], title="Mine & yours")
    page = Page(files["report.html"])
    assert "Mine & yours" in page.text
    assert "Not shown in this report: sgd, hopper." in page.text
    data = json.loads(files["report.json"])
    assert data["run"]["rules"] == ["adam", "lion"]  # The baseline stays.
    assert data["run"]["environments"] == ["ant"]
    with pytest.raises(ValueError, match="only='lin': must name"):
        report.load(tmp_path, only="lin")


def test_only_takes_the_names_that_a_report_prints(tmp_path):
    pytest.importorskip("pandas")
    games = ("ant", "hopper")
    rows = random_table(("adam", "lion"), games)
    rows += random_table(("adam", "lion"), games, agent="a2c")
    append_rows(tmp_path / "rows.jsonl", rows)
    failures = [
        {"rule": rule, "agent": agent, "environment": name, "message": "no"}
        for rule in ("adam", "lion", "sgd")
        for agent in ("ppo", "a2c")
        for name in games
    ]
    jsonl.append(tmp_path / "failures.jsonl", failures)
    found = report.load(
        tmp_path, only=["lion (a2c)", "ant"], baseline="adam (a2c)", normalization="raw"
    )
    assert set(found.frame["rule"]) == {"adam (a2c)", "lion (a2c)"}
    assert {(row.rule, row.agent) for row in found.rows} == {
        ("adam", "a2c"),
        ("lion", "a2c"),
    }
    assert [*found.left_out] == ["adam", "lion", "hopper"]
    assert found.summary().endswith("Not shown in this report: adam, lion, hopper.")
    assert "It returns more than adam (a2c) in" in found.verdict
    shown = {(f["rule"], f["agent"], f["environment"]) for f in found.failures}
    assert shown == {("adam", "a2c", "ant"), ("lion", "a2c", "ant")}


def test_steps_that_were_not_played_are_noted():
    config = {"num_envs": 3, "num_steps": 100}
    (found,) = gather.gather([row(config=config)])
    assert found.notes[-1] == (
        "Steps that do not fill a rollout are not played: runs have 900 of 1,000 steps "
        "(rollouts of 300)."
    )


def test_a_fact_is_stated_once(tmp_path, without_plots):
    gammas = {"ant": 0.9, "sea": 0.5}
    rows = [
        row("adam", name, seed, config={"gamma": gamma, "depth": 8})
        for name, gamma in gammas.items()
        for seed in (0, 1)
    ]
    text = Page(written(tmp_path, rows)["report.html"]).text
    assert text.count("depth=8") == 1
    assert "settings of antgamma=0.9" in text and "settings of seagamma=0.5" in text


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_wider_than_the_screen(tmp_path, width):
    api = pytest.importorskip("playwright.sync_api")
    chromium = pathlib.Path("/usr/bin/chromium")
    if not chromium.exists():
        pytest.skip("needs Debian's chromium")
    rows = random_table(("adam", "distilled/" + "long_name_" * 5), ("ant", "sea"))
    written(tmp_path / "report", rows)
    with api.sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=chromium, args=flags)
        page = browser.new_page(viewport={"width": width, "height": 800})
        messages = []
        page.on("console", lambda message: messages.append(message.text))
        page.goto((tmp_path / "report" / "report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == width
        assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
        # The verdict and the curves are on the first screen of a desk.
        top = page.locator("figure").nth(1).bounding_box()["y"]
        assert width < 1000 or top < 500
        assert messages == []
        browser.close()
