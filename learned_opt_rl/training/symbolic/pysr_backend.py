"""Symbolic regression with PySR (extra ``pysr``), which runs Julia.

References:
    Cranmer 2023, "Interpretable Machine Learning for Science with PySR and
    SymbolicRegression.jl".
"""

import csv
import dataclasses
import pathlib
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.training.symbolic.backends import (
    BINARY,
    BackendError,
    Row,
    Settings,
)

# Rows in a batch, as published.
_BATCH = 5000

# Names of the columns of a table: of PySR 1 and 2, of their hall_of_fame.csv, and of
# the files of versions before 0.11.
_COLUMNS = {
    "complexity": ("complexity",),
    "loss": ("loss", "mse"),
    "equation": ("equation",),
}


def require() -> None:
    """Import PySR, which starts Julia; see `backends.Backend.require`."""
    try:
        import pysr  # noqa: F401  # pyright: ignore
    except ImportError as error:
        raise MissingExtraError(
            "backend='pysr' needs PySR; install it with: "
            "pip install 'learned-opt-rl[pysr]'"
        ) from error
    # Without Julia, juliapkg raises whatever its download did.
    except Exception as error:
        raise BackendError(
            f"backend='pysr' cannot start Julia ({type(error).__name__}: {error}); "
            "install Julia 1.10 or newer from julialang.org and put it on PATH, let "
            "PySR download it once with a network, or give backend='operon', which "
            "needs no Julia"
        ) from error


def fit(
    columns: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    settings: Settings,
    known: tuple[str, ...],
) -> list[Row]:
    """Fit as `backends.Backend.fit`; the search also starts from ``known``."""
    require()
    from pysr import PySRRegressor  # pyright: ignore

    model: Any = PySRRegressor(**arguments(settings, known))
    try:
        model.fit(columns, target, weights=weights)
    except Exception as error:
        raise BackendError(
            f"backend='pysr': the search failed ({type(error).__name__}: {error}); "
            "repeat the command, or give backend='operon'"
        ) from error
    records = model.equations_.to_dict("records")
    finite = [row for row in records if np.isfinite(row["loss"])]
    if len(finite) < len(records):
        left = len(records) - len(finite)
        warnings.warn(f"{left} rows of PySR have no finite loss", stacklevel=2)
    return rows_of(finite)


@dataclasses.dataclass(frozen=True)
class Recorded:
    """A table that PySR wrote elsewhere, as a backend. Every fit returns it."""

    path: pathlib.Path

    def require(self) -> None:
        """Read the table, or raise as `read_table`."""
        read_table(self.path)

    def fit(self, *_: Any) -> list[Row]:
        """Return the table; raise as `read_table`."""
        return read_table(self.path)


def arguments(settings: Settings, known: Sequence[str] = ()) -> dict[str, Any]:
    """Return the arguments of ``PySRRegressor``.

    References:
        Goldie et al. 2025, table 10, and the authors' released code.
    """
    return {
        "binary_operators": [*BINARY],
        "unary_operators": [*settings.unary],
        "maxsize": settings.max_size,
        "maxdepth": settings.max_depth,
        "populations": settings.populations,
        "niterations": settings.iterations,
        "batching": True,
        "batch_size": _BATCH,
        "weight_optimize": 0.001,
        "crossover_probability": 0.01,
        "turbo": True,
        "precision": 64,
        "random_state": settings.seed,
        "guesses": [*known] or None,
        # The table holds everything; without this, PySR also writes a folder.
        "temp_equation_file": True,
        "progress": False,
        "verbosity": 0,
    }


def read_table(path: pathlib.Path) -> list[Row]:
    """Read a ``hall_of_fame.csv`` of any version of PySR.

    Raises:
        ValueError: The file has other columns, or a row has no number.
        OSError: The file cannot be read.
    """
    with path.open(encoding="utf-8", newline="") as file:
        first = file.readline()
        file.seek(0)
        separator = "|" if "|" in first else ","
        return rows_of(csv.DictReader(file, delimiter=separator), str(path))


def rows_of(table: Iterable[Mapping[Any, Any]], source: str = "the table") -> list[Row]:
    """Return the rows of a table of PySR, with variables from x0.

    Raises:
        ValueError: A column is missing, or a row has no finite number or no equation.
    """
    found = []
    for index, row in enumerate(table):
        named = {str(name).strip().lower(): value for name, value in row.items()}
        read = {}
        for column, names in _COLUMNS.items():
            there = [name for name in names if name in named]
            if not there:
                raise ValueError(
                    f"{source} has no column {column!r} among {', '.join(named)}; give "
                    "a hall_of_fame.csv of PySR"
                )
            read[column] = named[there[0]]
        found.append(_row(read, f"{source}, row {index + 1}"))
    return sorted(found)


def _row(read: Mapping[str, Any], where: str) -> Row:
    try:
        complexity, loss = int(read["complexity"]), float(read["loss"])
    except (TypeError, ValueError) as error:
        raise ValueError(f"{where}: {error}; remove the row") from error
    if not np.isfinite(loss):
        raise ValueError(f"{where}: loss={loss!r} is not finite; remove the row")
    equation = read["equation"]
    if not isinstance(equation, str) or not equation.strip():
        raise ValueError(f"{where}: equation={equation!r} is empty; remove the row")
    return Row(complexity, loss, equation)
