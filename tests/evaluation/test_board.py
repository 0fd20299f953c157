import importlib
import json

import pytest

from learned_opt_rl.evaluation.report import board, tables, write
from learned_opt_rl.evaluation.report.board import Cost
from learned_opt_rl.evaluation.report.comparable import named
from learned_opt_rl.evaluation.report.gather import gather
from learned_opt_rl.evaluation.report.statistics import average_ranks
from learned_opt_rl.evaluation.runs.row import append_rows
from tests.evaluation.result_rows import changed, row, table

RETURNS = {
    "adam": {"a": [2.0] * 5, "b": [10.0] * 5},
    "lion": {"a": [4.0] * 5, "b": [5.0] * 5},
    "sgd": {"a": [3.0] * 5},
}


def lines(returns, costs=None):
    (result,) = gather(table(returns))
    return {line.rule: line for line in board.lines(result, costs)}


def test_numbers_are_those_worked_out_by_hand():
    costs = {"adam": Cost(100.0, 1.0), "lion": Cost(50.0, 3.0)}
    found = lines(RETURNS, costs=costs)
    adam, lion, sgd = (found[rule] for rule in RETURNS)
    assert list(found) == ["adam", "lion", "sgd"]  # a tie, and no rank
    assert (adam.average_rank, lion.average_rank, sgd.average_rank) == (1.5, 1.5, None)
    # Five runs at 2 and five at 0.5; the middle half has three of each.
    assert lion.iqm and lion.iqm.value == pytest.approx(1.25)
    assert adam.iqm and (adam.iqm.value, adam.iqm.low) == (1, 1)
    # Every run is better in one environment, and none in the other.
    assert lion.improvement and lion.improvement.value == 0.5
    assert adam.improvement is sgd.improvement is sgd.iqm is None
    # Curves are 0, 0.5 and the final return.
    assert lion.relative_auc == pytest.approx((4.5 / 2.5 + 5.5 / 10.5) / 2)
    assert (adam.relative_auc, sgd.relative_auc) == (1, None)
    assert (adam.run_time, lion.run_time, sgd.run_time) == (1, 2, None)
    assert (lion.update_time, sgd.update_time) == (3, None)
    # 1000 steps at 50 a second. Adam's return in b is never reached.
    assert lion.seconds == {"a": 20.0}
    assert sgd.too_few == {"b": 0} and not sgd.seconds


def test_few_seeds_of_a_rule_or_of_the_reference_have_no_iqm():
    few = {"lion": {"a": [1.0] * 4, "b": [1.0] * 5}}
    found = lines(RETURNS | few)
    assert found["lion"].iqm is None and found["lion"].too_few == {"a": 4}
    assert found["adam"].iqm is not None
    found = lines(RETURNS | {"adam": {"a": [1.0] * 4, "b": [1.0] * 5}})
    assert found["lion"].iqm is None and not found["lion"].too_few


FIVE = [2.0] * 5
NEGATIVE = [-1.0] * 5


@pytest.mark.parametrize(
    ("returns", "environments", "ranked"),
    [
        (
            {
                "adam": {"a": FIVE, "b": FIVE, "no reference": NEGATIVE},
                "lion": {"a": FIVE, "b": FIVE, "no reference": FIVE},
                "sgd": {"a": FIVE},
            },
            ("a", "b"),
            {"adam", "lion"},
        ),
        (
            {"adam": {"a": FIVE, "b": FIVE}, "lion": {"a": FIVE}, "sgd": {"a": FIVE}},
            ("a",),
            {"adam", "lion", "sgd"},
        ),
        (
            # No rule ran everywhere.
            {rule: {"a": FIVE, rule: FIVE} for rule in ("adam", "lion", "sgd")},
            ("a",),
            {"adam", "lion", "sgd"},
        ),
    ],
)
def test_the_board_has_the_aggregates_of_the_report(returns, environments, ranked):
    (result,) = gather(table(returns), "adam")
    found = {line.rule: line for line in board.lines(result)}
    assert found["lion"].iqm and found["lion"].improvement
    for rule, line in found.items():
        assert line.environments == result.scores.environments == environments
        assert line.improvement == result.improvement.get(rule)
        assert line.iqm == result.aggregates.get(rule, {}).get("IQM")
        assert (line.average_rank is not None) == (rule in ranked)
        assert line.measures.keys() == returns[rule].keys()


def test_one_rule_alone_has_no_rank():
    assert lines({"adam": RETURNS["adam"]})["adam"].average_rank is None


def test_a_failed_run_ranks_last():
    rows = [row("adam", seed=seed, final=-1.0) for seed in range(5)]
    rows += [changed(r, rule="lion", diverged=True, final_return=9.0) for r in rows]
    (result,) = gather(rows)
    first, last = board.lines(result)
    assert (first.rule, last.rule, last.average_rank) == ("adam", "lion", 2)


def test_a_rank_of_few_seeds_does_not_lead_the_board():
    returns = {"lucky": {"a": [9.0]}, **{r: {"a": [1.0] * 5} for r in ("adam", "b")}}
    (result,) = gather(table(returns))
    assert [line.rule for line in board.lines(result)] == ["adam", "b", "lucky"]


def test_average_ranks_share_ties():
    means = {"a": [1.0, 9.0], "b": [1.0, 9.0], "c": [2.0, 3.0]}
    assert average_ranks(means) == {"a": 2.0, "b": 2.0, "c": 2.0}
    assert average_ranks({}) == {}
    with pytest.raises(
        ValueError, match="must be equal. Pass one mean per environment"
    ):
        average_ranks({"a": [1.0], "b": [1.0, 2.0]})


