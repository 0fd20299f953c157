"""Replace a folder as a whole, or leave it unchanged."""

import os
import pathlib
import shutil


def replace(made: pathlib.Path, target: pathlib.Path) -> None:
    """Replace a folder with a copy of another.

    The copy is made beside it under a hidden name and renamed when it is whole. An
    error or an interrupt leaves the folder unchanged. A kill between the two renames
    leaves it under its hidden name, where `recover` finds it.

    Args:
        made: The new content.
        target: The folder, which need not exist.

    Raises:
        OSError: The copy cannot be written; the folder is unchanged.
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
    """Restore the folder after a killed `replace`, and remove its leftovers."""
    new, old = _hidden(target)
    if old.exists() and not target.exists():
        os.replace(old, target)
    for path in (new, old):
        shutil.rmtree(path, ignore_errors=True)


def _hidden(target: pathlib.Path) -> tuple[pathlib.Path, pathlib.Path]:
    name = f".{target.name}"
    return target.with_name(f"{name}.new"), target.with_name(f"{name}.old")
