"""Atomic writes: readers see the whole old content or the whole new one.

While a folder is replaced, there is a moment between two renames with no folder.
"""

import os
import pathlib
import shutil
import tempfile


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Replace the content of a file in one step: write beside it, fsync, rename.

    If the write is interrupted, ``path`` holds either its old content or all of the
    new one. An error leaves no temporary file behind; a kill may leave one, whose name
    is ``.NAME.`` with a random suffix. The folder must exist.
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


def replace_folder(made: pathlib.Path, target: pathlib.Path) -> None:
    """Replace a folder with a copy of another, or leave it unchanged.

    The copy is made beside it under a hidden name and renamed when it is whole. A kill
    between the two renames leaves the folder under its hidden name, where
    `recover_folder` finds it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    recover_folder(target)
    new, old = _hidden(target)
    try:
        shutil.copytree(made, new)
        os.sync()
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)
    except BaseException:
        recover_folder(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def recover_folder(target: pathlib.Path) -> None:
    """Restore the folder after a killed `replace_folder`, and remove its leftovers."""
    new, old = _hidden(target)
    if old.exists() and not target.exists():
        os.replace(old, target)
    for path in (new, old):
        shutil.rmtree(path, ignore_errors=True)


def _hidden(target: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    name = f".{target.name}"
    return target.with_name(f"{name}.new"), target.with_name(f"{name}.old")


def _umask() -> int:
    # The only portable way to read the umask is to set it.
    current = os.umask(0o077)
    os.umask(current)
    return current
