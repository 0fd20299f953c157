"""The layers of one network, in order, from the names and shapes of its leaves.

Trees of dicts are sorted by name, so the order of definition is lost. Numbers, the
words of `_words` and widths (an output feeds an input of its width) replace it.
Siblings that are not sorted, such as the fields of a dataclass, keep their order,
except that heads are last.
"""

from __future__ import annotations

import dataclasses
import itertools
import re
from collections.abc import Iterable, Sequence

from learned_opt_rl.features._paths import NamedLeaf
from learned_opt_rl.features._words import (
    HEAD,
    MIDDLE,
    WORDS,
    has,
    is_cell,
    natural,
    rank,
    stem,
    words,
)

_WIDTHS_UP_TO = 40  # siblings; comparing the widths of more would be slow


@dataclasses.dataclass
class Node:
    """A module: its submodules, and the leaves that it holds itself."""

    name: str = ""
    children: dict[str, Node] = dataclasses.field(default_factory=dict)
    leaves: dict[str, int] = dataclasses.field(default_factory=dict)  # name -> index

    def names(self) -> set[str]:
        """Return the names of the submodules and of the own leaves."""
        return {*self.children, *self.leaves}

    def paths(self) -> dict[str, int]:
        """Return the index of every leaf of the module, by its path in the module."""
        below = {
            f"{name}/{path}": index
            for name, child in self.children.items()
            for path, index in child.paths().items()
        }
        return self.leaves | below


@dataclasses.dataclass
class Step:
    """Leaves that share a layer position, and the widths that go in and out."""

    leaves: list[int]
    ins: set[int] = dataclasses.field(default_factory=set)
    outs: set[int] = dataclasses.field(default_factory=set)
    spatial: bool = False  # a convolution: its output may be flattened

    def add(self, other: Step) -> None:
        """Put the leaves of another step at this one's position."""
        self.leaves += other.leaves
        self.ins, self.outs = self.ins | other.ins, self.outs | other.outs


@dataclasses.dataclass
class Item:
    """A module among its siblings."""

    name: str
    steps: list[Step]
    paths: frozenset[str] = frozenset()
    kind: str = ""  # "cell" or "attention"

    @property
    def ins(self) -> set[int]:
        """Input widths of its first layer; empty if they are unknown."""
        return next((step.ins for step in self.steps if step.ins), set())

    @property
    def outs(self) -> set[int]:
        """Output widths of its last layer; empty if they are unknown."""
        return next((step.outs for step in reversed(self.steps) if step.outs), set())


def tree_of(leaves: Iterable[tuple[int, NamedLeaf]]) -> Node:
    """Build the tree of modules from pairs of an index and a leaf."""
    root = Node()
    for index, leaf in leaves:
        node, parts = root, leaf.parts
        for part in parts[:-1]:
            node = node.children.setdefault(part, Node(part))
        node.leaves[parts[-1] if parts else ""] = index
    return root


