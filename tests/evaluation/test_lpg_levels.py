import dataclasses
import pathlib

import jax
import numpy as np
import pytest

from learned_opt_rl.cli import main
from learned_opt_rl.evaluation.lpg import levels
from learned_opt_rl.evaluation.lpg.levels import Levels
from learned_opt_rl.rules import lpg
from learned_opt_rl.rundir import jsonl

SMALL = Levels("gridworld/small", levels=3, seeds=2, updates=12, batch=3)


def tiny_rule() -> lpg.UpdateRule:
    architecture = lpg.Architecture(width=4, embedding=3, target_width=2)
    return lpg.UpdateRule(lpg.init(jax.random.key(1), architecture), architecture)


def found(names: list[str], chosen: Levels, folder) -> list[jsonl.Record]:
    rules = [levels.contestant(name, chosen) for name in names]
    return levels.run(rules, chosen, folder)


@pytest.fixture(scope="module")
def met(tmp_path_factory):
    """The folder of three rules on the same levels, and its rows."""
    rules = [
        levels.contestant("random", SMALL),
        levels.contestant("adam:3e-2", SMALL),
        levels.of_rule("mine", tiny_rule(), SMALL, "a"),
    ]
    folder = tmp_path_factory.mktemp("met")
    return folder, levels.run(rules, SMALL, folder)


def test_all_rules_meet_the_same_levels(met):
    _, rows = met
    optimal = {name: [] for name in ("random", "adam:3e-2", "mine")}
    for row in rows:
        optimal[row["rule"]].append(row["optimal_return"])
        assert len(row["returns"]) == len(row["auc"]) == 2
        assert None not in row["returns"]
    assert optimal["random"] == optimal["adam:3e-2"] == optimal["mine"]
    assert len(set(optimal["mine"])) == 3
    assert [row["agent"] for row in rows[::3]] == ["a2c", "a2c", "lpg"]


def test_a_chain_ends_with_the_best_return_once_it_is_learned(tmp_path):
    chosen = Levels("chain/short", levels=2, seeds=2, updates=60, batch=2)
    rows = found(["random", "adam:1e-1"], chosen, tmp_path)
    assert {row["optimal_return"] for row in rows} == {1.0}
    by_rule = {r["rule"]: levels.share([r]) for r in rows}
    assert abs(by_rule["random"]) < 0.6
    assert by_rule["adam:1e-1"] > 0.9


def test_batches_do_not_change_a_level_and_runs_resume(tmp_path):
    """Also the last batch, which has one level of two."""
    three = Levels("chain/short", levels=3, seeds=2, updates=4, batch=2)
    whole = found(["random"], three, tmp_path / "whole")
    found(["random"], dataclasses.replace(three, levels=1), tmp_path / "parts")
    parts = found(["random"], three, tmp_path / "parts")
    for one, two in zip(whole, parts, strict=True):
        assert one["level"] == two["level"]
        np.testing.assert_allclose(one["returns"], two["returns"], rtol=1e-5)
    assert len(jsonl.read(tmp_path / "parts" / levels.ROWS)) == 3


def test_rows_of_another_rule_with_the_name_are_refused(met):
    folder, _ = met
    other = levels.of_rule("mine", tiny_rule(), SMALL, "b")
    with pytest.raises(ValueError, match=r"rule='mine'.*sha256 a -> b.*another folder"):
        levels.run([other], SMALL, folder)


def row(rule: str, returns: list[float | None], optimal: float) -> jsonl.Record:
    fields = {"rule": rule, "agent": "a2c", "optimal_return": optimal}
    return {**fields, "returns": returns, "auc": returns}


def test_shares_weigh_levels_by_their_optimal_return():
    rows = [row("a", [1.0, 2.0], 3.0), row("a", [0.0, None], 1.0)]
    assert levels.share(rows) == pytest.approx(3 / 4 / 2)
    assert levels.shares(rows).low is None  # two seeds
    five = [row("a", [1.0, 2.0, 1.0, 2.0, 1.5], 3.0)]
    interval = levels.shares(five)
    assert interval.value == pytest.approx(0.5)
    assert interval.low < 0.5 < interval.high


def test_the_table_divides_by_the_baseline():
    rows = [row("a", [1.0], 2.0), row("b", [2.0], 2.0)]
    head, first, second = levels.table(rows, "b")
    assert head[-1] == "return over b's"
    assert (first[2], first[-1]) == ("0.500", "0.50")
    assert (second[2], second[-1]) == ("1.000", "1.00")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"environment": "CartPole-v1"}, "has no levels; give a grid world"),
        ({"environment": "gridworld/smal"}, "small"),
        ({"levels": 0}, "levels=0"),
        ({"seeds": 2.5}, "seeds=2.5"),
        ({"updates": -1}, "updates=-1"),
    ],
)
def test_impossible_levels_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Levels(**options)


def test_the_command_compares_a_trained_folder_with_its_untrained_rule(
    tmp_path, capsys
):
    run = str(pathlib.Path(__file__).parents[2] / "results" / "lpg_gridworld")
    rules = [run, f"untrained:{run}"]
    sizes = "--environment chain/short --levels 1 --seeds 1 --updates 4"
    where = [*sizes.split(), "--out", str(tmp_path)]
    assert main(["compare-levels", *rules, "--baseline", rules[1], *where]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [line[0] for line in lines if line[1:2] == ["lpg"]] == rules
    rows = jsonl.read(tmp_path / levels.ROWS)
    assert [row["sha256"] is None for row in rows] == [False, True]


@pytest.mark.parametrize("rules", [["adam:1e-2"], []])
def test_the_baseline_must_be_one_of_the_rules(rules, capsys):
    assert main(["compare-levels", *rules, "--baseline", "random"]) == 2
    assert "--baseline='random' must be one of the rules" in capsys.readouterr().err
