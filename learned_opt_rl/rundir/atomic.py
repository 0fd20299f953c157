"""Atomic writes: a reader sees the old file or the new one, never a part."""

import os
import pathlib
import tempfile


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Replace the content of a file in one step: write beside it, fsync, rename.

    If the write is interrupted, ``path`` holds either its old content or all of the
    new one. An error leaves no temporary file behind; a kill may leave one, whose name
    is ``.NAME.`` with a random suffix.

    Args:
        path: The file to write; its folder must exist.
        content: The whole new content.

    Raises:
        OSError: The folder does not exist or is not writable.
    """
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        # mkstemp makes private files; an artifact is for everyone the umask allows.
        os.chmod(name, 0o666 & ~_umask())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise


def _umask() -> int:
    # The only portable way to read the umask is to set it.
    current = os.umask(0o077)
    os.umask(current)
    return current
