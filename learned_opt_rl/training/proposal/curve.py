"""The discovery curve of a search: the score of each candidate, and the best so far."""

import pathlib
from typing import NamedTuple

import numpy as np

from learned_opt_rl.evaluation.pictures import figures
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.training.proposal import archive, conversation, discovery
from learned_opt_rl.training.proposal.discovery import Discovery
from learned_opt_rl.training.proposal.journal import EVENTS
from learned_opt_rl.training.run_folder import read_config


class _Scores(NamedTuple):
    label: str
    candidates: list[float]
    others: dict[str, float]  # reference values by name
    falls: bool  # whether lower is better


def draws(folder: pathlib.Path) -> bool:
    """Return whether a folder holds a conversation or a discovery.

    Raises ValueError if it has events and no readable configuration.
    """
    drawn = (conversation.METHOD, discovery.METHOD)
    return (folder / EVENTS).exists() and read_config(folder)["kind"] in drawn


@figures.plain_style()
def draw_curve(folder: pathlib.Path, path: str | pathlib.Path) -> None:
    """Draw the candidates of a search in order of evaluation, as a PNG or SVG file.

    A conversation shows fitness, and that of its first algorithm as a dashed line. A
    discovery shows average ranks in the present archive, 1 at the top, and dashed lines
    for the rules of ``ranked`` and the best first member.

    Raises:
        ValueError: The search has no candidate with a score, or its ``config.json``
            cannot be read.
        MissingExtraError: matplotlib is not installed.
    """
    kind = read_config(folder)["kind"]
    found = (_ranks if kind == discovery.METHOD else _fitness)(folder)
    if not found.candidates:
        raise ValueError(f"{folder} has no candidate with a score; continue the search")
    figure = figures.new_figure(9, 4)
    axes = figure.subplots()
    numbers = np.arange(1, len(found.candidates) + 1)
    better = np.minimum if found.falls else np.maximum
    best = better.accumulate(found.candidates)
    axes.plot(numbers, found.candidates, "o", color="0.6", markersize=4, label="each")
    axes.step(numbers, best, where="post", color="0.2", label="best so far")
    for name, style in figures.styles(found.others).items():
        look = {"color": style["color"], "linestyle": "--", "linewidth": 1}
        axes.axhline(found.others[name], label=figures.text(name), **look)
    axes.set(xlabel="candidate with a score", ylabel=found.label)
    if found.falls:
        axes.invert_yaxis()
    axes.legend(frameon=False, loc="best")
    axes.spines[["top", "right"]].set_visible(False)
    figures.save(figure, path)


def _fitness(folder: pathlib.Path) -> _Scores:
    events = jsonl.read(folder / EVENTS)
    warm = [one for one in events if one["event"] == "warm"]
    scored = [
        one["fitness"]
        for one in events
        if one["event"] == "outcome" and one["fitness"] is not None
    ]
    first = {one["name"]: one["fitness"] for one in warm}
    return _Scores("fitness", scored, first, falls=False)


def _ranks(folder: pathlib.Path) -> _Scores:
    members = archive.distinct(Discovery.recorded(folder).members)
    ranks = archive.rankings(members)
    pairs = [(m, ranks[m.name]) for m in members]
    others = {m.name: rank for m, rank in pairs if m.code is None}
    first = [pair for pair in pairs if pair[0].code and pair[0].parent is None]
    if first:
        best, rank = min(first, key=lambda pair: pair[1])
        others[f"{best.name}, a first member"] = rank
    ours = [rank for m, rank in pairs if m.parent is not None]
    return _Scores("average rank in the archive", ours, others, falls=True)