def test_tables_show_what_is_missing():
    few = {"lion": {"a": [1.0] * 4, "b": [1.0] * 4}, "sgd": {"a": [3.0]}}
    found = [*lines(RETURNS | few, costs={"adam": Cost(100.0, 1.0)}).values()]
    heads, adam, lion, sgd = tables.board(found)
    assert heads[:3] == ("rule", "agent", "average rank")
    assert adam == (
        "adam",
        "ppo",
        "1.0",
        "1.00 [1.00, 1.00]",
        "1/2",
        "1.00",
        "1",
        "1.00",
    )
    assert lion[2:5] == ("2.0 (4 seeds)", "too few seeds: 4", "0.00 (4 seeds)")
    assert sgd[2:] == ("-", "too few seeds: a 1, b 0", "-", "-", "-", "-")
    assert tables.board_returns(found, ("a", "b"))[3] == (
        "sgd",
        "ppo",
        "3.00 (1 seed)",
        "-",
    )
    seconds = tables.board_seconds(found, ("a", "b"))
    assert seconds == [("rule", "agent", "a", "b"), ("adam", "ppo", "10.0", "10.0")]


def test_few_seeds_are_listed_unless_they_are_the_same_everywhere():
    games = "abcd"
    returns = {rule: dict.fromkeys(games, [1.0] * 5) for rule in ("adam", "lion")}
    returns["sgd"] = dict.fromkeys("ab", [1.0] * 5)
    found = tables.board([*lines(returns).values()])
    assert found[3][3] == "too few seeds: c 0, d 0"


def test_agents_and_replaced_weights_have_names_of_their_own():
    old, new = "1" * 64, "2" * 64
    rows = [
        row("adam"),
        row("adam", agent="a2c"),
        row("lpg/mine", agent="lpg"),
        row("mine", weights_sha256=old),
        row("mine", weights_sha256=new),
        row("mine"),
        row("once", weights_sha256=old),
        row("goldie2024/minatar", weights_sha256=old),
        row("goldie2024/minatar@no-horizon", weights_sha256=old, agent="a2c"),
        row("mine@no-horizon", weights_sha256=new),
    ]
    assert [r.rule for r in named(rows)] == [
        "adam",
        "adam (a2c)",
        "lpg/mine (lpg)",
        "mine:11111111",
        "mine",  # the last version
        "mine",
        "once",
        "goldie2024/minatar:11111111",  # not the weights that are installed
        "goldie2024/minatar@no-horizon:11111111 (a2c)",
        "mine@no-horizon",
    ]
    alone = [row("adam", agent="a2c")]
    assert named(alone) == alone


def test_runs_that_differ_in_their_setting_are_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "draw", lambda *_: [])
    rows = [row(versions={"jax": version}) for version in ("0.4.30", "0.10.2")]
    append_rows(tmp_path / "rows.jsonl", rows)
    write.write(tmp_path)
    found = json.loads((tmp_path / "leaderboard.json").read_text())
    assert {line["setting"] for line in found} == {"jax=0.4.30", "jax=0.10.2"}
    assert not found[0].keys() & {*board.COSTS}


def test_one_report_of_several_agents_and_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(write, "draw", lambda *_: [])
    parts = {"adam": {"a": [2.0, 4.0]}}, {"adam": {"a": [3.0, 1.0]}}
    agents = ("ppo", "a2c")
    for agent, returns in zip(agents, parts, strict=True):
        rows = [changed(r, agent=agent, config={}) for r in table(returns)]
        append_rows(tmp_path / agent / "rows.jsonl", rows)
    folders = tmp_path / "ppo", tmp_path / "a2c" / "rows.jsonl"
    text, _ = write.write(tmp_path / "out", *folders)
    (line,) = [
        line for line in text.splitlines() if line.startswith("a ") and "(a2c)" in line
    ]
    assert line.split()[:3] == ["a", "adam", "(a2c)"]
    assert "The settings of adam (a2c) were tuned for the published PPO" in text
    first, second = json.loads((tmp_path / "out/leaderboard.json").read_text())
    assert (first["rule"], first["agent"]) == ("adam", "ppo")
    assert (second["rule"], second["agent"]) == ("adam (a2c)", "a2c")
    # Of the pairs 3 and 1 with 2 and 4, one is better.
    assert second["improvement"]["value"] == 0.25
    report = json.loads((tmp_path / "out/report.json").read_text())
    assert report["run"]["rules"] == ["adam"]
    assert len(report["settings"]) == 1


def test_the_board_of_this_repository(tmp_path, repository, monkeypatch):
    monkeypatch.syspath_prepend(str(repository / "docs"))
    page = importlib.import_module("_board_page")
    page.write_board(tmp_path, repository / "results")
    data = json.loads((tmp_path / "board.json").read_text())
    assert set(data) == set(page.HORIZONS)
    for name, found in data.items():
        (adam,) = (line for line in found if line["rule"] == "adam")
        assert len(adam["measures"]) == 4
        assert (adam["relative_auc"], adam["run_time"], adam["update_time"]) == (
            1,
            1,
            1,
        )
        text = (tmp_path / f"board_{name}.md").read_text()
        assert text.count("| adam ") == 3  # aggregates, returns and seconds
