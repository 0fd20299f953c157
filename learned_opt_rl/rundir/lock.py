"""Let one process at a time write to a folder."""

import contextlib
import errno
import functools
import os
import pathlib
import warnings
from collections.abc import Iterator
from typing import TextIO

from learned_opt_rl.errors import MissingExtraError

# A network file system may lack locks, or the server that keeps them.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP)


class FolderInUseError(OSError):
    """Another process writes to the folder; the message names the process."""


@contextlib.contextmanager
def locked(folder: pathlib.Path) -> Iterator[None]:
    """Keep other processes out of a folder, which must exist.

    The operating system holds the lock and frees it when the process ends, even by a
    kill. The file ``.lock`` stays and holds the id of the last process. A file system
    without locks lets everyone in, with a warning.
    """
    try:
        from filelock import lock_descriptor
    except ImportError as error:
        raise MissingExtraError(
            "run folders need filelock, which is not installed: "
            "pip install 'learned-opt-rl[train]'"
        ) from error
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        try:
            free = lock_descriptor(file.fileno(), blocking=False)
        except OSError as error:
            if error.errno not in _NO_LOCKS:
                raise
            _warn_without_locks(folder, error.strerror)
            free = True
        if not free:
            raise FolderInUseError(
                f"{folder} is in use by process {_holder(file)}; wait until it ends, "
                "or choose another folder"
            )
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        yield


def _holder(file: TextIO) -> str:
    file.seek(0)
    try:
        return file.read().strip() or "?"
    except OSError:  # on Windows a lock keeps readers out, too
        return "?"


@functools.cache  # once for each folder
def _warn_without_locks(folder: pathlib.Path, reason: str) -> None:
    warnings.warn(
        f"{folder} is on a file system without locks ({reason}), where nothing keeps a "
        "second process out; give each process a folder of its own",
        stacklevel=4,
    )
