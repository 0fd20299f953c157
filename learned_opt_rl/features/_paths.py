"""Names of the leaves of a parameter tree."""

from typing import Any, NamedTuple

import jax
import numpy as np


class NamedLeaf(NamedTuple):
    """One leaf of a parameter tree.

    Attributes:
        path: Slash-separated path, e.g. ``"actor/Dense_0/kernel"``; ``""`` for a tree
            that is one leaf.
        leaf: The leaf itself.
    """

    path: str
    leaf: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the leaf; ``()`` for one that has none."""
        return tuple(getattr(self.leaf, "shape", np.shape(self.leaf)))

    @property
    def parts(self) -> list[str]:
        """Names on the path, without the "~" with which haiku marks methods."""
        return [part for part in self.path.split("/") if part not in ("", "~")]


def named_leaves(tree: Any) -> list[NamedLeaf]:
    """Return the leaves of a pytree with their slash-separated paths, in leaf order."""
    # Flax's variables and boxes are pytree nodes that hold the array in an attribute
    # called "value". It is not part of the name, unlike a field called "value".
    found = []
    for path, node in jax.tree_util.tree_leaves_with_path(tree, is_leaf=_is_box):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        found += [NamedLeaf(name, leaf) for leaf in jax.tree.leaves(node)]
    return found


def _is_box(node: Any) -> bool:
    return any(
        base.__name__ in ("Variable", "AxisMetadata")
        and base.__module__.startswith("flax.")
        for base in type(node).__mro__
    )