class Reader:
    """Reads the layers of a network.

    Attributes:
        beside: Names of modules that were read as networks side by side. They are
            alike, and the outputs of one do not fit the inputs of the other.
        alphabetical: Names of modules in alphabetical order. Other orders fit as
            well, and some output does not fit the input that follows.
    """

    def __init__(self, leaves: Sequence[NamedLeaf]) -> None:
        """Read networks of these leaves."""
        self.all = leaves
        self.beside: list[str] = []
        self.alphabetical: list[str] = []

    def steps(self, node: Node) -> list[Step]:
        """Return the steps of a module, the first to run first."""
        everything = [self._step(node.paths().values(), cell=_is_cell(node))]
        if _is_cell(node):
            return everything
        if not node.children:
            return self._numbered(node.leaves) or everything
        own = {name: self._step([index]) for name, index in node.leaves.items()}
        norms = [c for c in node.children.values() if self._is_norm(c)]
        items = [
            Item(c.name, self.steps(c), frozenset(c.paths()), _kind(c))
            for c in node.children.values()
            if not self._is_norm(c)
        ]
        if not items:
            alone = [step for norm in norms for step in self._norm_steps(norm)]
            return everything if own else alone
        known = not _is_sorted(list(node.children))
        projections = _projections(node)
        if projections:
            items = self._attention(items, own, projections, known)
        else:
            items = self._side_by_side(items)
            items = sorted(items, key=_is_head) if known else self._in_order(items)
        order = list(node.children) if known else []
        for k, norm in enumerate(sorted(norms, key=lambda n: natural(n.name))):
            self._attach(norm, k, items, order)
        items = _share_the_last_position(items)
        before = [step for name, step in own.items() if rank(name) < MIDDLE]
        after = [step for name, step in own.items() if rank(name) >= MIDDLE]
        return [*before, *(step for item in items for step in item.steps), *after]

    def _numbered(self, leaves: dict[str, int]) -> list[Step]:
        """Return a step per number of bare arrays such as w1, b1, w2 and b2."""
        by_number: dict[str, list[int]] = {}
        for name, index in leaves.items():
            if not stem(name) or not (number := re.sub(r"\D", "", name)):
                return []
            by_number.setdefault(number, []).append(index)
        return [self._step(by_number[number]) for number in sorted(by_number, key=int)]

    def _step(self, indices: Iterable[int], cell: bool = False) -> Step:
        step = Step(list(indices))
        for leaf in (self.all[i] for i in step.leaves):
            shape = leaf.shape
            if leaf.parts[-1:] == ["weight"]:  # equinox and PyTorch: [out, in]
                shape = (*shape[2:], *shape[1::-1])
            if len(shape) > 1:
                # Of three axes, the first is an ensemble's or a head projection's in.
                step.ins |= {shape[-2], *(shape[:1] if len(shape) == 3 else ())}
                step.outs.add(shape[-1])
                step.spatial |= len(shape) > 3
        if cell:  # the kernels of three or four gates may be stacked, either way round
            widths = step.ins | step.outs
            widths |= {width // gates for width in widths for gates in (3, 4)}
            step.ins, step.outs = widths, widths
        return step

    def _is_norm(self, node: Node) -> bool:
        """Return whether a module is a norm, or holds only norms."""
        if node.children:
            return not node.leaves and all(map(self._is_norm, node.children.values()))
        names = set(node.leaves)
        flat = all(len(self.all[i].shape) < 2 for i in node.leaves.values())
        signs = bool(names & WORDS["norm_sign"]) or ("weight" in names and flat)
        return names <= WORDS["norm_leaf"] and (signs or has(node.name, "norm"))

    def _norm_steps(self, norm: Node) -> list[Step]:
        if not norm.children:
            return [self._step(norm.leaves.values())]
        inner = sorted(norm.children.values(), key=lambda c: natural(c.name))
        return [step for child in inner for step in self._norm_steps(child)]

    def _side_by_side(self, items: list[Item]) -> list[Item]:
        """Join modules that are alike but cannot follow each other, such as critics."""
        joined: dict[frozenset[str], Item] = {}
        for item in items:
            twin = joined.get(item.paths)
            if twin is None or not _are_twins(twin, item):
                joined[item.paths if twin is None else frozenset([item.name])] = item
                continue
            if not has(item.name, "critic"):
                self.beside += [twin.name, item.name]
            for step, other in zip(twin.steps, item.steps, strict=True):
                step.leaves += other.leaves
        return list(joined.values())

    def _attention(
        self,
        items: list[Item],
        own: dict[str, Step],
        projections: set[str],
        known: bool,
    ) -> list[Item]:
        """Order the parts of attention, whose projections share one position."""
        joined = Item(min(projections), [Step([])])
        for item in items:
            if item.name in projections:
                joined.steps[0].add(item.steps[0])
        for step in own.values():  # biases of positions, and bare projections
            joined.steps[0].leaves += step.leaves
        own.clear()
        outs = WORDS["projection"] | {"o", "out", "output"}
        before, output, rest = [], [], []
        for item in items:
            if item.name not in projections:
                group = output if words(item.name) <= outs else rest
                (before if rank(item.name) < MIDDLE else group).append(item)
        if not known:
            before, rest = self._in_order(before), self._in_order(rest)
        return [*before, joined, *output, *rest]

    def _in_order(self, items: list[Item]) -> list[Item]:
        """Return siblings of unknown order in the most likely one."""
        line: list[Item] = []
        for place in sorted({rank(item.name) for item in items}):
            here = [item for item in items if rank(item.name) == place]
            here = sorted(here, key=lambda item: natural(item.name))
            line += self._merged(line[-1:], here)
        return line

    def _merged(self, before: list[Item], items: list[Item]) -> list[Item]:
        """Merge sequences that are numbered apart, as flax numbers kinds of modules."""
        sequences: dict[str, list[Item]] = {}
        for item in items:
            sequences.setdefault(stem(item.name), []).append(item)
        # Blocks and cells are placed among the dense layers, not the other way round.
        base = min(sequences, key=lambda name: not _are_dense(sequences[name]))
        line = sequences.pop(base)
        dense = len(line) if _are_dense(line) else 0
        for sequence in sequences.values():
            places = _places(len(line), sequence, 0 if before else dense, dense > 0)
            lines = [[*line[:at], *sequence, *line[at:]] for at in places]
            fits = [_fit(before + line) for line in lines]
            line = lines[fits.index(max(fits))]  # the first of the best
            tie = fits.count(max(fits)) > 1 and not _is_inner(sequence)
            known = all(item.ins and item.outs for item in line)
            if tie and known and _is_broken(line) and rank(base) == MIDDLE:
                self.alphabetical = [item.name for item in line]
        return line

    def _attach(self, norm: Node, k: int, items: list[Item], order: list[str]) -> None:
        """Put the k-th norm of a module at the position of the layer it follows."""
        hidden = [item for item in items if not _is_head(item)] or items
        steps = self._norm_steps(norm)
        if norm.children:  # a list of norms beside the layers
            layers = [step for item in hidden for step in item.steps]
            targets = layers[: len(steps)]
        elif followed := _followed(norm.name, items, order):
            targets = [followed.steps[-1]]
        elif words(norm.name) & WORDS["last_norm"]:
            targets = [hidden[-1].steps[-1]]
        else:
            # The k-th norm follows the k-th layer, or the next one that has its width.
            width = {n for i in steps[0].leaves for n in self.all[i].shape[-1:]}
            likely = hidden[min(k, len(hidden) - 1) :]
            fitting = (i for i in likely[:-1] if width & (i.ins | i.outs))
            targets = [next(fitting, likely[0]).steps[0]]
        last = targets[-1]
        for step, target in itertools.zip_longest(steps, targets, fillvalue=last):
            target.leaves += step.leaves


def _followed(norm: str, items: list[Item], order: list[str]) -> Item | None:
    """Return the sibling that a norm follows, if the order or its name shows it."""
    if order:
        before = [i for i in items if order.index(i.name) < order.index(norm)]
        return max(before, key=lambda i: order.index(i.name), default=items[0])
    alike = [i for i in items if stem(i.name) == stem(norm)]  # layers_0, layers_1
    if alike:
        before = [i for i in alike if natural(i.name) < natural(norm)]
        return max(before, key=lambda i: natural(i.name), default=alike[0])
    named = [i for i in items if norm.startswith(i.name) or norm.endswith(i.name)]
    return max(named, key=lambda i: len(i.name), default=None)


def _is_sorted(names: list[str]) -> bool:
    return names == sorted(names) or names == sorted(names, key=natural)


def _is_cell(node: Node) -> bool:
    gates = len(node.children) > 1 and node.children.keys() <= WORDS["gate"]
    return gates or is_cell(node.name)


def _kind(node: Node) -> str:
    if _is_cell(node):
        return "cell"
    attention = has(node.name, "attention") or _projections(node)
    return "attention" if attention else ""


def _is_head(item: Item) -> bool:
    return rank(item.name) == HEAD


def _are_twins(item: Item, other: Item) -> bool:
    """Return whether two modules with the same names inside run side by side."""
    apart = bool(item.ins and item.outs) and item.ins == other.ins
    apart = apart and not item.outs & item.ins
    critics = stem(item.name) == stem(other.name) and has(item.name, "critic")
    if len(item.steps) == 1:
        return critics and apart  # heads q1 and q2, not layers critic_0 and critic_1
    return critics or apart


def _projections(node: Node) -> set[str]:
    """Return the names of the query, key and value projections of attention."""
    allowed = WORDS["query_key_value"] | WORDS["projection"]
    found = {n for n in node.names() if has(n, "query_key_value")}
    found = {n for n in found if words(n) <= allowed}
    return found if any(has(n, "key") for n in found) else set()


def _share_the_last_position(items: list[Item]) -> list[Item]:
    """Put output layers, such as a mean's and a deviation's, at one position."""
    heads = [item for item in items if _is_head(item) and len(item.steps) == 1]
    for head in heads[1:]:
        heads[0].steps[0].add(head.steps[0])
    return [item for item in items if item not in heads[1:]]


def _places(
    size: int, sequence: list[Item], first: int, among_dense: bool
) -> list[int]:
    """Return where a sequence may go in a line, from the most to the least likely."""
    places = list(range(size, -1, -1))  # by name: after the others
    # Cells, attention and flax's blocks are before the output.
    if among_dense and _is_inner(sequence):
        places.reverse()
        if first > 1 and not any(item.kind == "attention" for item in sequence):
            places[:2] = [1, 0]  # the first dense layer encodes the observation
    return places[:1] if size + len(sequence) > _WIDTHS_UP_TO else places


def _is_inner(sequence: list[Item]) -> bool:
    """Return whether these are cells, attention, or modules that flax named."""
    named = all(re.fullmatch(r"[A-Z]\w*_\d+", item.name) for item in sequence)
    return named or any(item.kind for item in sequence)


def _are_dense(sequence: list[Item]) -> bool:
    return all(has(i.name, "dense") and len(i.steps) == 1 for i in sequence)


def _fit(line: list[Item]) -> int:
    """Count how many widths fit: outputs to inputs, and the first to no output."""
    score = 0
    for item, following in itertools.pairwise(line):
        flattened = item.steps[-1].spatial and any(
            i % o == 0 for i in following.ins for o in item.outs if o > 1
        )
        score += 2 if item.outs & following.ins else int(flattened)
    fed = set().union(*(item.outs for item in line))
    return score + int(bool(line[0].ins) and not line[0].ins & fed)


def _is_broken(line: list[Item]) -> bool:
    return any(not a.outs & b.ins for a, b in itertools.pairwise(line))
