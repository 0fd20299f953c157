"""Artifacts, and their weights on disk.

Weights are safetensors, the authors' flat vectors or texts of expressions. Bytes are
trusted in a fixed order: size limit, sha256, format, dtype, finite values, shapes.
Nothing is ever unpickled or executed.
"""

import dataclasses
import hashlib
import io
import math
import os
import pathlib
import reprlib
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import safetensors
import safetensors.numpy

from learned_opt_rl import expressions, families
from learned_opt_rl.artifacts.card import Card, FileWeights, RemoteWeights, Training
from learned_opt_rl.errors import ExpressionError, WeightsError
from learned_opt_rl.families import Shapes
from learned_opt_rl.rundir.atomic import write_atomically

WeightTree: TypeAlias = dict[str, Any]
"""A nested dict whose leaves are float32 arrays."""

MAX_BYTES = 64 * 1024 * 1024
"""Largest weights file that is read, in bytes; the largest published one has 14 kB."""

_RESTORE = "restore it, for example by reinstalling the package that holds it"
# Trees are walked recursively; a longer name would exhaust Python's stack.
_MAX_PARTS = 32
_NPY_MAGIC = b"\x93NUMPY"
# First bytes of files that are offered in place of weights, and what they are.
_FOREIGN = {
    b"\x80": "a pickle, which can run code when loaded",
    b"PK\x03\x04": "a zip archive (.npz, or a checkpoint of another framework)",
    _NPY_MAGIC: "a .npy file",
}


# Compared by identity: arrays have no single truth value for ==.
@dataclasses.dataclass(frozen=True, eq=False)
class Artifact:
    """A card and its weights, ready for the rule that runs them.

    Attributes:
        card: What the artifact is.
        weights: Nested dict of float32 numpy arrays that fit the card. An expression
            has one scalar per tunable constant: its default.
        text: The text of an expression, exactly as stored; otherwise ``None``.

    Example:
        >>> from learned_opt_rl import artifacts
        >>> artifacts.Artifact(artifacts.card("goldie2024/ant"), {}).card.algorithm
        'open'
    """

    card: Card
    weights: WeightTree
    text: str | None = None


def in_memory(
    algorithm: str,
    architecture: Mapping[str, Any],
    weights: WeightTree,
    text: str | None = None,
) -> Artifact:
    """Build an artifact from weights that are not stored, such as those in training.

    Args:
        algorithm: A family that is built in or registered.
        architecture: The ``architecture`` field of its card, not checked again.
        weights: Nested dict of float32 arrays, which jax may trace.
        text: The text of an expression.

    Raises:
        ArtifactError: There is no such family.

    Example:
        >>> in_memory(
        ...     "lpo", {"width": 2, "clip_eps": 0.2, "margin": 1e-4}, {}
        ... ).card.kind
        'drift'
    """
    family = families.find(algorithm)
    stored = "safetensors" if text is None else "expression"
    card = Card(
        schema=1,
        name="in_memory",
        kind=family.kind_of(family.read(architecture)),
        title=family.title,
        summary="Weights that are not stored.",
        algorithm=algorithm,
        representation="network" if text is None else "expression",
        architecture=architecture,
        inputs=(),
        horizon=None,
        training=Training("unknown", (), "unknown", None, "unknown", None),
        license="Apache-2.0",
        citation=family.citation,
        weights=FileWeights("none", "0" * 64, 0, stored),
        results=(),
        known_failures=(),
    )
    return Artifact(card, weights, text)


def read_limited(path: pathlib.Path, restore: str) -> bytes:
    """Read a weights file of at most `MAX_BYTES`; ``restore`` ends the error."""
    try:
        with path.open("rb") as stream:
            content = stream.read(MAX_BYTES + 1)
    except OSError as error:
        reason = error.strerror or error
        raise WeightsError(f"{path}: cannot be read ({reason}); {restore}") from error
    if len(content) > MAX_BYTES:
        raise WeightsError(
            f"{path}: is larger than the {MAX_BYTES} bytes allowed; {restore}"
        )
    return content


