"""Write the table and the picture of the README from the raw rows.

    python docs/_readme.py

The README keeps the table, because code hosts do not generate it. A test compares both.
The documentation shows the same table with all rules and a column per game.
"""

import dataclasses
import pathlib
from collections.abc import Iterable, Iterator

from _board_page import percent as percent_of_adam
from _board_page import rows_after, run_times

from learned_opt_rl import envs
from learned_opt_rl.evaluation.pictures import comparison, figures
from learned_opt_rl.evaluation.report import comparable, gather, tables
from learned_opt_rl.evaluation.report.statistics import MIN_SEEDS, Estimate
from learned_opt_rl.evaluation.runs.row import Row

ROOT = pathlib.Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- table of docs/_readme.py -->", "<!-- end of table -->"
PICTURE = "docs/returns_1e6.svg"

RULES = {
    "lpo/minatar": "tuned Adam with the drift `lpo/minatar`",
    "proposed/drift": "tuned Adam with the drift `proposed/drift`",
    "proposed/optimizer": "`proposed/optimizer`",
    "minatar": "`minatar`",
    "distilled/sign_mixture": "`distilled/sign_mixture`",
    "results/tune_adam_one_rate_1e6/tuned.json": "Adam, 0.0043 in each game, annealed",
    "adam:1e-3": "Adam, 1e-3 in each game",
}
"""The rules of the table with their titles there."""

README_RULES = ("lpo/minatar", "proposed/optimizer", "minatar")
DRAWN = ("lpo/minatar", "proposed/optimizer")
"""The rules of the README's table and picture; tuned Adam is drawn, too."""


def table(raw: pathlib.Path) -> str:
    """Return the README's table: a few rules without the columns of the games."""
    lines = [(*line[:2], *line[-3:]) for line in percent(raw, README_RULES)]
    # A rule with fewer than five seeds in a game would have only dashes.
    return tables.render([line for line in lines if line[2] != "-"], "github")


def percent(
    raw: pathlib.Path, rules: Iterable[str] = tuple(RULES)
) -> list[tuple[str, ...]]:
    """Return head and lines: returns in percent of tuned Adam's mean return."""
    games = envs.suite("minatar")
    short = [name.removesuffix("-MinAtar") for name in games]
    head = ("steps", "rule", *short, "games, IQM [95%]", "better [95%]", "time")
    rules = set(rules)
    return [head, *(x for s in ("1e6", "1e7") for x in _lines(raw, s, rules))]


def _lines(raw: pathlib.Path, steps: str, rules: set[str]) -> Iterator[tuple[str, ...]]:
    """Yield a line for each rule that ran in a game for that many steps."""
    (found,) = gather.gather(_rows(raw, steps), "adam")
    times, games = run_times(raw, RULES), envs.suite("minatar")
    whole = {*found.scores.environments} == {*games}  # else they leave a game out
    for rule, title in RULES.items():
        returns = found.normalized.returns.get(rule)
        if not returns or rule not in rules:
            continue
        means = percent_of_adam(returns)
        cells = [_cell(means.get(game), len(returns.get(game, ()))) for game in games]
        iqm = found.aggregates.get(rule, {}).get("IQM") if whole else None
        better = found.improvement.get(rule) if whole else None
        time = f"{times[rule]:.1f}" if rule in times else "-"
        yield steps, title, *cells, _percent(iqm), _percent(better), time


def _rows(raw: pathlib.Path, steps: str) -> list[Row]:
    """Return the rows of the rules of the table and of tuned Adam."""
    # Other rules did not run in all games, and games without them would be left out.
    rules = {"adam", *RULES}
    return [r for r in comparable.named(rows_after(steps, raw)) if r.rule in rules]


def _cell(value: float | None, seeds: int) -> str:
    few = "" if seeds >= MIN_SEEDS else f" ({seeds})"
    return "-" if value is None else f"{value:.0f}{few}"


def _percent(estimate: Estimate | None) -> str:
    if estimate is None or estimate.low is None or estimate.high is None:
        return "-"
    low, high = 100 * estimate.low, 100 * estimate.high
    return f"{100 * estimate.value:.0f} [{low:.0f}, {high:.0f}]"


def write_percent(generated: pathlib.Path, raw: pathlib.Path) -> None:
    """Write the whole table and draw the curves of all rules after 1e7 steps."""
    text = tables.render(percent(raw), "github")
    (generated / "percent.md").write_text(text + "\n", encoding="utf-8")
    draw(raw, generated / "returns_1e7.png", "1e7")


def draw(
    raw: pathlib.Path, path: pathlib.Path, steps: str, rules: Iterable[str] = RULES
) -> None:
    """Draw the learning curves of some rules and of tuned Adam."""
    titles = {rule: RULES[rule].replace("`", "") for rule in rules}
    titles["adam"] = "tuned Adam"
    rows = [
        dataclasses.replace(row, rule=titles[row.rule])
        for row in _rows(raw, steps)
        if row.rule in titles
    ]
    figures.save(comparison.curves_figure(rows), path)


def main() -> None:
    """Put the table into the README, and write the picture beside the docs."""
    readme = ROOT / "README.md"
    before, rest = readme.read_text("utf-8").split(BEGIN)
    _, after = rest.split(END)
    new = f"{before}{BEGIN}\n{table(ROOT / 'results')}\n{END}{after}"
    readme.write_text(new, encoding="utf-8")
    draw(ROOT / "results", ROOT / PICTURE, "1e6", DRAWN)


if __name__ == "__main__":
    main()
