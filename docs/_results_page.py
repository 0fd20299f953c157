"""Tables of measured results for the documentation, from the raw rows."""

import pathlib

from learned_opt_rl.evaluation import results, tables
from learned_opt_rl.evaluation.missing_features import FEATURES


def write_table(folder: pathlib.Path, rows: pathlib.Path) -> None:
    """Write ``NAME.md``, a table of the rows of ``NAME.jsonl``, into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    table = tables.markdown(results.read(rows))
    (folder / f"{rows.stem}.md").write_text(table + "\n", encoding="utf-8")


def write_missing_features(folder: pathlib.Path, rows: pathlib.Path) -> None:
    """Write what a rule reaches without each feature: the mean and its seeds."""
    found = results.grouped(results.read(rows))
    environments = list(dict.fromkeys(environment for _, environment in found))
    lines = [
        f"| what is missing | {' | '.join(environments)} |",
        f"| --- |{' --- |' * len(environments)}",
    ]
    for rule in dict.fromkeys(rule for rule, _ in found):
        cells = [_seeds_and_mean(found.get((rule, e), [])) for e in environments]
        lines.append(f"| {_missing(rule)} | {' | '.join(cells)} |")
    path = folder / f"{rows.stem}.md"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _missing(rule: str) -> str:
    name, _, feature = rule.partition("@")
    if feature:
        return f"`{feature}`: {FEATURES[feature]}"
    return "nothing" if "/" in name else f"(`{name}`)"


def _seeds_and_mean(rows: list[results.Row]) -> str:
    values = [row["final_return"] for row in rows]
    if not values:
        return "not run"
    if None in values:
        return f"{values.count(None)} of {len(values)} diverged"
    seeds = ", ".join(f"{value:.1f}" for value in values)
    return f"**{sum(values) / len(values):.1f}** ({seeds})"
