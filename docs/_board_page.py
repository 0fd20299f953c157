"""Write the board of the documentation from the raw rows."""

import json
import pathlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from statistics import mean
from typing import Any

from learned_opt_rl import artifacts, envs
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.evaluation.report import board, comparable, gather, tables
from learned_opt_rl.evaluation.report.measures import Measures
from learned_opt_rl.evaluation.runs.row import Row, read_rows
from learned_opt_rl.evaluation.runs.rules import artifact_name

HORIZONS = {"1e6": 1_000_000, "1e7": 10_000_000}
"""The lengths of the board, as in the names of files of rows."""

# Most of its rules ran only Breakout; published_expressions.md lists them.
ELSEWHERE = "breakout_1e6.jsonl"
_AGENT = "ppo"
_CARDS = artifacts.cards()

ONE_RATE = {
    "results/tune_adam_one_rate_1e6/tuned.json": "Adam, 0.0043 in all games",
    "adam:1e-3": "Adam, 1e-3 in all games",
}
"""Adam with one rate in all games, by name of the rule."""
_PUBLISHED_NETWORK = "2x64 MLP"


def write_board(generated: pathlib.Path, raw: pathlib.Path) -> None:
    """Write ``board_1e6.md``, ``board_1e7.md`` and ``board.json`` with both lengths."""
    games = envs.suite("minatar")
    data = {}
    for name in HORIZONS:
        found = gather.gather(comparable.named(rows_after(name, raw)), "adam")
        boards = [board.lines(one, costs(raw, one.measures)) for one in found]
        text = [
            part
            for one, lines in zip(found, boards, strict=True)
            for part in _sections(one, lines, games)
        ]
        path = generated / f"board_{name}.md"
        path.write_text("\n\n".join(text) + "\n", encoding="utf-8")
        data[name] = [line.to_dict() for lines in boards for line in lines]
    content = json.dumps(data, indent=1, allow_nan=False) + "\n"
    (generated / "board.json").write_text(content, encoding="utf-8")


def rows_after(name: str, raw: pathlib.Path) -> list[Row]:
    """Return all rows of PPO on the four games after the steps of that name."""
    games = envs.suite("minatar")
    return [
        row
        for path in sorted(raw.glob(f"*_{name}.jsonl"))
        if path.name != ELSEWHERE
        for row in read_rows(path)
        if row.environment in games
        and row.agent == _AGENT
        and row.total_timesteps == HORIZONS[name]
        and not row.variant
    ]


def _sections(
    result: gather.Results, lines: Sequence[board.Line], games: Sequence[str]
) -> Iterator[str]:
    """Yield the Markdown of one setting; runs of other versions have their own."""
    if result.setting.label:
        yield f"Runs with {tables.one_line(result.setting.label)}:"
    where = ", ".join(result.scores.environments)
    parts = {
        f"Aggregates over {where}": tables.board(lines),
        "Final return": tables.board_returns(lines, games),
        "Seconds to tuned Adam's return": tables.board_seconds(lines, games),
    }
    for heading, table in parts.items():
        yield f"**{heading}**\n\n{_linked(tables.render(table, 'github'))}"


def _linked(table: str) -> str:
    """Return a table whose rules lead to their pages, or have a readable name."""
    names = {name: f"[{name}](/_generated/artifact/{name}.md)" for name in _CARDS}
    names |= ONE_RATE
    lines = [line.split("|", 2) for line in table.splitlines()]
    shown = [f"| {names.get(x[1].strip(), x[1].strip())} |{x[2]}" for x in lines]
    return "\n".join(shown)


def costs(raw: pathlib.Path, measures: Iterable[Measures]) -> dict[str, board.Cost]:
    """Return the costs that `bench.overhead` measured, by name of the rule.

    All runs were timed in processor seconds on one core. Updates were timed on both
    cores of the same host, and only those of Adam and OPEN.
    """
    timed = timings(raw / "overhead_rules.json", "ppo")
    times = {one["optimizer"]: one["times_adam"] for one in timed}
    (adam,) = (o["steps_per_second"] for o in timed if o["optimizer"] == "Adam")
    updates = {
        one["optimizer"]: one["times_adam"]
        for one in timings(raw / "overhead.json", "updates")
        if one["network"] == _PUBLISHED_NETWORK
    }
    found = {}
    for rule in dict.fromkeys(one.rule for one in measures):
        optimizer, run = timed_as(rule)
        speed = adam / times[run] if run in times else None
        found[rule] = board.Cost(speed, updates.get(optimizer))
    return found


def percent(returns: Mapping[str, Mapping[int, float]]) -> dict[str, float]:
    """Return the mean over seeds of normalized returns by environment, in percent."""
    return {name: 100 * mean(found.values()) for name, found in returns.items()}


def run_times(raw: pathlib.Path, rules: Iterable[str]) -> dict[str, float]:
    """Return the time of a run relative to tuned Adam's, by rule."""
    files = ("overhead_rules.json", "overhead.json")  # two idle cores win
    measured = {
        one["optimizer"]: one["times_adam"]
        for name in files
        for one in timings(raw / name, "ppo")
    }
    names = {rule: timed_as(rule)[1] for rule in rules}
    return {rule: measured[name] for rule, name in names.items() if name in measured}


def timings(path: pathlib.Path, part: str) -> list[dict[str, Any]]:
    """Return the measurements of one agent, which is what `board.Cost` is about."""
    found = json.loads(path.read_text("utf-8"))[part]
    return [one for one in found if one["agents"] == 1]


def timed_as(rule: str) -> tuple[str, str]:
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
