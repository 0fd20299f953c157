import dataclasses
import functools
import json
import pathlib

import pytest

from learned_opt_rl import evaluation
from learned_opt_rl.agents import LPGConfig, PPOConfig
from learned_opt_rl.evaluation.runs.row import (
    Row,
    append_rows,
    grouped,
    identity,
    read_rows,
)
from learned_opt_rl.rundir import jsonl
from tests.evaluation.result_rows import values as row

RESULTS = pathlib.Path(__file__).parents[2] / "results"
# The other files hold logs of training, levels and analyses, which are not runs.
FILES = [
    path
    for path in sorted(RESULTS.glob("**/*.jsonl"))
    if '"final_return"' in path.read_text().partition("\n")[0]
]
CONFIG = PPOConfig(10_000)
NESTED = functools.reduce(lambda inner, _: {"jax": inner}, range(500), {})


def test_most_committed_results_are_rows():
    assert len(FILES) >= 13


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_committed_rows_load_and_come_back(path, tmp_path):
    rows = read_rows(path)
    assert rows
    assert [one.to_json() for one in rows] == jsonl.read(path)
    assert all(not one.extra for one in rows)
    append_rows(tmp_path / path.name, rows)
    assert (tmp_path / path.name).read_bytes() == path.read_bytes()
    assert len({one.identity() for one in rows}) == len(rows)


@pytest.mark.parametrize(
    ("field", "value", "wanted"),
    [
        ("rule", None, "a name"),
        ("environment", "", "a name"),
        ("seed", "0", "an integer"),
        ("seed", True, "an integer"),
        ("total_timesteps", 0, "a positive number"),
        ("seed", 10**400, "an integer"),
        ("final_return", 10**400, "a finite number or null"),
        ("final_return", "12", "a finite number or null"),
        ("curve", [], "a list of finite numbers and nulls"),
        ("curve", [1.0, "x"], "a list of finite numbers and nulls"),
        ("dormant", 3, "a list of numbers"),
        ("variant", "hidden", "an object"),
        ("config", [], "an object"),
        ("diverged", "no", "true or false"),
        ("wall_seconds", 1e101, "a finite number or null"),
        ("nan_updates", 0.5, "an integer or null"),
        ("revision", ["abc"], "a text or null"),
        ("config", {"gamma": 10**400}, "an object of a few levels"),
        ("versions", NESTED, "an object of a few levels"),
    ],
)
def test_a_wrong_field_is_named_with_its_row(field, value, wanted, tmp_path):
    file = tmp_path / "x.jsonl"
    file.write_text(
        "".join(f"{json.dumps(r)}\n" for r in (row(), {**row(), field: value}))
    )
    with pytest.raises(ValueError, match=f"x.jsonl: row 2 has {field}=.* be {wanted}"):
        read_rows(file)


def test_a_file_of_other_objects_gets_no_rows(tmp_path):
    file = tmp_path / "log.jsonl"
    for content in ('{"generation": 0}\n', '{"generation": 0}'):
        file.write_text(content)
        with pytest.raises(ValueError, match="log.jsonl is not a file of results"):
            append_rows(file, [Row.from_json(row())])
        assert file.read_text() == content


def test_rows_of_older_versions_get_defaults():
    fields = ("rule", "environment", "seed", "total_timesteps", "curve")
    old = {field: row()[field] for field in fields}
    found = Row.from_json(old)
    assert (found.agent, found.variant, found.dormant) == ("ppo", {}, [])
    assert found.auc == pytest.approx(0.5)
    assert found.to_json() == old
    assert not found.weights_recorded
    assert Row.from_json({**old, "weights_sha256": None}).weights_recorded
    assert Row.from_json({**old, "curve": [None, 1.0]}).auc is None
    assert Row.from_json({**old, "agent": None, "variant": None}).agent == "ppo"


def test_unknown_fields_are_kept():
    found = Row.from_json({**row(), "watts": 3})
    assert found.extra == {"watts": 3}
    assert found.to_json()["watts"] == 3


def test_a_run_failed_that_diverged_or_has_no_return():
    assert not Row.from_json(row()).failed
    assert Row.from_json({**row(), "diverged": True}).failed
    assert Row.from_json({**row(), "final_return": None}).failed


def test_rows_are_grouped_by_rule_and_environment():
    rows = [Row.from_json(row(rule, seed=i)) for i in (0, 1) for rule in ("b", "a")]
    groups = grouped(rows)
    assert [*groups] == [("b", "Breakout-MinAtar"), ("a", "Breakout-MinAtar")]
    assert [one.seed for one in groups["a", "Breakout-MinAtar"]] == [0, 1]


class TestIdentity:
    def row(self, *left_out, config=CONFIG, **changes):
        made = {**row("adam", "ant"), "config": dataclasses.asdict(config), **changes}
        made = json.loads(json.dumps(made))
        for name in left_out:
            del made["config"][name]
        return Row.from_json(made)

    def asked(self, config=CONFIG, digest=None, **changes):
        asked = {"rule": "adam", "environment": "ant", "seed": 0, **changes}
        return identity(config=config, weights_sha256=digest, **asked)

    def test_old_rows_count(self):
        assert self.row().identity() == self.asked()
        assert self.row("activation").identity() == self.asked()
        tanh = dataclasses.replace(CONFIG, activation="tanh")
        assert self.row("activation").identity() != self.asked(tanh)

    def test_other_weights_of_the_same_name_are_another_run(self):
        unrecorded, recorded = self.row(), self.row(weights_sha256="1" * 64)
        assert unrecorded.identity("1" * 64) == recorded.identity("0" * 64)
        assert recorded.identity() == self.asked(digest="1" * 64)
        assert recorded.identity() != self.asked(digest="0" * 64)
        assert self.row(weights_sha256=None).identity("1" * 64) == self.asked()

    @pytest.mark.parametrize(
        "changes",
        [
            {"rule": "sgd"},
            {"seed": 1},
            {"environment": "hopper"},
            {"variant": {"hidden": "64x64"}},
        ],
    )
    def test_other_runs_are_others(self, changes):
        assert self.row().identity() != self.asked(**changes)
        assert self.row(**changes).identity() == self.asked(**changes)

    def test_another_agent_is_another(self):
        config = LPGConfig(10_000)
        assert self.row(agent="lpg", config=config).identity() == self.asked(config)
        with pytest.raises(ValueError, match="agent='dqn' must be one of ppo, a2c"):
            self.row(agent="dqn").identity()


def test_the_rooms_names_are_those_of_its_modules():
    assert evaluation.Row is Row
    assert all(getattr(evaluation, name) is not None for name in evaluation.__all__)
    with pytest.raises(AttributeError, match="no attribute 'rnu'"):
        _ = evaluation.rnu
