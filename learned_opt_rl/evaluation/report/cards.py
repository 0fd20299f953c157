"""Measured results in a card, from the raw rows of its runs."""

import dataclasses
import json
import pathlib
from typing import Any, cast

from learned_opt_rl import agents
from learned_opt_rl.agents.presets import AgentName
from learned_opt_rl.artifacts.card import Card
from learned_opt_rl.evaluation.report import comparable, statistics
from learned_opt_rl.evaluation.report.comparable import Setting
from learned_opt_rl.evaluation.runs.row import Row, config_type, identity, read_rows
from learned_opt_rl.rundir import settings
from learned_opt_rl.rundir.atomic import write_atomically

_BOOTSTRAP = (
    "95% percentile bootstrap of the mean over seeds, "
    f"{statistics.MEAN_RESAMPLES} resamples"
)


def fill_results(
    folder: pathlib.Path, path: pathlib.Path, source: str | None = None
) -> list[dict[str, Any]]:
    """Replace the results of a card that came from one file of rows, and return them.

    Results that the card has from other sources stay. Runs of different lengths, agents
    or configurations give separate results. Failed runs count as in reports
    (`statistics.failed_values`). Rows of the artifact that record other weights do not
    count. The source in the card is by default the path.
    """
    card_path = folder / "card.json"
    data = Card.load(card_path).to_dict()
    source = path.as_posix() if source is None else source
    name, digest = data["name"], data["weights"]["sha256"]
    rows = [
        row
        for row in read_rows(path)
        if row.rule != name or not row.weights_recorded or row.weights_sha256 == digest
    ]
    if not any(row.rule == name for row in rows):
        raise ValueError(f"{path} has no row of the rule '{name}'; evaluate it first")
    measured = [
        result
        for setting in comparable.settings(rows)
        for result in _results(setting, name, digest, source)
    ]
    others = [r for r in data["results"] if r["source"] != source]
    data["results"] = [*others, *measured]
    Card.from_dict(data, source=str(card_path))
    content = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    write_atomically(card_path, content.encode())
    return data["results"]


def _results(
    setting: Setting, name: str, digest: str, source: str
) -> list[dict[str, Any]]:
    """Return a result for each group of runs that differ only in the seed."""
    returns = statistics.returns(setting.rows).get(name, {})
    failed_as = statistics.failed_values(setting.rows)
    groups: dict[str, list[Row]] = {}
    for row in setting.rows:
        if row.rule == name:
            key = dataclasses.replace(row, seed=0).identity(digest)
            groups.setdefault(key, []).append(row)
    return [
        _result(
            group,
            returns.get(group[0].environment, {}),
            failed_as.get(group[0].environment),
            digest,
            source,
        )
        for group in groups.values()
    ]


def _result(
    rows: list[Row],
    returns: dict[int, float],
    failed_as: float | None,
    digest: str,
    source: str,
) -> dict[str, Any]:
    environment, rule = rows[0].environment, rows[0].rule
    if not returns:
        raise ValueError(
            f"no run of {rule} on {environment} has a return, so its card cannot "
            f"record a result; delete these rows from {source}"
        )
    found = statistics.estimate([returns[row.seed] for row in rows])
    method = "mean over seeds" if found.low is None else _BOOTSTRAP
    failed = sum(row.failed for row in rows)
    if failed:
        method += (
            f"; failed runs: {failed} of {len(rows)}, each counted as {failed_as:.2f}, "
            "the lowest value in the environment"
        )
    interval = found.to_dict()["interval"]
    return {
        "environment": environment,
        "steps": int(rows[0].total_timesteps),
        "seeds": found.seeds,
        "metric": _metric(rows[0]),
        "mean": round(found.value, 2),
        "interval": interval and [round(end, 2) for end in interval],
        "method": method,
        "source": source,
        "command": _command(rows, digest),
    }


def _metric(row: Row) -> str:
    """Return what was measured, and the agent if it is not the published PPO."""
    words = [f"agent {row.agent}"] if row.agent != "ppo" else []
    words += [f"{name}={value}" for name, value in sorted(row.variant.items())]
    return ", ".join(["final return", *words])


def _command(rows: list[Row], digest: str) -> str | None:
    """Return what makes the rows again; None if no command line can."""
    if not all(_is_published(row, digest) for row in rows):
        return None
    # Not the folder of the rows: a command does not repeat the runs of its folder.
    return " && ".join(comparable.commands(rows, command="evaluate"))


def _is_published(row: Row, digest: str) -> bool:
    """Return whether a configuration is the published one with the row's variant."""
    try:
        changes = settings.parse(
            [f"{key}={value}" for key, value in row.variant.items()],
            config_type(row.agent),
        )
        published = agents.preset(
            row.environment,
            row.total_timesteps,
            cast(AgentName, row.agent),
            **changes,
        )
    except ValueError:
        return False
    again = identity(
        row.rule, digest, row.environment, published, row.seed, row.variant
    )
    return again == row.identity(digest)
