"""The archive of a discovery: members, their ranks, and whom to refine next.

Functions of members take at least one, and all have the same environments.

References:
    Goldie et al., "Do Symbolic or Black-Box Representations Generalise Better in
    Learned Optimisation?", 2025, section 4 (average ranks, exploitation of the best).
"""

import dataclasses
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from learned_opt_rl import expressions
from learned_opt_rl.evaluation.report import statistics
from learned_opt_rl.training.proposal.scoring.evaluation import Evaluation

# Numbers in the text of an expression; digits in names do not count.
_NUMBER = re.compile(r"(?<![\w.])\d[\d.]*(?:e[+-]?\d+)?")


@dataclasses.dataclass(frozen=True)
class Member:
    """An evaluated algorithm.

    Attributes:
        name: Unique in the archive.
        parent: Name of the member that it refines; None for the first ones.
        code: Python as the model wrote it; None for a rule that is only ranked.
        text: Its expression; None likewise.
        returns: Mean final return by environment; None if one is not finite.
        aucs: Mean area under the learning curve by environment; likewise.
        curves: Mean return at eight times by environment.
        island: Number of its island.
        warnings: What its checks noticed.
    """

    name: str
    parent: str | None
    code: str | None
    text: str | None
    returns: Mapping[str, float | None]
    aucs: Mapping[str, float | None]
    curves: Mapping[str, Sequence[float | None]] = dataclasses.field(
        default_factory=dict
    )
    island: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def size(self) -> int:
        """Its complexity: operations and operands; 0 for a rule without text."""
        return expressions.size(expressions.parse(self.text)) if self.text else 0

    @property
    def finite(self) -> bool:
        """Whether it has a finite return in every environment."""
        return None not in self.returns.values()

    @property
    def cell(self) -> tuple[int, tuple[str, ...]]:
        """Its complexity, as a power of two of operations, and the inputs it reads."""
        function = expressions.parse(self.text or "")
        size = int(np.log2(self.size))
        return size, tuple(sorted({*function.inputs, *function.slots}))


def member(made: Mapping[str, Any], found: Evaluation, island: int = 0) -> Member:
    """Return a member with its results; an evaluation that diverged has none."""

    def means(field: str) -> dict[str, float | None]:
        return {
            name: float(np.mean(one[field])) if one else None
            for name, one in found.scores.items()
        }

    curves = {name: one["curve"] for name, one in found.scores.items() if one}
    results = {"returns": means("returns"), "aucs": means("auc"), "curves": curves}
    return Member(**made, **results, island=island, warnings=found.warnings)


def literals(text: str | None) -> list[float]:
    """Return the numbers of an expression in order, without initial memory.

    Each of them might have to be tuned.
    """
    lines = (text or "").splitlines()
    code = "\n".join(line for line in lines if not line.startswith("memory"))
    return [float(number) for number in _NUMBER.findall(code)]


def ranks(members: Sequence[Member]) -> np.ndarray:
    """Return the rank of each member's return by environment, float64 ``[n, e]``.

    The highest return has rank 1, ties share the mean of their ranks, and returns that
    are not finite tie below all others.
    """
    names = list(members[0].returns)
    values = np.array([[m.returns[e] for e in names] for m in members], float)
    return statistics.ranks(np.where(np.isfinite(values), values, -np.inf))


def average_ranks(members: Sequence[Member]) -> np.ndarray:
    """Return the mean of `ranks` over the environments, float64 ``[n]``."""
    return ranks(members).mean(axis=1)


def rankings(members: Sequence[Member]) -> dict[str, float]:
    """Return `average_ranks` to 4 digits by name; each member counts once."""
    members = distinct(members)
    found = average_ranks(members).round(4).tolist()
    return dict(zip([m.name for m in members], found, strict=True))


def distinct(members: Sequence[Member]) -> list[Member]:
    """Return each member once: one that has migrated is in several islands."""
    return list({member.name: member for member in members}.values())


def best_first(members: Sequence[Member]) -> list[Member]:
    """Return the members by average rank; the earlier of equals comes first."""
    order = np.argsort(average_ranks(members), kind="stable")
    return [members[i] for i in order]


def select(
    members: Sequence[Member],
    rng: np.random.Generator,
    *,
    exploit: float = 0.8,
    top: int = 5,
    cells: bool = False,
) -> tuple[Member, bool]:
    """Choose the member to refine; also return whether it is among the best.

    With probability ``exploit`` it is one of the ``top`` best that are finite, else one
    of all members with code; with ``cells``, one of the best in each cell. At least
    one member has code.
    """
    written = [m for m in members if m.code is not None]
    ranked = [m for m in best_first(members) if m.code is not None and m.finite]
    if ranked and rng.random() < exploit:
        return ranked[rng.integers(min(top, len(ranked)))], True
    if cells:
        elites: dict[Any, Member] = {}
        for member in ranked:
            elites.setdefault(member.cell, member)
        written = list(elites.values()) or written
    return written[rng.integers(len(written))], False


def context(
    members: Sequence[Member], rng: np.random.Generator, *, top: int = 5
) -> list[Member]:
    """Choose, for each environment, one of the best in it alone; each member once."""
    usable = [m for m in members if m.code is not None and m.finite]
    if not usable:
        return []
    found: dict[str, Member] = {}
    for column in ranks(usable).T:
        order = np.argsort(column, kind="stable")[:top]
        chosen = usable[order[rng.integers(len(order))]]
        found.setdefault(chosen.name, chosen)
    return list(found.values())


def hopeless(
    members: Sequence[Member], found: Mapping[str, float | None], environments: int
) -> bool:
    """Return whether a candidate cannot reach the better half of the archive.

    ``found`` has its returns so far. It is ranked first in the other environments.
    """
    members = distinct(members)
    # The largest finite number, since an infinite return would rank last.
    largest = float(np.finfo(float).max)
    first = dict.fromkeys(members[0].returns, largest) | dict(found)
    candidate = Member("", None, None, None, first, first)
    own = average_ranks([*members, candidate])
    return bool(len(found) < environments and own[-1] > np.median(own[:-1]))


def table(members: Sequence[Member], width: int = 80) -> list[list[str]]:
    """Return the archive as rows of a table, the best first.

    A ``+`` marks an optimizer with more numbers than its parent. The names of the
    environments are cut to keep lines of ``width`` characters.
    """
    members, order = best_first(distinct(members)), rankings(members)
    counts = {m.name: len(literals(m.text)) for m in members}
    rows = [["name", "parent", "rank", "size", "numbers"]]
    for m in members:
        mark = (
            "+" if counts[m.name] > counts.get(m.parent or "", counts[m.name]) else ""
        )
        known = [str(m.size), f"{counts[m.name]}{mark}"] if m.text else ["", ""]
        rows.append([m.name, m.parent or "", f"{order[m.name]:.2f}", *known])
    used = sum(max(map(len, column)) + 2 for column in zip(*rows, strict=True))
    names = list(members[0].returns)
    shared = len(os.path.commonprefix([n[::-1] for n in names])) if names[1:] else 0
    room = max(5, (width - used) // len(names) - 2)
    rows[0] += [name[: len(name) - shared][:room] for name in names]
    for row, m in zip(rows[1:], members, strict=True):
        values = [m.returns[n] for n in names]
        row += ["diverged" if x is None else f"{x:.4g}" for x in values]
    return rows
