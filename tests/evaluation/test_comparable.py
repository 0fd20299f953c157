import pytest

from learned_opt_rl.evaluation.report import differences, gather
from learned_opt_rl.evaluation.report.comparable import commands, read, settings
from tests.evaluation.result_rows import changed, row, table


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


OTHERS = [
    {"config": {"hidden": [64, 64], "gamma": 0.5}},
    {"versions": {"jax": "0.4.30"}},
    {"environment_details": {"backend": "mjx"}},
    {"device": "NVIDIA H100"},
    {"weights_sha256": "1" * 64},
]


@pytest.mark.parametrize("other", OTHERS, ids=lambda other: next(iter(other)))
def test_a_run_under_other_circumstances_is_no_repetition(other):
    rows = [row(), row("lion"), row(final=2.0, **other)]
    found = settings(rows)
    assert [one.repeated for one in found] == [0, 0]
    assert sorted(len(one.rows) for one in found) == [1, 2]
    (name,) = found[0].apart
    assert all(one.label == f"{name}={one.apart[name]}" for one in found)
    assert settings(rows[::-1]) == found
    # Nothing varies along an axis of the report.
    assert gather.axes(gather.gather(rows)) == {}


def test_another_revision_is_a_repetition():
    (found,) = settings([row(final=1.0), row(final=2.0, revision="def")])
    assert found.repeated == 1


def recorded(rule, seed=0, environment="ant", **facts):
    given = {"versions": {"jax": "0.10.2"}, "environment_details": {}, "device": "cpu"}
    return row(rule, environment, seed, **(given | facts))


OLD = {"versions": {"jax": "0.4.30"}}


@pytest.mark.parametrize(
    ("rows", "note"),
    [
        (
            [recorded("adam"), recorded("lion", **OLD)],
            "version of jax 0.10.2 (adam), 0.4.30 (lion). Paired differences from adam "
            "compare such runs.",
        ),
        (
            [recorded("adam"), recorded("lion", 0), recorded("lion", 1, **OLD)],
            "version of jax 0.10.2 (adam, lion), 0.4.30 (lion).",
        ),
        (
            [
                recorded("adam", environment_details={"backend": "mjx"}),
                recorded("lion", environment_details={"backend": "spring"}),
                recorded("adam", environment="hopper"),
            ],
            "environment detail backend mjx (adam), spring (lion) (in ant). Paired "
            "differences from adam compare such runs.",
        ),
        (
            [recorded("adam"), recorded("lion", config={"hidden": [8]})],
            "setting hidden 64x64 (adam), 8 (lion). Paired differences from adam "
            "compare such runs.",
        ),
        (
            [recorded("a"), recorded("b", device="TPU v4", revision="def")],
            "device cpu (a), TPU v4 (b); revision of the code.",
        ),
        (
            [recorded(f"{i}", versions={"python": f"3.11.{i}"}) for i in range(4)],
            "version of python (4 values).",
        ),
        (
            [
                recorded("a", seed, weights_sha256=digest * 64)
                for seed, digest in enumerate("11234")
            ]
            + [recorded("b", weights_sha256="5" * 64)],
            "weights of a (4 values).",
        ),
        (
            [recorded(f"{i}", **(OLD if i else {})) for i in range(5)],
            "version of jax 0.10.2 (0), 0.4.30 (4 rules).",
        ),
    ],
)
def test_runs_that_differ_in_more_than_their_rules_are_noted(rows, note):
    found = differences.notes(rows, "adam")
    assert found == [f"Runs differ in more than their rules: {note}"]
    (result,) = gather.gather(rows)
    assert found[0] in result.notes


def test_what_was_not_recorded_is_no_difference():
    old = changed(recorded("lion"), versions=None, device=None, environment_details={})
    new = recorded("adam", environment_details={"gymnax": "1.0.1"})
    later = recorded("adam", environment="hopper", **OLD)
    assert differences.notes([old, new, later], "adam") == []


def test_fields_that_old_rows_lack_have_their_former_values(repository):
    rows = read(repository / "results" / "minatar_1e6.jsonl")
    assert len({len(row.config) for row in rows}) > 1
    assert not any("setting" in note for note in differences.notes(rows, "adam"))
