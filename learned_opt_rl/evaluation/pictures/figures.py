"""Matplotlib figures in one style, and figures as files."""

import io
import pathlib
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.rundir.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# Okabe and Ito's colors, which color-blind readers can tell apart.
_COLORS = (
    "#0072b2",
    "#d55e00",
    "#009e73",
    "#cc79a7",
    "#e69f00",
    "#56b4e9",
    "#666666",
)
_DASHES = ("-", "--", ":", "-.")
_MARKERS = "osD^vPX*"


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError(
            f"plots need matplotlib ({error}): pip install 'learned-opt-rl[eval]'"
        ) from error
    # Not pyplot's, so that the caller's backend stays as it is.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: "Figure", path: str | pathlib.Path, dpi: int = 150) -> None:
    """Write a figure as a PNG, or as an SVG if the path ends in ``.svg``.

    The write is atomic. The same figure always gives the same bytes.
    """
    import matplotlib
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    path, content = pathlib.Path(path), io.BytesIO()
    options: dict[str, Any] = {"format": "png", "dpi": dpi}
    if path.suffix.lower() == ".svg":
        # By default an SVG contains the date and a random salt in its identifiers.
        options = {"format": "svg", "metadata": {"Date": None}}
    with (
        matplotlib.rc_context({"svg.hashsalt": "learned_opt_rl"}),
        warnings.catch_warnings(),
    ):
        # A name may be in any script; the font draws unknown letters as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
            # It takes longer than drawing. With an engine, savefig computes the layout
            # twice for every file; without one, it keeps the positions.
            figure.draw_without_rendering()
            figure.set_layout_engine(None)
        figure.savefig(content, **options)
    write_atomically(path, content.getvalue())


def text(name: str, length: int = 40) -> str:
    """Return a name for matplotlib: short, not a formula, not hidden."""
    shown = "".join(c if c.isprintable() else "?" for c in name)
    if len(shown) > length:
        shown = shown[: length // 2 - 1] + "…" + shown[-length // 2 :]
    # A dollar begins a formula; a leading underscore hides a line from its legend.
    shown = shown.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return a line style for each name; past the seventh, dashes differ too."""
    return {
        name: {
            "color": _COLORS[i % len(_COLORS)],
            "linestyle": _DASHES[i // len(_COLORS) % len(_DASHES)],
            "marker": _MARKERS[i % len(_MARKERS)],
        }
        for i, name in enumerate(names)
    }
