"""The archive of a discovery: members, their ranks, and whom to refine next.

References:
    Goldie et al., "Do Symbolic or Black-Box Representations Generalise Better in
    Learned Optimisation?", 2025, section 4 (average ranks, exploitation of the best).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from learned_opt_rl import expressions
from learned_opt_rl.evaluation.report import statistics


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

    @property
    def finite(self) -> bool:
        """Whether it has a finite return in every environment."""
        return None not in self.returns.values()

    @property
    def cell(self) -> tuple[int, tuple[str, ...]]:
        """Its complexity, as a power of two of operations, and the inputs it reads."""
        function = expressions.parse(self.text or "")
        size = int(np.log2(expressions.size(function)))
        return size, tuple(sorted({*function.inputs, *function.slots}))


def ranks(members: Sequence[Member]) -> np.ndarray:
    """Return the rank of each member's return by environment, float64 ``[n, e]``.

    The highest return has rank 1, ties share the mean of their ranks, and returns that
    are not finite tie below all others.
    """
    names = list(members[0].returns)
    values = np.array([[m.returns[e] for e in names] for m in members], float)
    return statistics.ranks(np.where(np.isfinite(values), values, -np.inf))


def average_ranks(members: Sequence[Member]) -> np.ndarray:
    """Return the mean of `ranks` over the environments, ``[n]``."""
    return ranks(members).mean(axis=1)


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
    of all members with code; with ``cells``, one of the best in each cell.
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
    # The largest finite number, since an infinite return would rank last.
    largest = float(np.finfo(float).max)
    first = dict.fromkeys(members[0].returns, largest) | dict(found)
    candidate = Member("", None, None, None, first, first)
    own = average_ranks([*members, candidate])
    return bool(len(found) < environments and own[-1] > np.median(own[:-1]))
