"""Which run a row is of: the same run is never made twice."""

import dataclasses
import json
from typing import Any

from learned_opt_rl.agents.config import Config
from learned_opt_rl.evaluation._agents import agent_of, config_type
from learned_opt_rl.evaluation.results import Row


def identity(row: Row) -> str:
    """What tells a row's run from every other, as one text.

    Fields that a configuration did not have when the row was written count as their
    defaults: that is how it was run.
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


def _text(row: Row, agent: str, config: dict[str, Any]) -> str:
    parts = [row["rule"], row["environment"], row["seed"], agent, config]
    return json.dumps([*parts, row.get("variant") or {}], sort_keys=True)


def _defaults(agent: str) -> dict[str, Any]:
    return {
        field.name: field.default
        for field in dataclasses.fields(config_type(agent))
        if field.default is not dataclasses.MISSING
    }
