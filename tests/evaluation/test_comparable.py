import pytest

from learned_opt_rl.evaluation.report.comparable import checked, settings
from tests.evaluation.result_rows import row, table


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("rule", None, "a name"),
        ("environment", "", "a name"),
        ("seed", "0", "an integer"),
        ("seed", True, "an integer"),
        ("total_timesteps", 0, "a positive number"),
        ("final_return", float("nan"), "a finite number or null"),
        ("final_return", "12", "a finite number or null"),
        ("curve", [], "a list of finite numbers and nulls"),
        ("curve", [1.0, "x"], "a list of finite numbers and nulls"),
        ("dormant", 3, "a list of numbers"),
        ("variant", "hidden", "an object"),
        ("config", [], "an object"),
        ("diverged", "no", "true or false"),
        ("wall_seconds", float("inf"), "a finite number or null"),
    ],
)
def test_a_wrong_field_is_named_with_its_row(field, value, wanted):
    rows = [row(), row() | {field: value}]
    with pytest.raises(ValueError, match=f"x.jsonl: row 2 has {field}=.* be {wanted}"):
        checked(rows, "x.jsonl")


def test_no_rows_are_refused():
    with pytest.raises(ValueError, match="x.jsonl has no rows"):
        checked([], "x.jsonl")


def test_rows_of_before_this_are_accepted():
    fields = ("rule", "environment", "seed", "total_timesteps", "final_return", "curve")
    old = {field: row()[field] for field in fields}
    assert checked([old]) == [old]


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
    assert (found.rows[0]["final_return"], found.repeated) == (2.0, 1)
