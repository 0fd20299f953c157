"""A rule on an environment: its program, and its runs as tasks for other machines."""

import dataclasses
import json
from typing import NamedTuple

from learned_opt_rl import envs
from learned_opt_rl.agents.config import Config
from learned_opt_rl.evaluation.runs import run
from learned_opt_rl.evaluation.runs.given_rules import GivenRule
from learned_opt_rl.evaluation.runs.program import Program
from learned_opt_rl.evaluation.runs.row import agent_of, config_type, setting
from learned_opt_rl.evaluation.runs.rules import Rule, Settings, resolve, weights_digest
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.rundir.settings import tuples

_KEPT = 16  # compiled programs


class Cell(NamedTuple):
    """A rule on an environment."""

    rule: str
    env: envs.Environment
    config: Config
    variant: dict[str, str]  # settings that differ from the published ones, as text
    source: str | None = None  # the rule that has the values, if ``rule`` is a file
    values: Settings | None = None  # its settings; programs differ in nothing else
    given: GivenRule | None = None  # the rule, if it is a Python object

    @property
    def setting(self) -> tuple:
        """The setting in which rules are compared, as in `Row.setting`."""
        agent, steps = agent_of(self.config), self.config.total_timesteps
        return setting(self.env.name, agent, steps, self.variant)

    @property
    def digest(self) -> str | None:
        """The SHA-256 of the rule, as of `weights_digest`."""
        return self.given.sha256 if self.given else weights_digest(self.rule)


class Programs:
    """The programs of cells, compiled when they are first needed.

    Cells that differ only in the values of a rule's settings share a program.
    """

    def __init__(self) -> None:
        self._kept: dict[str, Program] = {}

    def of(self, cell: Cell, seeds: int, devices: int = 1) -> Program:
        """Return the program of a cell, for groups of this number of seeds."""
        source, config, name = cell.source or cell.rule, cell.config, cell.env.name
        digest = cell.given.sha256 if cell.given else weights_digest(source)
        key = repr((source, digest, name, config, seeds, devices, cell.values is None))
        if key not in self._kept:
            while len(self._kept) >= _KEPT:  # the oldest first
                self._kept.pop(next(iter(self._kept)))

            def with_values(values: Settings) -> Rule:
                return resolve(source, config, name, values)

            rule = with_values
            if cell.given is not None:
                rule = cell.given.resolve(config, name)
            elif cell.values is None:
                rule = resolve(source, config, name)
            self._kept[key] = Program(
                config, cell.env, rule, seeds, devices, cell.values
            )
        program = self._kept[key]
        if cell.values is not None:
            program.values = dict(cell.values)
        return program


def task(cell: Cell, seeds: range, devices: int, weights_sha256: str | None) -> str:
    """Return a group's run as JSON, which `perform` takes.

    ``weights_sha256`` is the digest of ``cell.rule``.

    Raises:
        ValueError: The rule is a Python object, which has no text.
    """
    if cell.given is not None:
        raise ValueError(
            f"rule={cell.rule!r} is a Python object, which workers cannot get. Name it "
            "as MODULE:NAME of a module that they have"
        )
    source = weights_digest(cell.source) if cell.source else weights_sha256
    own = {"source": cell.source, "source_sha256": source, "values": cell.values}
    group = described(cell, seeds, weights_sha256)
    return json.dumps({**group, **own, "devices": devices})


def described(cell: Cell, seeds: range, weights_sha256: str | None) -> Record:
    """Return what identifies a group of runs, as JSON."""
    return {
        "rule": cell.rule,
        "weights_sha256": weights_sha256,
        "environment": cell.env.name,
        "agent": agent_of(cell.config),
        "config": dataclasses.asdict(cell.config),
        "seeds": list(seeds),
        "variant": cell.variant,
    }


def perform(text: str) -> str:
    """Train the agents of a `task` and return their rows as JSON.

    Raises:
        ValueError: The rule's weights or text here are not those of the task.
    """
    asked = json.loads(text)
    source, name = asked["source"] or asked["rule"], asked["environment"]
    if weights_digest(source) != asked["source_sha256"]:
        raise ValueError(
            f"rule={source!r} differs on this worker. Copy its files to the worker"
        )
    cell = Cell(
        asked["rule"],
        envs.make(name),
        config_type(asked["agent"])(**tuples(asked["config"])),
        asked["variant"],
        asked["source"],
        asked["values"],
    )
    seeds = asked["seeds"]
    program = _PROGRAMS.of(cell, len(seeds), asked["devices"])
    trained = run.train(program, seeds)
    made = run.rows(
        program, trained, cell.rule, asked["weights_sha256"], seeds, cell.variant
    )
    return json.dumps([row.to_json() for row in made])


# A worker keeps its programs here between tasks.
_PROGRAMS = Programs()
