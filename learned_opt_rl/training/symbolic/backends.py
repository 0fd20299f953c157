"""Backends of symbolic regression: one protocol, and a backend by name."""

import dataclasses
import importlib
import pathlib
from typing import Any, NamedTuple, Protocol

import numpy as np

from learned_opt_rl import checks

BINARY = ("+", "-", "*", "/", "min", "max")
"""The binary operators of every search, as in the released code of Goldie et al."""

UNARY = ("square", "neg", "tanh", "abs", "exp", "relu", "sin", "cos")
"""Unary operators that a search may have."""


class Row(NamedTuple):
    """One expression of a backend's table."""

    complexity: int  # as the backend counts
    loss: float  # the weighted mean squared error, on the data that the backend used
    expression: str  # over x0, x1, ...


@dataclasses.dataclass(frozen=True)
class Settings:
    """Search space and budget of a fit.

    Attributes:
        unary: Unary operators beside `BINARY`, each one of `UNARY`.
        max_size: Largest number of operations and operands.
        max_depth: Largest depth.
        points: Rows that Operon sees. A teacher has no noise, so few rows suffice.
        evaluations: Expressions that Operon evaluates.
        populations: Populations of PySR.
        iterations: Iterations of PySR.
        seed: Seed of the search.

    Raises:
        ValueError: A number is not positive, or an operator is unknown.

    References:
        Goldie et al. 2025, "How Should We Meta-Learn Reinforcement Learning
        Algorithms?", table 10, and the authors' released code.
    """

    unary: tuple[str, ...] = UNARY
    max_size: int = 60
    max_depth: int = 9
    points: int = 1000
    evaluations: int = 500_000
    populations: int = 160
    iterations: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            if field.name not in ("unary", "seed"):
                checks.positive_int(field.name, getattr(self, field.name))
        for name in self.unary:
            checks.one_of("unary", name, UNARY)


class Backend(Protocol):
    """A library of symbolic regression."""

    def require(self) -> None:
        """Start the library.

        Raises:
            MissingExtraError: The library is not installed.
            BackendError: The library cannot run.
        """
        ...

    def fit(
        self,
        columns: np.ndarray,
        target: np.ndarray,
        weights: np.ndarray,
        settings: Settings,
        known: tuple[str, ...],
    ) -> list[Row]:
        """Search for expressions of x0, x1, ... that give the target.

        Args:
            columns: float64 ``[n, k]``.
            target: float64 ``[n]``.
            weights: float64 ``[n]``, at least 0, of the squared errors.
            settings: The search.
            known: Expressions that earlier fits found, from which it may start.

        Returns:
            The expressions with the lowest loss of each complexity, simplest first.

        Raises:
            BackendError: The search failed.
        """
        ...


class BackendError(OSError):
    """A backend is installed but cannot run; the message has the fix."""


BACKENDS = ("operon", "pysr")
"""The names of the backends, of which ``operon`` needs nothing outside PyPI."""


def is_table(name: str) -> bool:
    """Return whether the name of a backend is the file of a recorded table."""
    return name.endswith(".csv")


def backend(name: str) -> Backend:
    """Return a backend by name, or the table of a ``.csv`` file of PySR as one.

    Raises:
        ValueError: The name is not that of a backend.

    Example:
        >>> callable(backend("operon").fit)
        True
    """
    if is_table(name):
        module: Any = importlib.import_module(f"{__package__}.pysr_backend")
        return module.Recorded(pathlib.Path(name))
    checks.one_of("backend", name, BACKENDS)
    module = importlib.import_module(f"{__package__}.{name}_backend")
    return module
