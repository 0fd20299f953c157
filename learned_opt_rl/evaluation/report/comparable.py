"""Settings, which are rows that may be compared, and the commands that make rows."""

import dataclasses
import json
import pathlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from learned_opt_rl.agents.presets import CONFIGS
from learned_opt_rl.evaluation.runs.row import ROWS, Row, read_rows
from learned_opt_rl.evaluation.runs.rules import weights_digest

Digests = Mapping[str, str | None]
"""The SHA-256 of each rule's current version, as of `weights_digest`."""
_Run = tuple[str, str, str | None]
"""The rule of a run, its agent, and the digest of its weights if recorded."""


@dataclasses.dataclass(frozen=True)
class Setting:
    """Runs that differ only in rule, environment and seed."""

    label: str  # what sets this setting apart, "" if it is alone
    # what differs from the published settings, {"hidden": "256x256"}
    variant: dict[str, Any]
    # `facts` in which these runs differ from others of the same rule and seed
    apart: dict[str, str]
    rows: list[Row]  # sorted by environment, rule and seed, one row for each
    repeated: int  # number of rows that a later row of the same run replaced


def rows_file(path: pathlib.Path) -> pathlib.Path:
    """Return the results file that a path means, which may be in a folder."""
    return path if path.suffix == ".jsonl" or path.is_file() else path / ROWS


def read(path: pathlib.Path) -> list[Row]:
    """Read the rows of a results file or of a folder with one.

    Raises:
        ValueError: The file has no rows, or a line is not a row. The message names it.
    """
    path = rows_file(path)
    rows = read_rows(path)
    if not rows:
        raise ValueError(f"{path} has no rows; run a comparison first")
    return rows


def named(rows: Iterable[Row], digests: Digests | None = None) -> list[Row]:
    """Return rows in which every agent and every set of weights has a unique name.

    Where rows have several agents, the rules of all but the first of them, in the order
    of `CONFIGS`, are named like ``"adam (a2c)"``. Rules with replaced weights are named
    like ``"minatar:8e9739e7"``, after the SHA-256 of the weights. Weights count as
    replaced if they differ from ``digests`` or, without one, from the installed ones.
    Without either, the weights of the rule's last row count as current. A row that does
    not record its weights keeps its name. The names thus depend on the installed
    artifacts and on files that are rules.
    """
    rows = list(rows)
    last = {_whole(row.rule): row.weights_sha256 for row in rows if row.weights_sha256}
    agents = {row.agent for row in rows}
    first = next((a for a in CONFIGS if a in agents), min(agents, default=""))
    found = {}
    for run in set(map(_run, rows)):
        rule, agent, digest = run
        current = (digests or {}).get(rule) or weights_digest(rule)
        current = current or last.get(_whole(rule))
        name = rule if digest in (None, current) else f"{rule}:{digest[:8]}"
        found[run] = name if agent == first else f"{name} ({agent})"
    return [dataclasses.replace(row, rule=found[_run(row)]) for row in rows]


def superseded(rows: Sequence[Row], named: Sequence[Row]) -> set[str]:
    """Return the names of `named` that are earlier versions of a rule.

    The current version has the rule's own name. If no row has it, the version of the
    last row in ``rows`` counts as current, even if it is not the newest.
    """
    marks = [
        new.rule.removeprefix(row.rule).partition(" ")[0]
        for row, new in zip(rows, named, strict=True)
    ]
    shown: dict[str, str] = {}
    for row, mark in zip(rows, marks, strict=True):
        if shown.get(row.rule) != "":
            shown[row.rule] = mark
    return {
        new.rule
        for row, new, mark in zip(rows, named, marks, strict=True)
        if mark != shown[row.rule]
    }


def parts(name: str) -> tuple[str, str, str]:
    """Return the rule, the digest with its colon and the agent in a name of `named`.

    Example:
        >>> parts("minatar@no-horizon:8e9739e7 (a2c)")
        ('minatar@no-horizon', ':8e9739e7', ' (a2c)')
        >>> parts("adam:1e-3")
        ('adam:1e-3', '', '')
    """
    match = re.fullmatch(r"(.+?)(:[0-9a-f]{8})?( \(\w+\))?", name, re.DOTALL)
    return (match[1], match[2] or "", match[3] or "") if match else (name, "", "")


def _run(row: Row) -> _Run:
    return row.rule, row.agent, row.weights_sha256


def _whole(rule: str) -> str:
    # A rule that lacks a feature has the weights of the whole rule.
    return rule.partition("@")[0]


def settings(rows: Iterable[Row]) -> list[Setting]:
    """Split rows into settings within which rules can be compared, sorted by label.

    Rows of different variants are different settings. So are rows of different lengths
    or agents, where one environment has several, and rows of the same rule, environment
    and seed with other `facts`, such as another version of jax. The order of the rows
    does not matter, except that of rows with the same facts the last counts.
    """
    rows = list(rows)
    apart = [field for field in ("agent", "total_timesteps") if _varies(rows, field)]
    clashing = _clashing(rows)
    groups: dict[str, list[Row]] = {}
    for row in rows:
        parts = [row.variant, *(getattr(row, field) for field in apart)]
        parts.append(_chosen(row, clashing))
        groups.setdefault(json.dumps(parts, sort_keys=True), []).append(row)
    made = [_setting(group, apart, clashing) for group in groups.values()]
    made.sort(key=lambda setting: (_length(setting, apart), setting.label))
    if len(made) > 1 and not made[0].label:
        made[0] = dataclasses.replace(made[0], label="nothing changed")
    return made


