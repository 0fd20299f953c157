"""A row: the measurements of one run, which is a rule, an environment and a seed."""

import dataclasses
import functools
import json
import pathlib
from collections.abc import Iterable, Mapping
from typing import Any, Self

import numpy as np

from learned_opt_rl.agents.config import Config
from learned_opt_rl.agents.presets import CONFIGS
from learned_opt_rl.checks import one_of
from learned_opt_rl.rundir import jsonl

ROWS, FAILURES = "rows.jsonl", "failures.jsonl"
"""The files in the folder of a comparison: its rows, and the runs that raised."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """The measurements of one run.

    Fields with a default may be missing from rows that older versions wrote.

    Attributes:
        rule: Name of the rule, as `rules.resolve` accepts it.
        weights_sha256: Digest of the rule's weights or text; None for a rule without
            weights, such as Adam. See also ``weights_recorded``.
        environment: Name of the environment.
        agent: ``"ppo"``, ``"a2c"`` or ``"lpg"``.
        seed: The seed.
        total_timesteps: Environment steps.
        final_return: Last value of ``curve``.
        auc: Mean of the finite values of ``curve``; None if there is none.
        diverged: Whether parameters ended up NaN or infinite.
        nan_updates: Number of updates with an entry that was not finite.
        curve: Mean return after each rollout; None before an episode has ended.
        dormant: Share of neurons whose dormancy is at most 0.025, after at most 200
            rollouts, evenly spaced up to the last.
        num_agents: Seeds that were trained together, to which all times belong.
        compile_seconds: Compilation time.
        wall_seconds: Run time without compilation.
        steps_per_second: Environment steps per second of all seeds together.
        environment_details: Versions and options of the environment, and its
            ``optimal_return`` where that is known.
        variant: Settings that differ from the published ones, as text.
        versions: Versions of the libraries.
        revision: Git revision of the code.
        device: The accelerator, such as ``"cpu"``.
        cpu: The processor and its number of cores.
        config: The agent's configuration, as JSON.
        given: Whether the rule was a Python object, which no command can name.
        extra: Fields that this version does not know.
        unrecorded: Names of the fields that the JSON object lacked.

    Example:
        >>> where = {"environment": "ant", "total_timesteps": 1000}
        >>> row = Row(rule="adam", seed=0, curve=[3.0], **where)
        >>> row.agent, row.failed
        ('ppo', True)
    """

    rule: str
    weights_sha256: str | None = None
    environment: str
    agent: str = "ppo"
    seed: int
    total_timesteps: int | float
    final_return: float | None = None
    auc: float | None = None
    diverged: bool = False
    nan_updates: int | None = None
    curve: list[float | None]
    dormant: list[float | None] = dataclasses.field(default_factory=list)
    num_agents: int | None = None
    compile_seconds: float | None = None
    wall_seconds: float | None = None
    steps_per_second: float | None = None
    environment_details: dict[str, Any] = dataclasses.field(default_factory=dict)
    variant: dict[str, str] = dataclasses.field(default_factory=dict)
    versions: dict[str, str | None] = dataclasses.field(default_factory=dict)
    revision: str | None = None
    device: str | None = None
    cpu: str | None = None
    config: dict[str, Any] = dataclasses.field(default_factory=dict)
    given: bool = False
    extra: dict[str, Any] = dataclasses.field(default_factory=dict)
    unrecorded: frozenset[str] = frozenset()

    @classmethod
    def from_json(cls, values: Mapping[str, Any], source: str = "row") -> Self:
        """Return the row of a JSON object, with defaults for missing fields.

        The author of the file need not be trusted: a missing field or a wrong value is
        a `ValueError`, in which ``source`` names the row.
        """
        for field, (accepts, wanted) in _CHECKS.items():
            value = values.get(field)
            if not (accepts(value) or (value is None and field not in _REQUIRED)):
                raise ValueError(
                    f"{source} has {field}={_shown(value)}, which must be {wanted}; "
                    "correct or delete it"
                )
        # Null stands for the default, as if the field were missing.
        given: dict[str, Any] = {
            field: values[field] for field in _FIELDS if values.get(field) is not None
        }
        curve = values["curve"]
        if "auc" not in values and None not in curve:
            given["auc"] = float(np.mean(curve))
        return cls(
            **given,
            extra={k: v for k, v in values.items() if k not in _FIELDS},
            unrecorded=frozenset(_FIELDS) - values.keys(),
        )

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object, without the fields that were not recorded."""
        written = [field for field in _FIELDS if field not in self.unrecorded]
        return {field: getattr(self, field) for field in written} | self.extra

    @property
    def weights_recorded(self) -> bool:
        """Whether the row records the digest of the weights; old rows do not."""
        return "weights_sha256" not in self.unrecorded

    @property
    def failed(self) -> bool:
        """Whether the run diverged or ended without a return."""
        return self.diverged or self.final_return is None

    @property
    def too_short(self) -> bool:
        """Whether the run ended before an episode did, so that it has no return."""
        return self.final_return is None and not self.diverged

    @property
    def outcome(self) -> str:
        """``"finished"``, ``"diverged"`` or ``"no episode ended"``."""
        if self.too_short:
            return "no episode ended"
        return "diverged" if self.diverged else "finished"

    @property
    def steps_run(self) -> int | float:
        """Environment steps that were played: those that fill rollouts."""
        match self.config:
            case {"num_envs": int(envs), "num_steps": int(steps)}:
                return min(envs * steps * len(self.curve), self.total_timesteps)
        return self.total_timesteps

    def identity(self, current_sha256: str | None = None) -> str:
        """Return the `identity` of the row's run.

        Fields that the configuration lacked when the row was written count as their
        defaults, because the run used those. The digest of the rule's current weights
        stands in for a digest that was not recorded.
        """
        digest = self.weights_sha256 if self.weights_recorded else current_sha256
        parts = [self.rule, digest, self.environment, self.seed, self.agent]
        return _text([*parts, self.full_config], self.variant)

    @property
    def setting(self) -> tuple:
        """The setting in which rules are compared, see `setting`."""
        return setting(self.environment, self.agent, self.total_timesteps, self.variant)

    @property
    def full_config(self) -> dict[str, Any]:
        """The configuration with the fields that it lacked when it was written."""
        return _config_defaults(self.agent) | self.config


