"""Closed forms on disk: a small text, checked in the same order as weights are."""

import pathlib

import numpy as np

from learned_opt_rl import expressions
from learned_opt_rl.artifacts._bytes import check_sha256, read_limited
from learned_opt_rl.artifacts._safetensors import RESTORE
from learned_opt_rl.artifacts._tree import WeightTree
from learned_opt_rl.artifacts.card import Card
from learned_opt_rl.errors import ExpressionError, WeightsError


def load_expression(path: pathlib.Path, card: Card) -> tuple[WeightTree, str]:
    """Read and check the text of an expression; nothing in it is executed.

    Args:
        path: The text file.
        card: States the digest, the kind and the number of constants.

    Returns:
        The defaults of its constants, as float32 scalars by name, and the text.

    Raises:
        WeightsError: The file is unreadable or not the one the card describes, is not
            UTF-8, does not parse, or is of another kind than the card says.
    """
    content = read_limited(path, RESTORE)
    check_sha256(content, card.weights.sha256, str(path), RESTORE)
    try:
        text = content.decode("utf-8")
        function = expressions.parse(text)
    except UnicodeDecodeError as error:
        raise WeightsError(
            f"{path}: is not UTF-8 (byte {error.start}); {RESTORE}"
        ) from error
    except ExpressionError as error:
        raise WeightsError(f"{path}: {error}") from error
    if function.kind != card.kind:
        raise WeightsError(
            f"{path}: is of kind {function.kind!r}, but the card says {card.kind!r}; "
            "correct one of the two"
        )
    constants = {
        name: np.asarray(value, np.float32)
        for name, value in function.init_constants().items()
    }
    if len(constants) != card.weights.parameters:
        raise WeightsError(
            f"{path}: declares {len(constants)} constants, but the card says "
            f"{card.weights.parameters}; correct one of the two"
        )
    return constants, text
