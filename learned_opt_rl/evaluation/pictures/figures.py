"""Matplotlib figures in one style, and figures as files."""

import contextlib
import importlib
import io
import itertools
import os
import pathlib
import re
import sys
import warnings
from collections.abc import Iterable, Iterator
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
    "#8c6d31",
)
_DASHES = ("-", "--", ":", "-.")
_MARKERS = "sD^vPX*"
# Tuned Adam, which nearly every figure shows, looks the same in all of them.
_BLACK = "#1b2026"
_IS_ADAM = re.compile(r"adam( \(\w+\))?|tuned Adam").fullmatch
PAPER_WIDTH = 5.5
"""Inches; the text of a paper is as wide."""


@contextlib.contextmanager
def plain_style(**settings: Any) -> Iterator[None]:
    """Use matplotlib's own defaults, and ``settings``, instead of the user's settings.

    With a user's ``matplotlibrc``, the same rows would give other figures, and drawing
    would fail if LaTeX is set but not installed. Decorate functions that draw with this
    context, because artists read the settings when they are made.
    """
    matplotlib = require_matplotlib()
    plain = {k: v for k, v in matplotlib.rcParamsDefault.items() if k != "backend"}
    # Type 42 is TrueType, which journals accept.
    ours = {"svg.hashsalt": "learned_opt_rl", "pdf.fonttype": 42}
    with matplotlib.rc_context(plain | ours | settings):
        yield


def require_matplotlib() -> Any:
    """Return matplotlib, even if the user's backend (MPLBACKEND) does not exist.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: It does not load with the user's settings.
    """
    if sys.modules.get("matplotlib"):
        return sys.modules["matplotlib"]
    # The import fails if this variable names no backend, also when it is repeated.
    backend = os.environ.pop("MPLBACKEND", None)
    try:
        matplotlib = importlib.import_module("matplotlib")
    except ImportError as error:
        raise _missing(error) from error
    except ValueError as error:  # The file is not text, for example.
        raise ValueError(
            f"matplotlib does not load with this user's settings ({error}); correct "
            "or delete the file matplotlibrc"
        ) from error
    finally:
        if backend is not None:
            os.environ["MPLBACKEND"] = backend
    if backend:
        with contextlib.suppress(ValueError):  # Nothing here opens a window.
            matplotlib.rcParams["backend"] = backend
    return matplotlib


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of a size in inches."""
    require_matplotlib()
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise _missing(error) from error
    # Not pyplot's, so that the caller's backend stays as it is.
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save(figure: "Figure", path: str | pathlib.Path, dpi: int = 150) -> None:
    """Write a figure as a PNG, or as what the path ends in, ``.svg`` or ``.pdf``.

    The write is atomic. The same figure always gives the same bytes.
    """
    path, content = pathlib.Path(path), io.BytesIO()
    ending = path.suffix.lower().removeprefix(".")
    render(figure, content, ending if ending in ("svg", "pdf") else "png", dpi)
    write_atomically(path, content.getvalue())


@plain_style()
def render(figure: "Figure", file: io.BytesIO, kind: str, dpi: int = 150) -> None:
    """Write a figure as ``"png"``, ``"svg"`` or ``"pdf"`` into a binary file."""
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    # By default these contain the date.
    dates = {"svg": {"Date": None}, "pdf": {"CreationDate": None}}
    options: dict[str, Any] = {"metadata": dates[kind]} if kind in dates else {}
    with warnings.catch_warnings():
        # A name may be in any script; the font draws unknown letters as boxes.
        warnings.filterwarnings("ignore", "Glyph .* missing from", UserWarning)
        if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
            # It takes longer than drawing. With an engine, savefig computes the layout
            # twice for every file; without one, it keeps the positions.
            figure.draw_without_rendering()
            figure.set_layout_engine(None)
        figure.savefig(file, format=kind, dpi=dpi, **options)


def _missing(error: ImportError) -> MissingExtraError:
    return MissingExtraError(
        f"plots need matplotlib ({error}): pip install 'learned-opt-rl[eval]'"
    )


def text(name: str, length: int = 40) -> str:
    """Return a name for matplotlib: short, not a formula, not hidden."""
    shown = "".join(c if c.isprintable() else "?" for c in name)
    if len(shown) > length:
        shown = shown[: length // 2 - 1] + "…" + shown[-length // 2 :]
    # A dollar begins a formula; a leading underscore hides a line from its legend.
    shown = shown.replace("$", r"\$")
    return f" {shown}" if shown.startswith("_") else shown


def styles(names: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return a line style for each name; past the seventh, dashes differ too.

    Tuned Adam is black in every figure; with a second agent, its dashes differ.

    Example:
        >>> found = styles(["adam", "adam (a2c)", "lion"])
        >>> [(style["color"], style["linestyle"]) for style in found.values()]
        [('#1b2026', '-'), ('#1b2026', '--'), ('#0072b2', '-')]
    """
    adams, others = itertools.count(), itertools.count()
    return {
        name: _adam(next(adams)) if _IS_ADAM(name) else _style(next(others))
        for name in names
    }


def _adam(number: int) -> dict[str, Any]:
    dashes = _DASHES[number % len(_DASHES)]
    marker = "o" if number == 0 else _MARKERS[number % len(_MARKERS)]
    return {"color": _BLACK, "linestyle": dashes, "marker": marker}


def _style(number: int) -> dict[str, Any]:
    return {
        "color": _COLORS[number % len(_COLORS)],
        "linestyle": _DASHES[number // len(_COLORS) % len(_DASHES)],
        "marker": _MARKERS[number % len(_MARKERS)],
    }
