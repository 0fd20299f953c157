"""Action spaces of other packages, and the map from a policy's outputs to actions."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

# gymnasium writes the largest float32 for "no bound".
_NO_BOUND = float(np.finfo(np.float32).max) * 0.99

# A policy starts as N(0, 1). It fills [-1, 1] (brax) and [-2, 2] (Pendulum) as it is,
# and the published runs clip it there.
_FILLED = 1.0, 2.0


class Actions(NamedTuple):
    """The actions of an environment; only continuous ones have bounds.

    ``from_policy`` maps a policy's outputs, indices from 0 or numbers around 0, to
    actions; ``None`` where they are the same.
    """

    number: int
    example: jax.ShapeDtypeStruct
    bounds: tuple[Any, Any] | None = None
    from_policy: Callable[[jax.Array], jax.Array] | None = None
    stretched: bool = False  # Whether [-1, 1] maps to other bounds.


def read(name: str, space: Any) -> Actions:
    """Read an action space, which must be of a supported kind."""
    shape = getattr(space, "shape", None)
    # gymnasium's MultiBinary has an `n` too, and a shape.
    if hasattr(space, "n") and np.ndim(space.n) == 0 and not shape:
        return _discrete(int(space.n), int(getattr(space, "start", 0)))
    bounded = hasattr(space, "low") and hasattr(space, "high")
    whole = np.issubdtype(getattr(space, "dtype", None) or np.float32, np.integer)
    if shape is None or not bounded or whole:
        several = hasattr(space, "nvec") or hasattr(space, "n") or whole
        advice = (
            ". For several discrete actions at a time, offer one Discrete of all "
            "combinations and split it in step with jnp.unravel_index(action, sizes)"
        )
        raise TypeError(
            f"environment {name!r} has actions of type {type(space).__name__}; only "
            "discrete actions (an action space with an attribute `n`) and bounded "
            "arrays (attributes `shape`, `low` and `high`) are supported"
            + (advice if several else "")
        )
    return _bounded(name, tuple(shape), space.low, space.high)


def _discrete(number: int, start: int) -> Actions:
    example = jax.ShapeDtypeStruct((), jnp.int32)
    shift = (lambda action: action + start) if start else None
    return Actions(number, example, from_policy=shift)


def _bounded(name: str, shape: tuple[int, ...], low: Any, high: Any) -> Actions:
    number, example = math.prod(shape), jax.ShapeDtypeStruct(shape, jnp.float32)
    if isinstance(low, Tracer) or isinstance(high, Tracer):
        # Parameters of the environment that vary within a program are not read here.
        return Actions(number, example, (low, high))
    try:
        low, high = (
            np.broadcast_to(np.asarray(x, np.float32), shape) for x in (low, high)
        )
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"environment {name!r} has action bounds that do not fit its action shape "
            f"{shape}: {error}"
        ) from error
    low = np.where(low <= -_NO_BOUND, np.float32(-np.inf), low)
    high = np.where(high >= _NO_BOUND, np.float32(np.inf), high)
    finite = np.isfinite(low) & np.isfinite(high)
    half_open = ~finite & ((low > _FILLED[0]) | (high < -_FILLED[0]))
    if not (low < high).all() or half_open.any():
        raise TypeError(
            f"environment {name!r} has the action bounds low={low.tolist()} and "
            f"high={high.tolist()}; each low must be below its high, and an action "
            "with one bound only must allow values around 0. Give both bounds"
        )
    filled = (low == -high) & (high >= _FILLED[0]) & (high <= _FILLED[1])
    stretched = finite & ~filled
    nearest, farthest = (np.where(stretched, x, np.float32(0)) for x in (low, high))
    half = np.where(stretched, farthest / 2 - nearest / 2, np.float32(1))
    middle = farthest / 2 + nearest / 2

    def from_policy(action: jax.Array) -> jax.Array:
        lowest, highest, scale, shift = (
            jnp.broadcast_to(x.ravel(), action.shape) for x in (low, high, half, middle)
        )
        if stretched.any():
            action = shift + scale * action
        return jnp.clip(action, lowest, highest)

    return Actions(number, example, (low, high), from_policy, bool(stretched.any()))
