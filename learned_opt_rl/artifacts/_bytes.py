"""Bytes of a file before anyone parses them: size limit, digest, first bytes."""

import hashlib
import pathlib

from learned_opt_rl.errors import WeightsError

#: Largest weights file that is read at all, in bytes.
MAX_BYTES = 64 * 1024 * 1024

# First bytes of what is offered in place of weights, and what to say about it.
_FOREIGN = {
    b"\x80": "a pickle, which can run code when loaded",
    b"PK\x03\x04": "a zip archive (.npz, or a checkpoint of another framework)",
    b"\x93NUMPY": "a .npy file",
}


def read_limited(path: pathlib.Path, restore: str) -> bytes:
    """Read a weights file of bounded size.

    Args:
        path: The file.
        restore: How to get the right file, for the error.

    Returns:
        Its content.

    Raises:
        WeightsError: The file is unreadable or larger than 64 MiB.
    """
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


def check_sha256(content: bytes, expected: str, what: str, restore: str) -> None:
    """Check a digest.

    Args:
        content: The bytes to check.
        expected: The digest stated for them, hexadecimal.
        what: Names the bytes in the error.
        restore: How to get the right bytes, for the error.

    Raises:
        WeightsError: The digests differ.
    """
    actual = hashlib.sha256(content).hexdigest()
    if actual != expected:
        raise WeightsError(
            f"{what}: sha256 is {actual} ({len(content)} bytes), but the card says "
            f"{expected}: the file was changed or damaged; {restore}"
        )


def refuse_foreign(content: bytes, what: str, wanted: str) -> None:
    """Refuse by its first bytes what is plainly something else.

    Args:
        content: The bytes to look at.
        what: Names the bytes in the error.
        wanted: The format that was expected.

    Raises:
        WeightsError: The bytes are a pickle, a zip archive or a .npy file.
    """
    # Of safetensors the first 8 bytes are the length of its header: any bytes.
    if wanted == "safetensors" and content[8:9] == b"{":
        return
    for magic, kind in _FOREIGN.items():
        if content.startswith(magic):
            raise WeightsError(
                f"{what}: is {kind}, not {wanted}; it was not opened. Convert the "
                "weights with save_safetensors where you trust their origin"
            )
