"""Matplotlib, where it is installed, and figures as files."""

import io
import pathlib
import warnings
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.rundir.atomic import write_atomically

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_COLOURS = (
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
    """Write a figure as a PNG, or as the SVG that the file's name asks for.

    The file is whole or not there; the same figure always gives the same bytes.
    """
    path = pathlib.Path(path)
    write_atomically(path, image(figure, path.suffix.lower() == ".svg", dpi))


def image(figure: "Figure", svg: bool = False, dpi: int = 150) -> bytes:
    """A figure as the content of a PNG or SVG file."""
    import matplotlib

    content = io.BytesIO()
    # An SVG would hold the date and, in its identifiers, random salt.
    options = {"format": "svg", "metadata": {"Date": None}} if svg else {"dpi": dpi}
    with (
        matplotlib.rc_context({"svg.hashsalt": "learned_opt_rl"}),
        warnings.catch_warnings(),
    ):
        # A name may be in any script; what the font lacks is drawn as a box.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        figure.savefig(content, **{"format": "png", **options})
    return content.getvalue()


def text(name: str, length: int = 40) -> str:
    """A name as matplotlib shall draw it: short, no formula, not hidden."""
    shown = "".join(c if c.isprintable() else "?" for c in name)
    if len(shown) > length:
        shown = shown[: length // 2 - 1] + "…" + shown[-length // 2 :]
    # A dollar begins a formula; a leading underscore hides a line from its legend.
    shown = shown.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """A line style for each name: colours that colour-blind readers tell apart.

    Okabe and Ito's colours; names past the seventh differ in dashes and marker too.
    """
    return {
        name: {
            "color": _COLOURS[i % len(_COLOURS)],
            "linestyle": _DASHES[i // len(_COLOURS) % len(_DASHES)],
            "marker": _MARKERS[i % len(_MARKERS)],
        }
        for i, name in enumerate(names)
    }
