"""Identities of rows that are dicts, until every room uses `row.Row`."""

from typing import Any

from learned_opt_rl.agents.config import Config
from learned_opt_rl.evaluation.runs import row as rows
from learned_opt_rl.evaluation.runs.rules import weights_digest as weights_digest


def identity(row: dict[str, Any]) -> str:
    """Return the identity of a row that is a dict."""
    whole = {"total_timesteps": 1, "curve": [None], **row}
    return rows.Row.from_json(whole).identity(weights_digest(row["rule"]))


def wanted(
    rule: str,
    environment: str,
    config: Config,
    seed: int,
    variant: dict[str, str] | None = None,
) -> str:
    """Return the identity of the row that a run will give."""
    digest = weights_digest(rule)
    return rows.identity(rule, digest, environment, config, seed, variant)
