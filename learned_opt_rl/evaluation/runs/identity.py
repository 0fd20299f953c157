"""Which run a row is of: the same run is never made twice."""

import dataclasses
import json
from typing import Any

from learned_opt_rl import artifacts
from learned_opt_rl.agents.config import Config
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.evaluation.runs.agents import agent_of, config_type
from learned_opt_rl.evaluation.runs.names import artifact_name
from learned_opt_rl.evaluation.runs.rules import HANDCRAFTED
from learned_opt_rl.rundir.jsonl import Row


def identity(row: Row) -> str:
    """What tells a row's run from every other, as one text.

    Fields that a configuration did not have when the row was written count as their
    defaults: that is how it was run. Rows that do not tell the digest of the rule's
    weights count as made with those of today.
    """
    agent = row.get("agent", "ppo")
    return _text(row, agent, {**_defaults(agent), **row["config"]})


def wanted(
    rule: str,
    environment: str,
    config: Config,
    seed: int,
    variant: dict[str, str] | None = None,
) -> str:
    """The `identity` of the row that a run is going to give."""
    row = {"rule": rule, "environment": environment, "seed": seed, "variant": variant}
    return _text(row, agent_of(config), dataclasses.asdict(config))


def weights_digest(rule: str) -> str | None:
    """Return the SHA-256 of the weights or the text that a rule stands for, if any."""
    if rule.partition(":")[0] in HANDCRAFTED:
        return None  # not looked up: an unknown name is searched for in every card
    try:
        return artifacts.card(artifact_name(rule)).weights.sha256
    except ArtifactError:
        return None


def _text(row: Row, agent: str, config: dict[str, Any]) -> str:
    told = "weights_sha256" in row
    digest = row["weights_sha256"] if told else weights_digest(row["rule"])
    parts = [row["rule"], digest, row["environment"], row["seed"], agent, config]
    return json.dumps([*parts, row.get("variant") or {}], sort_keys=True)


def _defaults(agent: str) -> dict[str, Any]:
    return {
        field.name: field.default
        for field in dataclasses.fields(config_type(agent))
        if field.default is not dataclasses.MISSING
    }