def _check_sha256(content: bytes, expected: str, what: str, restore: str) -> None:
    actual = hashlib.sha256(content).hexdigest()
    if actual == expected:
        return
    problem = "the file was changed or damaged"
    lines = content.replace(b"\r\n", b"\n")
    if hashlib.sha256(lines).hexdigest() == expected:
        problem = "git or an editor made its line ends CRLF"
        restore = "write LF, and put `* -text` into the repository's .gitattributes"
    raise WeightsError(
        f"{what}: sha256 is {actual} ({len(content)} bytes), but the card says "
        f"{expected}: {problem}; {restore}"
    )


def _read_checked(path: pathlib.Path, sha256: str) -> bytes:
    content = read_limited(path, _RESTORE)
    restore = f"{_RESTORE}, or, if it is yours, write this sha256 into its card"
    _check_sha256(content, sha256, str(path), restore)
    return content


def _refuse_foreign(content: bytes, what: str, wanted: str) -> None:
    # The first 8 bytes of safetensors are the length of its header: any bytes.
    if wanted == "safetensors" and content[8:9] == b"{":
        return
    for magic, kind in _FOREIGN.items():
        if content.startswith(magic):
            raise WeightsError(
                f"{what}: is {kind}, not {wanted}; it was not opened. If you trust "
                "its origin, convert the weights with save_safetensors"
            )


def flatten_names(weights: Mapping[str, Any]) -> dict[str, np.ndarray]:
    """Flatten a nested dict of arrays, joining the keys with dots.

    `WeightsError` is raised where the tree could not be restored from the names: for an
    empty key, one with a dot or not a string, and for an empty dict.
    """
    flat: dict[str, np.ndarray] = {}

    def collect(tree: Mapping[str, Any], prefix: str) -> None:
        if not tree:
            raise WeightsError(f"weights[{prefix[:-1]!r}] is an empty dict; remove it")
        for key, value in tree.items():
            if not isinstance(key, str) or not key or "." in key:
                raise WeightsError(
                    f"weights hold the key {key!r} under {prefix[:-1]!r}; "
                    "use a non-empty string without dots"
                )
            if isinstance(value, Mapping):
                collect(value, f"{prefix}{key}.")
            else:
                flat[prefix + key] = np.asarray(value)

    collect(weights, "")
    return flat


def unflatten_names(flat: Mapping[str, Any]) -> WeightTree:
    """Restore the nested dict from dotted names, the inverse of `flatten_names`.

    `WeightsError` is raised where a name has an empty part or too many parts, or is
    both a leaf and a group.
    """
    tree: WeightTree = {}
    for name, leaf in flat.items():
        *parents, last = name.split(".")
        if not all((*parents, last)):
            raise WeightsError(
                f"the tensor name {name!r} has an empty part; use names like 'gru.bias'"
            )
        if len(parents) >= _MAX_PARTS:
            raise WeightsError(
                f"the tensor name {reprlib.repr(name)} has more than {_MAX_PARTS} "
                "parts; use names like 'gru.bias'"
            )
        node: Any = tree
        for part in parents:
            # A leaf is not a group, and has nothing below it.
            node = node.setdefault(part, {}) if isinstance(node, dict) else node
        if not isinstance(node, dict) or last in node:
            raise WeightsError(
                f"the tensor name {name!r} uses a name twice, as a tensor and as a "
                "group; rename one of them"
            )
        node[last] = leaf
    return tree


def check_weights(weights: WeightTree, card: Card) -> None:
    """Raise `WeightsError` unless weights fit the card's architecture.

    They are finite float32, have the shapes of the family's record, and as many numbers
    as the card states.
    """
    flat = flatten_names(weights)
    for name, tensor in flat.items():
        _check_tensor(name, tensor, card.name)
    total = sum(tensor.size for tensor in flat.values())
    if total != card.weights.parameters:
        raise WeightsError(
            f"{card.name}: {total} weights, but the card says "
            f"{card.weights.parameters}; correct one of the two"
        )
    family = families.known(card.algorithm)
    if family is not None and card.weights.format != "expression":
        _check_shapes(flat, card, family.shapes(family.read(card.architecture)))


