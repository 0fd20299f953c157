"""Checks that an environment has the interface that `adapt` requires.

The checks read shapes only. Every error names the environment, whatever its methods
raise.
"""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

_TIME_STEPS = (
    "It has an interface of TimeSteps; wrap it as in the documentation's section on "
    "jumanji and navix"
)
# Attributes of environments with other interfaces, and the fix for each.
_OTHERS = (
    (
        ("single_action_space", "num_envs"),
        "It is a batch of environments; give a single one, since agents vmap it "
        "themselves",
    ),
    (
        ("agents", "possible_agents", "num_agents", "num_players"),
        "It has several agents; wrap it so that it shows one agent's observation and "
        "reward and plays the others itself",
    ),
    (
        ("action_size",),
        "It has brax's interface; wrap it as in the documentation's section on brax "
        "and MuJoCo Playground",
    ),
    (("action_spec", "observation_spec", "reward_spec"), _TIME_STEPS),
    (
        ("unwrapped", "metadata", "render_mode"),
        "It has gymnasium's interface, whose steps jax cannot trace; agents need an "
        "environment written in jax",
    ),
)

_METHODS = "reset(key, params), step(key, state, action, params)"


def with_params(method: Any, params: Any) -> Callable[..., Any]:
    """Return a method that gets ``params`` as its last argument, if it takes them.

    A value that cannot be called, such as a space, is returned by a function.
    """
    if not callable(method):
        return lambda: method
    try:
        signature = inspect.signature(method)
    except (TypeError, ValueError):  # Builtins and some wrappers have none.
        return lambda *arguments: method(*arguments, params)

    def called(*arguments: Any) -> Any:
        try:
            signature.bind(*arguments, params)
        except TypeError:
            return method(*arguments)
        return method(*arguments, params)

    return called


def attempt(name: str, method: str, call: Callable[[], Any], env: Any) -> Any:
    """Return ``call()``, which uses a method of the environment, or raise TypeError."""
    try:
        return call()
    except Exception as error:  # Code of third parties may raise anything.
        first_line = str(error).strip().partition("\n")[0].rstrip(".")
        hint = _hint(env) or (
            "jax must be able to trace these methods for a single environment"
        )
        raise TypeError(
            f"{method} of environment {name!r} failed, {type(error).__name__}: "
            f"{first_line}. adapt() calls {_METHODS} and action_space(params). {hint}"
        ) from error


def _hint(env: Any) -> str:
    for attributes, hint in _OTHERS:
        if any(hasattr(env, attribute) for attribute in attributes):
            return hint
    return ""


def key_shape() -> Any:
    """Return the shape and dtype of a PRNG key."""
    return jax.eval_shape(lambda: jax.random.key(0))


def check_methods(name: str, env: Any) -> None:
    """Raise unless the object has the methods of a gymnax environment."""
    missing = [x for x in ("reset", "step") if not callable(getattr(env, x, None))]
    if getattr(env, "action_space", None) is None:
        missing.append("action_space")
    if missing:
        hint = _hint(env)
        raise TypeError(
            f"environment {name!r} is a {type(env).__name__} without "
            f"{', '.join(missing)}; adapt() accepts objects with gymnax's methods "
            f"{_METHODS} and action_space(params)" + (f". {hint}" if hint else "")
        )


def check_pair(name: str, first: Any, env: Any) -> None:
    """Raise unless ``reset`` returned an observation and a state."""
    if isinstance(first, tuple) and len(first) == 2:
        return
    shows = any(hasattr(first, x) for x in ("obs", "observation"))
    hint = _hint(env) or (_TIME_STEPS if shows else "")
    raise TypeError(
        f"reset of environment {name!r} must return (observation, state), "
        f"got {type(first).__name__}" + (f". {hint}" if hint else "")
    )


def check_observation(name: str, observation: Any, env: Any) -> None:
    """Raise unless an observation is one array."""
    if hasattr(observation, "shape"):
        return
    hint = _hint(env) or (
        "flatten it: adapt(env, observe=lambda x: jax.flatten_util.ravel_pytree(x)[0])"
    )
    raise TypeError(
        f"environment {name!r} observes a {type(observation).__name__}, not one "
        f"array; {hint}"
    )


def check_count(name: str, stepped: Any) -> None:
    """Raise unless ``step`` returned five values or six."""
    count = len(stepped) if isinstance(stepped, tuple) else 1
    if count not in (5, 6):
        raise TypeError(
            f"step of environment {name!r} returns {count} value(s); adapt() accepts "
            "(obs, state, reward, done, info) and "
            "(obs, state, reward, terminated, truncated, info)"
        )


def check_step(
    name: str,
    first: tuple[Any, Any],
    stepped: tuple[Any, ...],
    batch: tuple[int, ...] = (),
) -> None:
    """Raise unless ``step`` keeps the shapes of ``reset`` and adds scalar values."""
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
        if kind(old) != kind(new):
            place = what + jax.tree_util.keystr(path)
            raise TypeError(
                f"step of environment {name!r} returns the {place} as {kind(new)}, "
                f"its reset as {kind(old)}; they must be the same"
            )


def kind(leaf: Any) -> str:
    """Return dtype and shape, for example ``float32(10, 10, 4)``."""
    return f"{leaf.dtype}{tuple(leaf.shape)}"
