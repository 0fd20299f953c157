"""The authors' own files: OPEN's weights as one flat float32 vector."""

import io
import math

import numpy as np

from learned_opt_rl import families
from learned_opt_rl.artifacts._bytes import check_sha256, refuse_foreign
from learned_opt_rl.artifacts._check import check_tensor
from learned_opt_rl.artifacts._tree import WeightTree, unflatten_names
from learned_opt_rl.artifacts.card import Card, RemoteWeights
from learned_opt_rl.errors import WeightsError

_NPY_MAGIC = b"\x93NUMPY"


def from_flat_npy(content: bytes, card: Card) -> WeightTree:
    """Read one of the released ``*_OPEN.npy`` files.

    Such a file is one float32 vector in the order of
    ``jax.flatten_util.ravel_pytree`` over the authors' tree; see
    `families.open_network.open_shapes`.

    Args:
        content: The bytes of the file.
        card: The remote artifact's card; states digest, size and architecture.

    Returns:
        A nested dict of float32 arrays, named as in our own files.

    Raises:
        WeightsError: The bytes are not those the card describes, are not a plain
            ``.npy`` of finite float32, or do not fit the architecture.

    Example:
        >>> from learned_opt_rl import artifacts
        >>> from_flat_npy(b"", artifacts.card("goldie2024/ant"))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        learned_opt_rl.errors.WeightsError: goldie2024/ant: sha256 is e3b0c442...
    """
    if not isinstance(card.weights, RemoteWeights):
        raise WeightsError(
            f"{card.name}: its weights are {card.weights.format}, not flat_npy; "
            "read them with load_safetensors"
        )
    restore = f"run `learned-opt-rl fetch {card.name}` to fetch it again"
    check_sha256(content, card.weights.sha256, card.name, restore)
    vector = _parse_npy(content, card.name)
    family = families.find(card.algorithm)
    shapes = family.shapes(family.read(card.architecture))
    sizes = [math.prod(shape) for shape in shapes.values()]
    if vector.shape != (sum(sizes),):
        raise WeightsError(
            f"{card.name}: the vector has shape {vector.shape}, but the card's "
            f"architecture {dict(card.architecture)} has {sum(sizes)} weights; "
            "correct the card"
        )
    pieces = np.split(vector, np.cumsum(sizes)[:-1])
    named = zip(shapes.items(), pieces, strict=True)
    return unflatten_names(
        {name: piece.reshape(shape) for (name, shape), piece in named}
    )


def _parse_npy(content: bytes, what: str) -> np.ndarray:
    if not content.startswith(_NPY_MAGIC):
        refuse_foreign(content, what, "a .npy file")
    try:
        vector = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # its header parser raises errors of many kinds
        raise WeightsError(
            f"{what}: is not a plain .npy file ({error}); export one float32 vector"
        ) from error
    check_tensor("the vector", vector, what)
    return vector
