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
        (setting,) = comparable.settings(comparable.named(rows))
        lines = board.lines(
            setting.rows,
            normalization.normalize(setting.rows, "adam"),
            environments=games,
            speeds=speeds(raw / "overhead.json", setting.rows),
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


def speeds(overhead: pathlib.Path, rows: Iterable[Row]) -> dict[str, float]:
    """Return steps per second of the rules that `bench.overhead` timed.

    It timed Adam and OPEN of four sizes, so every OPEN network has the speed of its
    size.
    """
    found = json.loads(overhead.read_text(encoding="utf-8"))["ppo"]
    timed = {one["optimizer"]: one["steps_per_second"] for one in found}
    known = {row.rule: timed.get(_as_timed(row.rule)) for row in rows}
    return {rule: speed for rule, speed in known.items() if speed}


def _as_timed(rule: str) -> str:
    if rule == "adam":
        return "Adam"
    try:
        card = artifacts.card(artifact_name(rule))
    except ArtifactError:
        return rule
    sizes = card.architecture
    if card.algorithm != "open":
        return rule
    memory = f"{sizes['carry']}/" if sizes["carry"] else "ff "
    return f"OPEN {memory}{sizes['width']}"
