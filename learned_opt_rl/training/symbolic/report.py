"""The result of a symbolic distillation: a table and a figure."""

import pathlib
from typing import Any

import numpy as np

from learned_opt_rl import expressions
from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.training.proposal.journal import EVENTS
from learned_opt_rl.training.run_folder import read_config
from learned_opt_rl.training.symbolic.search import METHOD, best_of

_UNSCORED: Record = {"fitness": None, "scores": [], "problem": ""}


def rows(folder: pathlib.Path) -> list[Record]:
    """Return the usable expressions of a run, lowest loss first.

    Those that trained agents have a ``fitness``, or a ``problem``.

    Raises:
        ValueError: The folder holds no such run, or one without expressions yet.
    """
    events = jsonl.read(folder / EVENTS)
    kept = [e["rows"] for e in events if e["event"] == "front"]
    if not kept:
        raise ValueError(
            f"{folder} has no expressions yet; repeat the `train symbolic` command"
        )
    scored = {e["text"]: e for e in events if e["event"] == "outcome"}
    found = []
    for row in kept[0]:
        outcome = scored.get(row["text"], _UNSCORED)
        if not row["problem"]:
            found.append({**row, **{name: outcome[name] for name in _UNSCORED}})
    return found


def references(folder: pathlib.Path) -> dict[str, float]:
    """Return the fitness of the teacher, if it has a name, and of tuned Adam."""
    events = jsonl.read(folder / EVENTS)
    return {e["rule"]: e["fitness"] for e in events if e["event"] == "reference"}


def table(folder: pathlib.Path) -> list[list[str]]:
    """Return the expressions as rows of text, with a header.

    The columns are size, loss, fitness, the mean return in each environment and the
    formula.

    Raises ValueError as `rows`.
    """
    names = read_config(folder)["config"]["evaluation"]["environments"]
    returned = {
        (event["of"], event["environment"]): np.mean(event["scores"]["returns"])
        for event in jsonl.read(folder / EVENTS)
        if event["event"] == "train" and event["scores"]
    }

    def means(rule: str) -> list[str]:
        found = [returned.get((rule, name)) for name in names]
        return ["" if value is None else f"{value:.3g}" for value in found]

    made = [["size", "loss", "fitness", *names, "formula"]]
    for rule, fitness in references(folder).items():
        made.append(["", "", f"{fitness:.3f}", *means(rule), rule])
    for row in rows(folder):
        fitness = "" if row["fitness"] is None else f"{row['fitness']:.3f}"
        lines = expressions.parse(row["text"]).to_text().splitlines()
        said = [one for one in lines[1:] if not one.startswith(("inputs ", "memory "))]
        numbers = [str(row["size"]), f"{row['loss']:.2g}", fitness]
        made.append([*numbers, *means(row["text"]), "; ".join(said)])
    return made


def result(folder: pathlib.Path) -> Record:
    """Return the expression that a finished run chose, as `rows` has it.

    Raises:
        ValueError: As `rows`, or the run is not finished, or nothing has a score.
    """
    wanted = read_config(folder)["config"]["candidates"]
    found = rows(folder)
    tried = [row for row in found if row["scores"] or row["problem"]]
    if len(tried) < min(wanted, len(found)):
        raise ValueError(
            f"{folder} is not finished: {len(tried)} of {min(wanted, len(found))} "
            "candidates have a score; repeat the `train symbolic` command"
        )
    if not wanted:
        return found[0]
    scored = [row for row in tried if row["fitness"] is not None]
    if not scored:
        raise ValueError(f"{folder} has no candidate with a score")
    return best_of(scored)


def draws(folder: pathlib.Path) -> bool:
    """Return whether a folder holds a symbolic distillation.

    Raises ValueError if it has events and no readable configuration.
    """
    return (folder / EVENTS).exists() and read_config(folder)["kind"] == METHOD


@figures.plain_style()
def draw_front(folder: pathlib.Path, path: str | pathlib.Path) -> None:
    """Draw loss and fitness of the expressions over their size, as PNG or SVG.

    Dashed lines show the fitness of the teacher and of tuned Adam.

    Raises:
        ValueError: As `rows`.
        MissingExtraError: matplotlib is not installed.
    """
    found = rows(folder)
    scored = [row for row in found if row["fitness"] is not None]
    figure = figures.new_figure(9, 4)
    left, right = figure.subplots(1, 2)
    _dots(left, found, "loss")
    left.set(yscale="log", ylabel="squared error / variance of the teacher")
    _dots(right, scored, "fitness")
    right.set_ylabel("fitness")
    for name, style in figures.styles(references(folder)).items():
        look = {"color": style["color"], "linestyle": "--", "linewidth": 1}
        value = references(folder)[name]
        right.axhline(value, label=figures.text(name), **look)
    if right.get_legend_handles_labels()[0]:
        right.legend(frameon=False, loc="best")
    for axes in (left, right):
        axes.set_xlabel("operations and operands")
        axes.spines[["top", "right"]].set_visible(False)
    figures.save(figure, path)


def _dots(axes: Any, found: list[Record], what: str) -> None:
    axes.plot([r["size"] for r in found], [r[what] for r in found], "o", color="0.2")
