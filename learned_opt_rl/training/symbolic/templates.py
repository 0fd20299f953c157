"""Forms of drifts, in which one expression is searched."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from learned_opt_rl import expressions
from learned_opt_rl.expressions import Function

# Where a drift is 0, any negative h gives it; these rows count less than the others.
_OFF, _OFF_WEIGHT = -0.5, 0.1
# softplus is never 0; this is its h for a drift of 0.001 (r - 1)^2.
_LOWEST, _LOWEST_WEIGHT = -6.9, 0.01


class Template(NamedTuple):
    """A form of drifts; ``h`` is the expression that is searched."""

    text: str  # over r and {h}
    # (drift, r - 1) -> values of h for it, and weights of their squared errors
    inverse: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _relu(drift: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    on = (drift > 0) & (u != 0)
    h = np.where(on, drift / np.where(on, u, 1) ** 2, _OFF)
    return h, _weights(u**2, on, _OFF_WEIGHT)


def _softplus(drift: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    on = (drift > np.logaddexp(_LOWEST, 0) * u**2) & (u != 0)
    value = np.where(on, drift / np.where(on, u, 1) ** 2, 1.0)
    h = np.where(on, value + np.log(-np.expm1(-value)), _LOWEST)
    return h, _weights(u**2 / (1 + np.exp(-h)), on, _LOWEST_WEIGHT)


def _weights(slope: np.ndarray, on: np.ndarray, off: float) -> np.ndarray:
    """Weigh errors of h as those of the drift, whose derivative is ``slope``.

    At ratio 1, where the slope is 0, every h gives the drift.
    """
    moved = slope**2 * on
    return moved / max(moved.mean(), 1e-12) + off * (~on & (slope > 0))


def _free(drift: np.ndarray, u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return drift, np.ones_like(u)


TEMPLATES = {
    "relu": Template("(r - 1)**2 * relu({h})", _relu),
    "softplus": Template("(r - 1)**2 * softplus({h})", _softplus),
    "free": Template("relu({h})", _free),
}
"""Forms of drifts. The first two are never negative, and 0 and flat at ratio 1 where h
and its slope are finite; the last need not be flat there."""


def filled(function: Function, template: str | None) -> Function:
    r"""Return a template with an expression as its ``h``.

    Without a template, return the expression unchanged.

    Example:
        >>> h = expressions.parse("drift\ninputs A, log_r\nreturn A - log_r")
        >>> print(filled(h, "relu").to_text(), end="")
        drift
        inputs r, A, log_r
        return (r - 1)**2 * relu(A - log_r)
    """
    if template is None:
        return function
    head, _, result = function.to_text().rpartition("return ")
    lines = head.splitlines()
    if "r" not in function.inputs and template != "free":
        read = [name for name in ("r", "A", "log_r") if name in {"r", *function.inputs}]
        lines[1 : 1 + bool(function.inputs)] = [f"inputs {', '.join(read)}"]
    whole = TEMPLATES[template].text.format(h=result.strip())
    return expressions.parse("\n".join([*lines, f"return {whole}", ""]))
