"""Differences between runs that are compared, besides their rules."""

from collections.abc import Iterable, Sequence

from learned_opt_rl.evaluation.report.comparable import facts
from learned_opt_rl.evaluation.runs.row import Row

Values = dict[str, dict[str, None]]
"""The rules with each value of a fact, in order of appearance."""

# A note lists at most so many values of a fact, and rules with a value; of more, it
# states the number.
_NAMED = 3
_LONGEST = 40
_REVISION = "revision"


def notes(rows: Sequence[Row], baseline: str) -> list[str]:
    """Return a note on the facts that differ within an environment, if any does.

    Facts are those of `comparable.facts` and the revision of the code. Weights are
    compared within each rule. A row without a fact does not differ in this fact.
    """
    shown: dict[str, list[str]] = {}  # environments by text
    kinds = _kinds(rows)
    known = [(row, _facts(row)) for row in rows]
    paired = False
    for environment in sorted({row.environment for row in rows}):
        here = [one for one in known if one[0].environment == environment]
        for name, values in _varying(here).items():
            text = f"{kinds.get(name, name)} {_listed(name, values)}".strip()
            shown.setdefault(text, []).append(environment)
            paired = paired or _between_pairs(here, name, baseline)
    if not shown:
        return []
    every = len({row.environment for row in rows})
    parts = [
        text + (f" (in {', '.join(where)})" if len(where) < every else "")
        for text, where in shown.items()
    ]
    note = f"Runs differ in more than their rules: {'; '.join(parts)}."
    if paired:
        note += f" Paired differences from {baseline} compare such runs."
    return [note]


def _facts(row: Row) -> dict[str, str]:
    found = facts(row)
    if "weights" in found:  # Each rule has its own.
        found[f"weights of {row.rule}"] = found.pop("weights")
    return found | ({_REVISION: row.revision} if row.revision else {})


def _varying(rows: Iterable[tuple[Row, dict[str, str]]]) -> dict[str, Values]:
    found: dict[str, Values] = {}
    for row, known in rows:
        for name, value in known.items():
            found.setdefault(name, {}).setdefault(value, {})[row.rule] = None
    return {name: values for name, values in sorted(found.items()) if len(values) > 1}


def _between_pairs(
    rows: Iterable[tuple[Row, dict[str, str]]], name: str, baseline: str
) -> bool:
    """Return whether a fact differs between a run and the baseline's of its seed."""
    values = {(row.rule, row.seed): known.get(name) for row, known in rows}
    return any(
        None not in (value, other := values.get((baseline, seed))) and value != other
        for (_, seed), value in values.items()
    )


def _kinds(rows: Iterable[Row]) -> dict[str, str]:
    """Return how the note calls a fact, unless by the fact's own name."""
    kinds = {_REVISION: "revision of the code"}
    for row in rows:
        kinds |= {name: f"setting {name}" for name in row.config}
        kinds |= {
            name: f"environment detail {name}" for name in row.environment_details
        }
        kinds |= {name: f"version of {name}" for name in row.versions}
    return kinds


def _listed(name: str, values: Values) -> str:
    if name == _REVISION:  # Most changes of the code change no number.
        return ""
    if len(values) > _NAMED:
        return f"({len(values)} values)"
    texts = [f"{v[:_LONGEST]} ({_rules(list(rules))})" for v, rules in values.items()]
    return ", ".join(texts)


def _rules(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= _NAMED else f"{len(names)} rules"
