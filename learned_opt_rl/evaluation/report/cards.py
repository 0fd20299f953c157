r"""Write measured results into a card, from the raw rows of its runs.

As in::

    python -m learned_opt_rl.evaluation.report.cards \
        pretrained/minatar results/breakout_1e6.jsonl
"""

import argparse
import json
import math
import pathlib
from collections.abc import Sequence

from learned_opt_rl.artifacts.card import Card
from learned_opt_rl.evaluation.report import comparable, gather, statistics, tables
from learned_opt_rl.evaluation.runs import agents, identity
from learned_opt_rl.rundir import jsonl, settings
from learned_opt_rl.rundir.atomic import write_atomically

_BOOTSTRAP = "95% percentile bootstrap of the mean over seeds, 10000 resamples"


def fill_results(
    folder: pathlib.Path, path: pathlib.Path, source: str | None = None
) -> list[dict]:
    """Replace the results of a card that came from one file of rows.

    Results that the card has from other sources stay. Runs of several lengths, agents
    or configurations are a result each.

    Args:
        folder: The artifact's folder, with its ``card.json``.
        path: JSONL rows of ``evaluation.runs``; those of the artifact's name count,
            unless they say that they are of other weights.
        source: What the card calls the file; its path if not given.

    Returns:
        The results as written.

    Raises:
        CardError: The card does not satisfy the schema, before or after.
        ValueError: The file has no row of the artifact.

    Example:
        >>> import pathlib
        >>> fill_results(pathlib.Path("pretrained/minatar"), pathlib.Path("none.jsonl"))
        Traceback (most recent call last):
        ...
        ValueError: none.jsonl has no row of rule 'minatar'; run evaluation.runs first
    """
    card_path = folder / "card.json"
    data = Card.load(card_path).to_dict()
    source = path.as_posix() if source is None else source
    name, digest = data["name"], data["weights"]["sha256"]
    rows = [
        row
        for row in jsonl.read(path)
        if row["rule"] == name and row.get("weights_sha256", digest) == digest
    ]
    if not rows:
        raise ValueError(
            f"{path} has no row of rule '{name}'; run evaluation.runs first"
        )
    measured = [
        _result(group, source)
        for setting in comparable.settings(comparable.checked(rows, str(path)))
        for group in _groups(setting.rows)
    ]
    others = [r for r in data["results"] if r["source"] != source]
    data["results"] = [*others, *measured]
    Card.from_dict(data, source=str(card_path))
    content = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    write_atomically(card_path, content.encode())
    return data["results"]


def _groups(rows: list[jsonl.Row]) -> list[list[jsonl.Row]]:
    """Rows of the same weights that differ in nothing but the seed."""
    groups: dict[str, list[jsonl.Row]] = {}
    for row in rows:
        config = row.get("config") or {}
        same = {"config": config, "seed": 0, "weights_sha256": None}
        key = identity.identity(row | same)
        groups.setdefault(key, []).append(row)
    return list(groups.values())


def _result(rows: list[jsonl.Row], source: str) -> dict:
    (summary,) = tables.summarise(rows)
    known = summary.num_seeds >= statistics.MIN_SEEDS and not math.isnan(summary.low)
    return {
        "environment": summary.environment,
        "steps": int(rows[0]["total_timesteps"]),
        "seeds": summary.num_seeds,
        "metric": _metric(rows[0]),
        "mean": round(summary.mean, 2),
        "interval": [round(summary.low, 2), round(summary.high, 2)] if known else None,
        "method": _BOOTSTRAP if known else "mean over seeds",
        "source": source,
        "command": _command(rows),
    }


def _metric(row: jsonl.Row) -> str:
    """What was measured, and in what agent where that is not the published PPO."""
    agent, variant = row.get("agent") or "ppo", row.get("variant") or {}
    words = [f"agent {agent}"] if agent != "ppo" else []
    words += [f"{name}={value}" for name, value in sorted(variant.items())]
    return ", ".join(["final return", *words])


def _command(rows: list[jsonl.Row]) -> str | None:
    """What gives the rows again; None for runs that no command line asks for."""
    if not all(map(_is_asked_for, rows)):
        return None
    # Not the folder it came from: what that holds would not be run again.
    return " && ".join(gather.commands(rows, command="evaluate"))


def _is_asked_for(row: jsonl.Row) -> bool:
    """Whether the row's configuration is the published one with its variant."""
    agent, variant = row.get("agent") or "ppo", row.get("variant") or {}
    name, config = row["environment"], row.get("config") or {}
    try:
        changes = settings.parse(
            [f"{key}={value}" for key, value in variant.items()],
            agents.config_type(agent),
        )
        published = agents.default_config(
            name, row["total_timesteps"], agent, **changes
        )
    except ValueError:
        return False
    again = identity.wanted(row["rule"], name, published, row["seed"], variant)
    return again == identity.identity(row | {"agent": agent, "config": config})


def main(argv: Sequence[str] | None = None) -> None:
    """Fill one card."""
    parser = argparse.ArgumentParser(description="Write results into a card.")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("results", type=pathlib.Path)
    arguments = parser.parse_args(argv)
    for result in fill_results(arguments.folder, arguments.results):
        print(result["environment"], result["mean"], result["interval"])


if __name__ == "__main__":
    main()
