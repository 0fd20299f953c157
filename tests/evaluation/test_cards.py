import dataclasses
import json
import shlex

import pytest
import tyro

from learned_opt_rl import agents, artifacts
from learned_opt_rl.cli import _compare
from learned_opt_rl.evaluation.report import cards
from learned_opt_rl.evaluation.runs.row import append_rows
from tests.artifact_files import card_data, write_card
from tests.evaluation.result_rows import changed, row

ENVIRONMENT = "Breakout-MinAtar"


def made(seeds, final, steps=1_000_000, agent="ppo", variant=None, **changes):
    """Rows as ``evaluate`` makes them."""
    config = agents.preset(ENVIRONMENT, steps, agent, **changes)
    return [
        row(
            "tiny",
            ENVIRONMENT,
            seed,
            final,
            agent=agent,
            total_timesteps=steps,
            variant=variant or {},
            config=json.loads(json.dumps(dataclasses.asdict(config))),
        )
        for seed in seeds
    ]


def filled(tmp_path, rows):
    folder = tmp_path / "card"
    write_card(folder, card_data("tiny"))
    append_rows(tmp_path / "rows.jsonl", rows)
    found = cards.fill_results(folder, tmp_path / "rows.jsonl")
    own = [r for r in found if r["source"].endswith("rows.jsonl")]
    assert json.loads((folder / "card.json").read_text())["results"] == found
    return own


def parsed(command):
    """What the command line makes of a command, which must be one of its own."""
    words = shlex.split(command)
    assert words[:2] == ["learned-opt-rl", "evaluate"]
    given = tyro.cli(_compare.Evaluate, args=words[2:])
    return given.comparison((given.rule,))


def test_each_setting_is_a_result_of_its_own(tmp_path):
    rows = [
        *made(range(2), 1.0),
        *made(range(2), 3.0, 2_000_000),
        *made(range(2), 5.0, agent="a2c"),
        *made(range(2), 7.0, variant={"hidden": "8x8"}, hidden=(8, 8)),
    ]
    found = filled(tmp_path, rows)
    assert sorted((r["mean"], r["steps"], r["metric"]) for r in found) == [
        (1.0, 1_000_000, "final return"),
        (3.0, 2_000_000, "final return"),
        (5.0, 1_000_000, "final return, agent a2c"),
        (7.0, 1_000_000, "final return, hidden=8x8"),
    ]
    asked = {r["mean"]: parsed(r["command"]) for r in found}
    assert {one.seeds for one in asked.values()} == {2}
    assert asked[3.0].total_timesteps == 2_000_000
    assert asked[5.0].agent == "a2c"
    assert asked[7.0].settings == ("hidden=8x8",)


def test_the_command_makes_the_seeds_that_there_are(tmp_path):
    (found,) = filled(tmp_path, made((3, 4, 9), 1.0))
    commands = [parsed(command) for command in found["command"].split(" && ")]
    assert [(c.first_seed, c.seeds) for c in commands] == [(3, 2), (9, 1)]
    assert (found["seeds"], found["interval"]) == (3, None)


def test_a_run_that_no_command_makes_has_none(tmp_path):
    published, own = filled(
        tmp_path, [*made((0,), 1.0), *made((1,), 3.0, hidden=(8, 8))]
    )
    assert (published["mean"], own["mean"]) == (1.0, 3.0)
    assert published["command"] is not None and own["command"] is None


def test_rows_of_another_rule_are_no_results(tmp_path):
    with pytest.raises(ValueError, match="has no row of the rule 'tiny'"):
        filled(tmp_path, [row("adam")])


def test_a_failed_run_counts_as_no_more_than_the_others_and_is_counted(tmp_path):
    rows = [*made((0, 1), 4.0), *made((2,), None), row("adam", ENVIRONMENT, 0, 1.0)]
    (found,) = filled(tmp_path, [changed(r, total_timesteps=10**6) for r in rows])
    assert (found["mean"], found["seeds"]) == (2.67, 3)
    assert found["method"] == (
        "mean over seeds; failed runs: 1 of 3, each counted as 0.00, the lowest value "
        "in the environment"
    )


def test_runs_without_any_return_are_no_result(tmp_path):
    with pytest.raises(ValueError, match="no run of tiny on Breakout-MinAtar has a"):
        filled(tmp_path, made((0, 1), None))


@pytest.mark.parametrize(("seeds", "known"), [(4, False), (5, True)])
def test_intervals_begin_at_five_seeds(tmp_path, seeds, known):
    rows = [one for seed in range(seeds) for one in made((seed,), float(seed))]
    (found,) = filled(tmp_path, rows)
    assert (found["interval"] is not None) is known
    assert found["method"].startswith("95%" if known else "mean over seeds")


def test_no_bundled_card_claims_an_interval_of_few_seeds():
    found = [result for card in artifacts.cards().values() for result in card.results]
    assert len(found) > 50
    assert all(result.interval is None for result in found if result.seeds < 5)
    assert any(result.interval is not None for result in found)
