"""Our own weights files: safetensors, written atomically and deterministically."""

import hashlib
import json
import os
import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from learned_opt_rl.artifacts._bytes import check_sha256, read_limited, refuse_foreign
from learned_opt_rl.artifacts._check import check_tensor
from learned_opt_rl.artifacts._tree import WeightTree, flatten_names, unflatten_names
from learned_opt_rl.errors import WeightsError
from learned_opt_rl.rundir.atomic import write_atomically

RESTORE = "restore it, for example by reinstalling the package that holds it"


def load_safetensors(path: str | os.PathLike[str], sha256: str) -> WeightTree:
    """Read weights from a safetensors file.

    Args:
        path: The file.
        sha256: The digest its card states; checked before anything is parsed.

    Returns:
        A nested dict of read-only float32 arrays, names split at the dots.

    Raises:
        WeightsError: The file is unreadable, larger than 64 MiB, not the file the
            digest describes, not safetensors, or holds other than finite float32.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "weights.safetensors")
        ...     digest = save_safetensors(path, {"mlp": {"bias": np.zeros(2, "f4")}})
        ...     load_safetensors(path, digest)
        {'mlp': {'bias': array([0., 0.], dtype=float32)}}
    """
    path = pathlib.Path(path)
    content = read_limited(path, RESTORE)
    check_sha256(content, sha256, str(path), RESTORE)
    refuse_foreign(content, str(path), "safetensors")
    try:
        tensors = safetensors.numpy.load(content)
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        # KeyError: a dtype numpy does not have, such as bfloat16.
        raise WeightsError(
            f"{path}: is not a safetensors file that numpy can read ({str(error)!r}); "
            "write it again with save_safetensors"
        ) from error
    for name, tensor in tensors.items():
        check_tensor(name, tensor, str(path))
    try:
        return unflatten_names(tensors)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None


def save_safetensors(
    path: str | os.PathLike[str],
    weights: Mapping[str, Any],
    metadata: Mapping[str, str] | None = None,
) -> str:
    """Write weights to a safetensors file, atomically and deterministically.

    Args:
        path: The file to write or replace; its folder must exist.
        weights: Nested dict of finite float32 arrays (of numpy, jax, ...).
        metadata: Strings stored in the file's header.

    Returns:
        The sha256 of the file, for the card. The same weights and metadata give the
        same bytes.

    Raises:
        WeightsError: A tensor is not float32 or not finite, or a name cannot be
            stored.
        OSError: The file cannot be written; what was there before is left as it was.

    Example:
        >>> import pathlib, tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = pathlib.Path(folder, "weights.safetensors")
        ...     digest = save_safetensors(path, {"bias": np.zeros(2, "f4")})
        >>> digest[:8]
        '7f55507b'
    """
    path = pathlib.Path(path)
    flat = flatten_names(weights)
    for name, tensor in flat.items():
        check_tensor(name, tensor, "weights")
    # safetensors writes the raw buffer, so the arrays must be contiguous row-major.
    # (np.ascontiguousarray would turn scalars into vectors.)
    ordered = {name: np.asarray(flat[name], order="C") for name in sorted(flat)}
    content = _sort_header(safetensors.numpy.save(ordered, dict(metadata or {})))
    write_atomically(path, content)
    return hashlib.sha256(content).hexdigest()


def _sort_header(content: bytes) -> bytes:
    """Rewrite a safetensors header with sorted keys.

    The library keeps metadata in a hash map, whose order differs from run to run.
    The layout is 8 bytes of header length, the header padded with spaces to a
    multiple of 8, then the data; offsets count from the end of the header.
    """
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    text = json.dumps(header, sort_keys=True, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]
