"""Matplotlib, where it is installed, and figures as files."""

import io
import pathlib
from typing import TYPE_CHECKING

from learned_opt_rl.artifacts._atomic import write_atomically
from learned_opt_rl.errors import MissingExtraError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches; ``MissingExtraError`` without matplotlib."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            f"plots need matplotlib ({error}): pip install 'learned-opt-rl[eval]'"
        ) from error
    # A Figure of its own, not pyplot's: a library leaves the caller's backend alone.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: "Figure", path: str | pathlib.Path, dpi: int = 150) -> None:
    """Write a figure as a PNG; the file is whole or not there."""
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=dpi)
    write_atomically(pathlib.Path(path), content.getvalue())
