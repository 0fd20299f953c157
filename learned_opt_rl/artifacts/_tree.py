"""Nested dicts of arrays to flat, dotted names and back."""

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np

from learned_opt_rl.errors import WeightsError

#: A nested dict whose leaves are float32 arrays.
WeightTree: TypeAlias = dict[str, Any]


def flatten_names(weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Flatten a nested dict of arrays, joining the keys with dots.

    Args:
        weights: A nested dict with string keys; leaves are arrays of any kind that
            ``numpy.asarray`` takes.

    Returns:
        The leaves by dotted name, in the order of the tree.

    Raises:
        WeightsError: A key is empty, not a string or holds a dot, or a dict is empty,
            so that the tree could not be restored from the names.

    Example:
        >>> flatten_names({"gru": {"in": {"bias": np.zeros(2)}}})
        {'gru.in.bias': array([0., 0.])}
    """
    flat: dict[str, np.ndarray] = {}
    _flatten_into(flat, weights, "")
    return flat


def _flatten_into(
    flat: dict[str, np.ndarray], tree: Mapping[str, Any], prefix: str
) -> None:
    if not tree:
        raise WeightsError(f"weights[{prefix[:-1]!r}] is an empty dict; remove it")
    for key, value in tree.items():
        if not isinstance(key, str) or not key or "." in key:
            raise WeightsError(
                f"weights hold the key {key!r} under {prefix[:-1]!r}; "
                "use a non-empty string without dots"
            )
        if isinstance(value, Mapping):
            _flatten_into(flat, value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = np.asarray(value)


def unflatten_names(flat: Mapping[str, Any]) -> WeightTree:
    """Restore the nested dict from dotted names.

    Args:
        flat: Leaves by dotted name.

    Returns:
        The nested dict; the inverse of `flatten_names`.

    Raises:
        WeightsError: A name has an empty part, or is both a leaf and a folder.

    Example:
        >>> unflatten_names({"norm.bias": 0, "norm.scale": 1})
        {'norm': {'bias': 0, 'scale': 1}}
    """
    tree: WeightTree = {}
    for name, leaf in flat.items():
        *parents, last = name.split(".")
        if not all((*parents, last)):
            raise WeightsError(
                f"the tensor name {name!r} has an empty part; use names like 'gru.bias'"
            )
        node = tree
        for part in parents:
            node = node.setdefault(part, {})
            if not isinstance(node, dict):
                raise _clash(name)
        if last in node:
            raise _clash(name)
        node[last] = leaf
    return tree


def _clash(name: str) -> WeightsError:
    return WeightsError(
        f"the tensor name {name!r} uses a name twice, as a tensor and as a group; "
        "rename one of them"
    )