def _check_tensor(name: str, tensor: np.ndarray, what: str) -> None:
    shown = name if name.isprintable() else repr(name)  # it may come from a third party
    if tensor.dtype != np.float32:
        raise WeightsError(
            f"{what}: {shown} has dtype {tensor.dtype}; convert it to float32"
        )
    bad = int(np.size(tensor) - np.isfinite(tensor).sum())
    if bad:
        raise WeightsError(
            f"{what}: {shown} holds {bad} values that are NaN or infinite; "
            "use an earlier checkpoint"
        )


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


def load_safetensors(path: str | os.PathLike[str], sha256: str) -> WeightTree:
    """Read weights from a safetensors file.

    Args:
        path: The file.
        sha256: The digest its card states; checked before anything is parsed.

    Returns:
        A nested dict of float32 arrays, names split at the dots.

    Raises:
        WeightsError: The file is unreadable, larger than 64 MiB, not the file the
            digest describes, not safetensors, or holds other than finite float32.
    """
    path = pathlib.Path(path)
    content = _read_checked(path, sha256)
    _refuse_foreign(content, str(path), "safetensors")
    try:
        tensors = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        # KeyError: a dtype numpy does not have, such as bfloat16.
        raise WeightsError(
            f"{path}: is not a safetensors file that numpy can read ({str(error)!r}); "
            "write it again with save_safetensors"
        ) from error
    for name, tensor in tensors.items():
        _check_tensor(name, tensor, str(path))
    try:
        return unflatten_names(tensors)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None


def save_safetensors(path: str | os.PathLike[str], weights: Mapping[str, Any]) -> str:
    """Write weights to a safetensors file, atomically and deterministically.

    Args:
        path: The file to write or replace; its folder must exist.
        weights: Nested dict of finite float32 arrays (of numpy, jax, ...).

    Returns:
        The sha256 of the file, for the card. Equal arguments give equal bytes.

    Raises:
        WeightsError: A tensor is not float32 or not finite, or a name cannot be
            stored.
        OSError: The file cannot be written; the previous content is kept.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "weights.safetensors")
        ...     digest = save_safetensors(path, {"mlp": {"bias": np.zeros(2, "f4")}})
        ...     load_safetensors(path, digest)
        {'mlp': {'bias': array([0., 0.], dtype=float32)}}
    """
    path = pathlib.Path(path)
    flat = flatten_names(weights)
    for name, tensor in flat.items():
        _check_tensor(name, tensor, "weights")
    # safetensors writes the raw buffer, so the arrays must be contiguous row-major.
    # (np.ascontiguousarray would turn scalars into vectors.)
    ordered = {name: np.asarray(flat[name], order="C") for name in sorted(flat)}
    content = safetensors.numpy.save(ordered)
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def refetch(card: Card) -> str:
    """Return the fix for a damaged remote file, for the end of an error message."""
    return f"run `learned-opt-rl fetch {card.name}` to fetch it again"


def from_flat_npy(content: bytes, card: Card) -> WeightTree:
    """Read one of the released ``*_OPEN.npy`` files and check it against its card.

    Such a file is one float32 vector in the order of
    ``jax.flatten_util.ravel_pytree`` over the authors' tree; see
    `families.open_network.open_shapes`.
    """
    if not isinstance(card.weights, RemoteWeights):
        raise WeightsError(
            f"{card.name}: its weights are {card.weights.format}, not flat_npy; "
            "read them with load_safetensors"
        )
    _check_sha256(content, card.weights.sha256, card.name, refetch(card))
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
        _refuse_foreign(content, what, "a .npy file")
    try:
        vector = np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # its header parser raises errors of many kinds
        raise WeightsError(
            f"{what}: is not a plain .npy file ({error}); export one float32 vector"
        ) from error
    _check_tensor("the vector", vector, what)
    return vector


def load_expression(path: pathlib.Path, card: Card) -> tuple[WeightTree, str]:
    """Read the text of an expression and check it against its card; run nothing.

    Returns the defaults of the constants, as float32 scalars by name, and the text.
    """
    content = _read_checked(path, card.weights.sha256)
    try:
        text = content.decode("utf-8")
        function = expressions.parse(text)
    except UnicodeDecodeError as error:
        raise WeightsError(
            f"{path}: is not UTF-8 (byte {error.start}); {_RESTORE}"
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