def identity(
    rule: str,
    weights_sha256: str | None,
    environment: str,
    config: Config,
    seed: int,
    variant: Mapping[str, str] | None = None,
) -> str:
    """Return a text that differs between any two different runs."""
    settings = dataclasses.asdict(config)
    parts = [rule, weights_sha256, environment, seed, agent_of(config), settings]
    return _text(parts, variant or {})


def setting(
    environment: str, agent: str, total_timesteps: float, variant: Mapping[str, str]
) -> tuple:
    """Return a key that is equal for two runs if their rules can be compared."""
    return environment, agent, total_timesteps, str(sorted(variant.items()))


def agent_of(config: Config) -> str:
    """Return the name of the agent that a configuration belongs to."""
    return type(config).__name__.removesuffix("Config").lower()


def config_type(agent: str) -> type[Config]:
    """Return the configuration class of an agent."""
    one_of("agent", agent, CONFIGS)
    return CONFIGS[agent]


def read_rows(path: str | pathlib.Path) -> list[Row]:
    """Read the rows of a results file, none if there is no such file.

    Raises:
        ValueError: A line is not a row of a run; the message names it.

    Example:
        >>> read_rows("no/such/file.jsonl")
        []
    """
    return [
        Row.from_json(values, f"{path}: row {number}")
        for number, values in enumerate(jsonl.read(path), 1)
    ]


def append_rows(path: str | pathlib.Path, rows: Iterable[Row]) -> None:
    """Append rows to a results file; see `jsonl.append`.

    Raises:
        ValueError: The file holds something other than rows.
    """
    jsonl.append(path, [row.to_json() for row in rows], accepts=Row.from_json)


def grouped(rows: Iterable[Row]) -> dict[tuple[str, str], list[Row]]:
    """Return the seeds of each ``(rule, environment)``, in order of appearance."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        groups.setdefault((row.rule, row.environment), []).append(row)
    return groups


def _text(parts: list[Any], variant: Mapping[str, str]) -> str:
    return json.dumps([*parts, dict(variant)], sort_keys=True)


@functools.cache
def _config_defaults(agent: str) -> dict[str, Any]:
    """Return the values of the fields that older configurations lack, as JSON.

    A value is the field's default, or the metadata ``formerly`` if runs before the
    field behaved otherwise. Tuples are lists in JSON.
    """
    found = {
        field.name: field.metadata.get("formerly", field.default)
        for field in dataclasses.fields(config_type(agent))
        if field.default is not dataclasses.MISSING
    }
    return json.loads(json.dumps(found))


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _is_number(value: Any) -> bool:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and abs(value) <= _LARGEST


def _is_integer(value: Any) -> bool:
    return _is_number(value) and isinstance(value, int)


def _is_curve(value: Any) -> bool:
    return isinstance(value, list) and all(v is None or _is_number(v) for v in value)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_object(value: Any) -> bool:
    return isinstance(value, dict) and _is_plain(value, _DEEPEST)


def _is_plain(value: Any, levels: int) -> bool:
    """Return whether a value of JSON has no infinite number and few levels."""
    if isinstance(value, dict | list | tuple):
        inner = value.values() if isinstance(value, dict) else value
        return levels > 0 and all(_is_plain(one, levels - 1) for one in inner)
    return isinstance(value, str | bool | None) or _is_number(value)


# Sums and products of two such numbers are finite. No return is as large.
_LARGEST = 1e100
# A configuration has three levels. A thousand levels cannot be written as JSON.
_DEEPEST = 10
_MEASURED = (_is_number, "a finite number or null")
_OBJECT = (_is_object, "an object of a few levels with finite numbers")
_COUNT = (_is_integer, "an integer or null")
_TEXT = (_is_text, "a text or null")
_SWITCH = (lambda v: isinstance(v, bool), "true or false")
_CHECKS: dict[str, tuple] = {
    "rule": (_is_name, "a name"),
    "environment": (_is_name, "a name"),
    "seed": (_is_integer, "an integer"),
    "total_timesteps": (lambda v: _is_number(v) and v > 0, "a positive number"),
    "curve": (lambda v: _is_curve(v) and bool(v), "a list of finite numbers and nulls"),
    "final_return": _MEASURED,
    "auc": _MEASURED,
    "nan_updates": _COUNT,
    "num_agents": _COUNT,
    "compile_seconds": _MEASURED,
    "wall_seconds": _MEASURED,
    "steps_per_second": _MEASURED,
    "dormant": (_is_curve, "a list of numbers"),
    "agent": (_is_name, "a name"),
    "variant": _OBJECT,
    "config": _OBJECT,
    "versions": _OBJECT,
    "environment_details": _OBJECT,
    "weights_sha256": _TEXT,
    "revision": _TEXT,
    "device": _TEXT,
    "cpu": _TEXT,
    "diverged": _SWITCH,
    "given": _SWITCH,
}
_REQUIRED = ("rule", "environment", "seed", "total_timesteps", "curve")
_FIELDS = tuple(
    field.name
    for field in dataclasses.fields(Row)
    if field.name not in ("extra", "unrecorded")
)
