"""Checks of environments: of shapes, with ``jax.eval_shape``, and of values."""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.checks import positive_int

if TYPE_CHECKING:
    from learned_opt_rl.envs.adapter import Environment

NUM_ENVS = 4  # More than one, to exercise the batched methods.


def check(env: "Environment", steps: int = 100, key: jax.Array | None = None) -> None:
    """Play a few environments with random actions and check their results.

    This takes about as long as compiling the environment's ``reset`` and ``step``.

    Args:
        env: The environment.
        steps: Steps to play, 1 or more.
        key: A PRNG key for the environments and the actions; by default ``key(0)``.

    Raises:
        TypeError: A step's observation, state, reward or done has the wrong structure,
            shape or dtype.
        ValueError: An observation or a reward is NaN or infinite, or ``steps`` is not
            positive.

    Example:
        >>> from learned_opt_rl import envs
        >>> check(envs.make("CartPole-v1"))
    """
    positive_int("steps", steps)
    _check_shapes(env)
    key = jax.random.key(0) if key is None else key
    first, observed, rewards = jax.jit(_play, static_argnums=(0, 1))(env, steps, key)
    if not first:
        raise ValueError(
            f"reset of environment {env.name!r} returned an observation with NaN or "
            "infinite entries"
        )
    for i in range(steps):
        if not observed[i]:
            raise ValueError(
                f"environment {env.name!r} returned an observation with NaN or "
                f"infinite entries at step {i + 1} of random play"
            )
        if not np.isfinite(rewards[i]).all():
            bad = rewards[i][~np.isfinite(rewards[i])][0]
            raise ValueError(
                f"environment {env.name!r} returned a reward of {bad} at step {i + 1} "
                "of random play; rewards must be finite"
            )


def _check_shapes(env: "Environment") -> None:
    """Raise unless batches start and step in the form that agents expect."""
    key, name = key_shape(), env.name
    first = jax.eval_shape(lambda key: env.reset_many(key, NUM_ENVS), key)
    expected = (NUM_ENVS, *env.observation_shape)
    if first[0].shape != expected:
        raise TypeError(
            f"reset_many of environment {name!r} returns observations of shape "
            f"{first[0].shape}; its observation_shape requires {expected}"
        )
    actions = jax.eval_shape(lambda key: env.random_actions(key, NUM_ENVS), key)
    stepped = jax.eval_shape(env.step_many, key, first[1], actions)
    values = (stepped.observation, stepped.state, stepped.reward, stepped.done, {})
    check_step(name, first, values, (NUM_ENVS,))
    for what, dtype in ("reward", jnp.float32), ("done", jnp.bool_):
        if getattr(stepped, what).dtype != dtype:
            raise TypeError(
                f"step of environment {name!r} returns a {what} of dtype "
                f"{getattr(stepped, what).dtype}; it must be {jnp.dtype(dtype)}"
            )


def _play(env: "Environment", steps: int, key: jax.Array) -> Any:
    """Return whether the first and each later observation is finite, and rewards."""
    reset_key, key = jax.random.split(key)
    observation, state = env.reset_many(reset_key, NUM_ENVS)

    def step(state: Any, key: jax.Array) -> Any:
        action_key, key = jax.random.split(key)
        stepped = env.step_many(key, state, env.random_actions(action_key, NUM_ENVS))
        return stepped.state, (_is_finite(stepped.observation), stepped.reward)

    keys = jax.random.split(key, steps)
    return _is_finite(observation), *jax.lax.scan(step, state, keys)[1]


def _is_finite(x: jax.Array) -> jax.Array:
    return jnp.isfinite(x.astype(jnp.float32)).all()


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
