"""Puts a whole folder in the place of another, or leaves it as it was."""

import os
import pathlib
import shutil


def replace(made: pathlib.Path, target: pathlib.Path) -> None:
    """Replaces a folder by a copy of another.

    The copy is made beside it, under a hidden name, and renamed when it is whole. What
    interrupts it leaves the folder as it was; only a kill between two renames leaves
    it under its hidden name, where `recover` finds it.

    Args:
        made: The new content.
        target: The folder; it need not exist.

    Raises:
        OSError: It cannot be written; it is as it was.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    recover(target)
    new, old = _hidden(target)
    try:
        shutil.copytree(made, new)
        os.sync()
        if target.exists():
            os.replace(target, old)
        os.replace(new, target)
    except BaseException:
        recover(target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def recover(target: pathlib.Path) -> None:
    """Clears away what a `replace` that was killed left, the old folder whole.

    Args:
        target: As for `replace`.
    """
    new, old = _hidden(target)
    if old.exists() and not target.exists():
        os.replace(old, target)
    for path in (new, old):
        shutil.rmtree(path, ignore_errors=True)


def _hidden(target: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    name = f".{target.name}"
    return target.with_name(f"{name}.new"), target.with_name(f"{name}.old")