def commands(
    rows: Iterable[Row], folder: str = "again", command: str = "compare"
) -> list[str]:
    """Return the shell commands that make the rows again.

    There is one per agent, length, variant and range of consecutive seeds. The command
    ``"evaluate"`` accepts rows of one rule. No command makes the rows of rules that
    were given as Python objects.
    """
    groups: dict[tuple, list[Row]] = {}
    for row in (row for row in rows if not row.given):
        variant = tuple(sorted(f"{k}={v}" for k, v in row.variant.items()))
        key = (row.agent, row.total_timesteps, variant)
        groups.setdefault(key, []).append(row)
    return [
        shlex.join(["learned-opt-rl", command, *words, "--out", folder])
        for key in sorted(groups)
        for words in _arguments(key, groups[key])
    ]


def _arguments(key: tuple, rows: list[Row]) -> Iterator[list[str]]:
    agent, steps, variant = key
    rules = sorted({row.rule for row in rows})
    environments = sorted({row.environment for row in rows})
    seeds = sorted({row.seed for row in rows})
    starts = [seed for seed in seeds if seed - 1 not in seeds]
    ends = [seed for seed in seeds if seed + 1 not in seeds]
    # A command runs consecutive seeds, so each range of them takes one.
    for first, last in zip(starts, ends, strict=True):
        yield [
            *rules,
            *("--environments", *environments),
            *("--seeds", str(last - first + 1)),
            *(("--first-seed", str(first)) if first else ()),
            # All digits: rounded steps would be another run.
            *("--steps", f"{steps:.15g}"),
            *(("--agent", agent) if agent != "ppo" else ()),
            *(("--set", *variant) if variant else ()),
        ]


def facts(row: Row) -> dict[str, str]:
    """Return what a number depends on besides rule, seed and length, as text.

    These are the agent and its configuration, the weights, the device, and the details
    and versions of the environment and the libraries. A fact that was not recorded is
    missing.
    """
    known = row.agent in CONFIGS
    found = {
        "weights": row.weights_sha256 and row.weights_sha256[:12],
        "device": row.device,
        "agent": row.agent,
        **row.versions,
        **row.environment_details,
        **(row.full_config if known else row.config),
    }
    found.pop("total_timesteps", None)
    return {name: text(value) for name, value in found.items() if value is not None}


def text(value: Any) -> str:
    """Write a value of a configuration, layers as in 256x256."""
    return "x".join(map(str, value)) if isinstance(value, list) else str(value)


def _clashing(rows: Iterable[Row]) -> list[str]:
    """Return the names of facts that differ between rows of one rule and seed."""
    same: dict[tuple, list[Row]] = {}
    for row in rows:
        variant = json.dumps(row.variant, sort_keys=True)
        run = (row.environment, row.rule, row.seed, row.agent, row.total_timesteps)
        same.setdefault((*run, variant), []).append(row)
    names = set()
    for group in same.values():
        if len(group) > 1:
            known = [facts(row) for row in group]
            every = {name for one in known for name in one}
            names |= {n for n in every if len({one.get(n) for one in known}) > 1}
    return sorted(names)


def _chosen(row: Row, names: Sequence[str]) -> dict[str, str]:
    found = facts(row) if names else {}
    return {name: found.get(name, "unknown") for name in names}


def _setting(rows: list[Row], apart: Sequence[str], clashing: Sequence[str]) -> Setting:
    variant = dict(sorted(rows[0].variant.items()))
    chosen = _chosen(rows[0], clashing)
    parts = variant | {field: getattr(rows[0], field) for field in apart}
    parts |= {name: value[:40] for name, value in chosen.items()}
    last = {(row.environment, row.rule, row.seed): row for row in rows}
    return Setting(
        label=", ".join(f"{key}={value}" for key, value in parts.items()),
        variant=variant,
        apart=chosen,
        rows=[last[key] for key in sorted(last)],
        repeated=len(rows) - len(last),
    )


def _length(setting: Setting, apart: Sequence[str]) -> float:
    """Return the number by which lengths sort, which as text would be wrong."""
    return setting.rows[0].total_timesteps if "total_timesteps" in apart else 0


def _varies(rows: Iterable[Row], field: str) -> bool:
    """Return whether a field differs within an environment (and rule)."""
    seen: dict[tuple, set] = {}
    for row in rows:
        key = (row.environment, json.dumps(row.variant, sort_keys=True))
        # Rules may each need their own agent. One rule with two agents is two settings.
        key += (row.rule,) if field == "agent" else ()
        seen.setdefault(key, set()).add(getattr(row, field))
    return any(len(values) > 1 for values in seen.values())
