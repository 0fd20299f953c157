"""One process per folder."""

import contextlib
import importlib
import os
import pathlib
from collections.abc import Iterator


class FolderInUseError(OSError):
    """Another process writes to the folder; the message names it."""


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Holds a folder against other processes.

    The lock is the system's: it goes when its process does, even one that is killed.
    The file stays, with the process that had it last.

    Args:
        folder: Must exist.

    Raises:
        FolderInUseError: Another process holds it.
    """
    path = folder / ".lock"
    with path.open("a+") as file:
        if not _acquire(file.fileno()):
            file.seek(0)
            raise FolderInUseError(
                f"{folder} is being written by process {file.read().strip() or '?'}; "
                "wait for it to end, or give another folder"
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _acquire(handle: int) -> bool:
    """Whether the lock could be had; systems without one let everybody in."""
    if os.name != "posix":
        return True
    fcntl = importlib.import_module("fcntl")
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
