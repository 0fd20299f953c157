"""How a finished distillation is told from one that was killed."""

import pathlib

FINAL = "final.safetensors"


def require_finished(folder: pathlib.Path) -> None:
    """Checks that a distillation came to its end.

    Args:
        folder: Of `run.distill`.

    Raises:
        ValueError: It did not: another run of it would replace what is there.

    Example:
        >>> require_finished(pathlib.Path("runs/half"))
        Traceback (most recent call last):
        ...
        ValueError: runs/half holds a distillation that was not finished; give the
        `train distill` that began it once more
    """
    if not (folder / FINAL).exists():
        raise ValueError(
            f"{folder} holds a distillation that was not finished; give the `train "
            "distill` that began it once more"
        )
