"""Write the board of the documentation from the raw rows."""

import json
import pathlib
from collections.abc import Iterable

from learned_opt_rl import artifacts, envs
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.evaluation.report import board, comparable, normalization, tables
from learned_opt_rl.evaluation.runs.row import Row, read_rows
from learned_opt_rl.evaluation.runs.rules import artifact_name

HORIZONS = {"1e6": 1_000_000, "1e7": 10_000_000}
"""The lengths of the board, as in the names of files of rows."""

# Its rules ran only Breakout, most of them, and have a table of their own.
_ELSEWHERE = "breakout_1e6.jsonl"
_OVERHEAD = ("overhead.json", "overhead_rules.json")
_PUBLISHED_AGENT = "2x64 MLP"


def write_board(generated: pathlib.Path, raw: pathlib.Path) -> None:
    """Write ``board_1e6.md``, ``board_1e7.md`` and ``board.json``, of both."""
    games = envs.suite("minatar")
    data = {}
    for name, steps in HORIZONS.items():
        paths = sorted(raw.glob(f"*_{name}.jsonl"))
        rows = [
            row
            for path in paths
            if path.name != _ELSEWHERE
            for row in read_rows(path)
            if row.environment in games
            and row.total_timesteps == steps
            and not row.variant
        ]
        # Of a run that was repeated, the last file's row counts.
        named = comparable.named(rows)
        rows = list({(r.rule, r.environment, r.seed): r for r in named}.values())
        lines = board.lines(
            rows,
            normalization.normalize(rows, "adam"),
            environments=games,
            costs=costs(raw, rows),
        )
        parts = {
            "Aggregates": tables.board(lines),
            "Final return": tables.board_returns(lines, games),
            "Seconds to tuned Adam's return": tables.board_seconds(lines, games),
        }
        text = [f"**{k}**\n\n{tables.render(v, 'github')}" for k, v in parts.items()]
        path = generated / f"board_{name}.md"
        path.write_text("\n\n".join(text) + "\n", encoding="utf-8")
        data[name] = [line.to_dict() for line in lines]
    content = json.dumps(data, indent=1, allow_nan=False) + "\n"
    (generated / "board.json").write_text(content, encoding="utf-8")


def costs(raw: pathlib.Path, rows: Iterable[Row]) -> dict[str, board.Cost]:
    """Return the costs that `bench.overhead` measured.

    It measured Adam and OPEN of four sizes on a quiet host, and other rules on a busy
    one, which count relative to Adam there.
    """
    quiet, busy = (json.loads((raw / name).read_text("utf-8")) for name in _OVERHEAD)
    adam = quiet["ppo"][0]["steps_per_second"]
    timed = [*busy["ppo"], *quiet["ppo"]]  # of two measurements, the quiet one counts
    runs = {one["optimizer"]: one["times_adam"] for one in timed}
    updates = {
        one["optimizer"]: one["times_adam"]
        for one in quiet["updates"]
        if one["network"] == _PUBLISHED_AGENT
    }
    found = {}
    for rule in dict.fromkeys(row.rule for row in rows):
        optimizer, run = _timed_as(rule)
        speed = adam / runs[run] if run in runs else None
        found[rule] = board.Cost(speed, updates.get(optimizer))
    return found


def _timed_as(rule: str) -> tuple[str, str]:
    """Return the names of a rule's optimizer and of its runs in the benchmark."""
    if rule.partition(":")[0] == "adam":
        return "Adam", "Adam"
    try:
        card = artifacts.card(artifact_name(rule))
    except ArtifactError:
        return rule, rule
    if card.kind == "drift":
        return "Adam", rule
    sizes = card.architecture
    if card.algorithm != "open":
        return rule, rule
    memory = f"{sizes['carry']}/" if sizes["carry"] else "ff "
    return (f"OPEN {memory}{sizes['width']}",) * 2
