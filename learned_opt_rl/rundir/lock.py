"""Let one process at a time write to a folder."""

import contextlib
import os
import pathlib
from collections.abc import Iterator

from learned_opt_rl.errors import MissingExtraError


class FolderInUseError(OSError):
    """Another process writes to the folder; the message names the process."""


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Keep other processes out of a folder, which must exist.

    The operating system holds the lock and frees it when the process ends, even by a
    kill. The file ``.lock`` stays and holds the id of the last process.
    """
    try:
        from filelock import lock_descriptor
    except ImportError as error:
        raise MissingExtraError(
            "run folders need filelock, which is not installed: "
            "pip install 'learned-opt-rl[train]'"
        ) from error
    with (folder / ".lock").open("a+") as file:
        if not lock_descriptor(file.fileno(), blocking=False):
            file.seek(0)
            raise FolderInUseError(
                f"{folder} is in use by process {file.read().strip() or '?'}; wait "
                "until it ends, or choose another folder"
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield
