import pytest

from learned_opt_rl.evaluation.report.comparable import commands, read, settings
from tests.evaluation.result_rows import row, table


def test_no_rows_are_refused(tmp_path):
    with pytest.raises(ValueError, match="x.jsonl has no rows"):
        read(tmp_path / "x.jsonl")


def test_commands_are_quoted_and_one_per_setting():
    rows = [row("a b; rm -rf /", variant={"hidden": "8x8"}, agent="a2c"), row(seed=5)]
    assert commands(rows, "out") == [
        "learned-opt-rl compare 'a b; rm -rf /' --environments Breakout-MinAtar "
        "--seeds 1 --steps 1000 --agent a2c --set hidden=8x8 --out out",
        "learned-opt-rl compare adam --environments Breakout-MinAtar --seeds 1 "
        "--first-seed 5 --steps 1000 --out out",
    ]


def test_variants_are_settings_of_their_own():
    rows = [row(variant={"hidden": "16x16"}), row(), row(variant={})]
    plain, narrow = settings(rows)
    assert (plain.label, narrow.label) == ("nothing changed", "hidden=16x16")
    assert (len(plain.rows), plain.repeated) == (1, 1)


def test_lengths_part_settings_only_where_one_environment_has_several():
    short = row("adam", "CartPole-v1", total_timesteps=500)
    (both,) = settings([row(), short])
    assert both.label == "" and len(both.rows) == 2
    lengths = [2000, 500, 1000]
    found = settings([row(total_timesteps=steps) for steps in lengths])
    assert [s.label for s in found] == [f"total_timesteps={n}" for n in sorted(lengths)]


def test_agents_part_settings_only_where_one_rule_has_several():
    ppo, lpg = row("adam"), row("lpg", agent="lpg")
    assert len(settings([ppo, lpg])) == 1
    found = settings([ppo, row("adam", agent="a2c"), lpg])
    assert [s.label for s in found] == ["agent=a2c", "agent=lpg", "agent=ppo"]


def test_the_order_of_rows_plays_no_part_but_the_last_repetition_counts():
    rows = table({"lion": {"b": [1.0, 2.0]}, "adam": {"a": [3.0]}})
    (one,), (other,) = settings(rows), settings(rows[::-1])
    assert one == other
    (found,) = settings([row(final=1.0), row(final=2.0)])
    assert (found.rows[0].final_return, found.repeated) == (2.0, 1)
