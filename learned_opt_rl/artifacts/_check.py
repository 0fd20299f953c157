"""Checks on arrays: dtype, finite values, and the shapes a card's rule needs."""

import reprlib
from collections.abc import Mapping

import numpy as np

from learned_opt_rl import families
from learned_opt_rl.artifacts._tree import WeightTree, flatten_names
from learned_opt_rl.artifacts.card import Card
from learned_opt_rl.errors import WeightsError
from learned_opt_rl.families import Shapes


def check_weights(weights: WeightTree, card: Card) -> None:
    """Check that weights are those of the card's architecture.

    Args:
        weights: Nested dict of arrays.
        card: States the number of parameters and the architecture.

    Raises:
        WeightsError: A tensor is missing, unknown, of the wrong shape or dtype or not
            finite, or the total is not the one stated.

    Example:
        >>> from learned_opt_rl import artifacts
        >>> check_weights({"mlp": np.ones(2, "f4")}, artifacts.card("goldie2024/ant"))
        Traceback (most recent call last):
            ...
        learned_opt_rl.errors.WeightsError: goldie2024/ant: 2 weights, but the card
        says 1211; correct one of the two
    """
    flat = flatten_names(weights)
    for name, tensor in flat.items():
        check_tensor(name, tensor, card.name)
    total = sum(tensor.size for tensor in flat.values())
    if total != card.weights.parameters:
        raise WeightsError(
            f"{card.name}: {total} weights, but the card says "
            f"{card.weights.parameters}; correct one of the two"
        )
    family = families.known(card.algorithm)
    if family is not None and card.weights.format != "expression":
        _check_shapes(flat, card, family.shapes(family.read(card.architecture)))


def check_tensor(name: str, tensor: np.ndarray, what: str) -> None:
    """Check that one tensor is finite float32.

    Args:
        name: The tensor's name.
        tensor: The tensor, of any shape.
        what: Names its origin in the error.

    Raises:
        WeightsError: The dtype is another one, or a value is NaN or infinite.
    """
    if tensor.dtype != np.float32:
        raise WeightsError(
            f"{what}: {_shown(name)} has dtype {tensor.dtype}; convert it to float32"
        )
    bad = int(np.size(tensor) - np.isfinite(tensor).sum())
    if bad:
        raise WeightsError(
            f"{what}: {_shown(name)} holds {bad} values that are NaN or infinite; "
            "use an earlier checkpoint"
        )


def _shown(name: str) -> str:
    """A tensor's name, escaped where a terminal would act on it."""
    return name if name.isprintable() else repr(name)


def _check_shapes(flat: Mapping[str, np.ndarray], card: Card, expected: Shapes) -> None:
    for name in [*expected, *flat]:
        if name not in flat or name not in expected:
            word = "lack" if name in expected else "hold an unknown tensor"
            raise WeightsError(
                f"{card.name}: the weights {word} {reprlib.repr(name)}; the card's "
                f"architecture is {dict(card.architecture)}, correct one of the two"
            )
        if flat[name].shape != expected[name]:
            raise WeightsError(
                f"{card.name}: {name} has shape {flat[name].shape}, but the card's "
                f"architecture asks for {expected[name]}; correct one of the two"
            )
