"""Atomic writes: readers see the whole old content or the whole new one.

A folder that is replaced is absent for a moment, between two renames.
"""

import itertools
import json
import os
import pathlib
import secrets
import shutil
from typing import Any


def write_atomically(path: pathlib.Path, content: bytes) -> None:
    """Replace the content of a file in one step: write beside it, fsync, rename.

    If the write is interrupted, ``path`` holds either its old content or all of the
    new one. An error leaves no temporary file behind; a kill may leave one, which
    `remove_unfinished` finds. The folder must exist.
    """
    # The umask decides who may read an artifact or a cache. Files of `tempfile` are
    # private.
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    try:
        with unfinished.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(unfinished, path)
    except BaseException:
        unfinished.unlink(missing_ok=True)
        raise


def write_json(path: pathlib.Path, content: Any, indent: int = 2) -> None:
    """Replace a file by JSON in one step; its folder is made if it does not exist."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, (json.dumps(content, indent=indent) + "\n").encode())


def remove_unfinished(folder: pathlib.Path) -> None:
    """Delete the files that killed calls of `write_atomically` have left in a folder.

    Anything else stays, for example an editor's ``.config.json.swp``.
    """
    for unfinished in folder.glob(f".*.{'[0-9a-f]' * 8}.tmp"):
        unfinished.unlink()


def set_aside(path: pathlib.Path, *, copy: bool = False) -> pathlib.Path:
    """Rename or copy a file to a free name such as ``NAME.kept-1.npz``; return it."""
    names = (f"{path.stem}.kept-{number}{path.suffix}" for number in itertools.count(1))
    free = next(kept for kept in map(path.with_name, names) if not kept.exists())
    if copy:
        write_atomically(free, path.read_bytes())
        return free
    return path.rename(free)


def kept_beside(path: pathlib.Path) -> list[pathlib.Path]:
    """Return the files that `set_aside` has renamed."""
    return sorted(path.parent.glob(f"{path.stem}.kept-*{path.suffix}"))


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
        if hasattr(os, "sync"):  # Windows has none
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
