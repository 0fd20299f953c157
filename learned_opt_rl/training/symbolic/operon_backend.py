"""Symbolic regression with Operon (extra ``symbolic``), on one thread of a CPU.

References:
    Burlacu et al. 2020, "Operon C++: an efficient genetic programming framework for
    symbolic regression".
"""

import numpy as np

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.training.symbolic.backends import Row, Settings

_BINARY = "add,sub,mul,div,fmin,fmax"
# A negation and a relu are a difference and a maximum with a constant.
_UNARY = {"neg": "", "relu": ""}
# Steps of Levenberg-Marquardt on the constants of every expression.
_CONSTANT_STEPS = 5
_POPULATION = 1000
# Digits after the point. Constants that are smaller would be printed as 0, so columns
# and target should be of order 1.
_DIGITS = 12


def require() -> None:
    """Import Operon; see `backends.Backend.require`."""
    try:
        import pyoperon.sklearn  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            "backend='operon' needs pyoperon; install it with: "
            "pip install 'learned-opt-rl[symbolic]'"
        ) from error


def fit(
    columns: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    settings: Settings,
    known: tuple[str, ...],
) -> list[Row]:
    """Fit as `backends.Backend.fit`; ``known`` expressions are not used.

    Operon has no weights of rows, so ``settings.points`` rows are drawn with them. The
    result is determined by the seed.
    """
    del known  # Operon starts from random expressions only
    require()
    from pyoperon.sklearn import SymbolicRegressor

    rng = np.random.default_rng(settings.seed)
    chosen = rng.choice(len(target), settings.points, p=weights / weights.sum())
    unary = [_UNARY.get(name, name) for name in settings.unary]
    regressor = SymbolicRegressor(
        allowed_symbols=",".join([_BINARY, *filter(None, unary), "constant,variable"]),
        objectives=["mse", "length"],
        max_length=settings.max_size,
        max_depth=settings.max_depth,
        population_size=_POPULATION,
        generations=settings.evaluations,  # the evaluations are the limit
        max_evaluations=settings.evaluations,
        optimizer_iterations=_CONSTANT_STEPS,
        n_threads=1,
        random_state=settings.seed,
    )
    # Operon frees float32 arrays too early; these are float64.
    regressor.fit(columns[chosen], target[chosen])
    names = [f"x{i}" for i in range(columns.shape[1])]
    found = [
        Row(
            int(one["length"]),
            float(one["mean_squared_error"]),
            regressor.get_model_string(one["tree"], _DIGITS, names),
        )
        for one in regressor.pareto_front_
    ]
    return sorted(row for row in found if np.isfinite(row.loss))
