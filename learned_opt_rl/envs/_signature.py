"""Checks of an environment's shapes, on results of ``jax.eval_shape`` only."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class Actions(NamedTuple):
    """The actions of an environment; only continuous ones have bounds."""

    number: int
    example: jax.ShapeDtypeStruct
    bounds: tuple[Any, Any] | None


def key_shape() -> Any:
    """Return the shape and dtype of a PRNG key."""
    return jax.eval_shape(lambda: jax.random.key(0))


def check_methods(name: str, env: Any) -> None:
    """Raise unless the object has the methods of a gymnax environment."""
    missing = [
        method
        for method in ("reset", "step", "action_space")
        if not callable(getattr(env, method, None))
    ]
    if missing:
        raise TypeError(
            f"environment {name!r} is a {type(env).__name__} without "
            f"{', '.join(missing)}; adapt() accepts objects with gymnax's methods "
            "reset(key, params), step(key, state, action, params) and "
            "action_space(params)"
        )


def check_reset(name: str, first: Any) -> None:
    """Raise unless ``reset`` returned one observation array and a state."""
    if not isinstance(first, tuple) or len(first) != 2:
        raise TypeError(
            f"reset of environment {name!r} must return (observation, state), "
            f"got {type(first).__name__}"
        )
    if not hasattr(first[0], "shape"):
        raise TypeError(
            f"environment {name!r} observes a {type(first[0]).__name__}, not one "
            "array; wrap it (gymnax.wrappers.FlattenObservationWrapper) first"
        )


def actions_of(name: str, env: Any, params: Any) -> Actions:
    """Read the action space, which must be of a supported kind."""
    space = env.action_space(params)
    if hasattr(space, "n"):
        return Actions(int(space.n), jax.ShapeDtypeStruct((), jnp.int32), None)
    shape = getattr(space, "shape", None)
    if shape is None or len(shape) > 1 or not hasattr(space, "low"):
        raise TypeError(
            f"environment {name!r} has actions of type {type(space).__name__}; only "
            "discrete actions (an action space with an attribute `n`) and bounded "
            "vectors (attributes `shape`, `low` and `high`) are supported"
        )
    example = jax.ShapeDtypeStruct(shape, jnp.float32)
    return Actions(math.prod(shape), example, (space.low, space.high))


def has_truncation(name: str, stepped: Any) -> bool:
    """Whether ``step`` separates termination from truncation (gymnax >= 1.0)."""
    count = len(stepped) if isinstance(stepped, tuple) else 1
    if count not in (5, 6):
        raise TypeError(
            f"step of environment {name!r} returns {count} value(s); adapt() accepts "
            "(obs, state, reward, done, info) and "
            "(obs, state, reward, terminated, truncated, info)"
        )
    return count == 6


def check_step(
    name: str,
    first: tuple[Any, Any],
    stepped: tuple[Any, ...],
    batch: tuple[int, ...] = (),
) -> None:
    """Raise unless ``step`` returned what ``reset`` did, one reward and one done."""
    _check_unchanged(name, "observation", first[0], stepped[0])
    _check_unchanged(name, "state", first[1], stepped[1])
    for what, value in ("reward", stepped[2]), *(("done", x) for x in stepped[3:-1]):
        if jnp.shape(value) != batch:
            raise TypeError(
                f"step of environment {name!r} returns a {what} of shape "
                f"{jnp.shape(value)}; it must be {batch or 'a scalar, ()'}"
            )


def _check_unchanged(name: str, what: str, before: Any, after: Any) -> None:
    """Raise if a step changes a structure, a shape or a dtype; name the leaf."""
    structures = jax.tree.structure(before), jax.tree.structure(after)
    if structures[0] != structures[1]:
        raise TypeError(
            f"step of environment {name!r} returns the {what} with structure "
            f"{structures[1]}, its reset with {structures[0]}; they must be the same"
        )
    leaves = zip(jax.tree.leaves_with_path(before), jax.tree.leaves(after), strict=True)
    for (path, old), new in leaves:
        if _kind(old) != _kind(new):
            place = what + jax.tree_util.keystr(path)
            raise TypeError(
                f"step of environment {name!r} returns the {place} as {_kind(new)}, "
                f"its reset as {_kind(old)}; they must be the same"
            )


def _kind(leaf: Any) -> str:
    """Dtype and shape, for example ``float32(10, 10, 4)``."""
    return f"{leaf.dtype}{tuple(leaf.shape)}"
