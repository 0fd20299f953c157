"""Checks of what an agent passes to a learned optimizer."""

import operator
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.features import Horizon, named_leaves
from learned_opt_rl.rules._core.noise import typed

Shapes = dict[str, tuple[int, ...]]


def require_horizon(horizon: Any) -> None:
    """Raise ``TypeError`` unless ``horizon`` is a ``Horizon``."""
    if not isinstance(horizon, Horizon):
        raise TypeError(
            f"horizon={horizon!r} must be a Horizon: Horizon(total_updates, epochs, "
            "minibatches) or Horizon.ppo(total_timesteps, num_envs, num_steps, "
            "epochs, minibatches)"
        )


def require_seed(seed: Any, key: Any) -> None:
    """Raise ``TypeError`` unless the seed is an integer and the key a jax key."""
    try:
        operator.index(seed)
    except TypeError:
        if not isinstance(seed, jax.Array):  # a traced integer has no index
            raise TypeError(
                f"seed={seed!r} is not an integer; pass one, or key=jax.random.key(...)"
            ) from None
    if key is not None and typed(key).shape:
        raise ValueError(
            f"key has shape {typed(key).shape}; give one key, and vmap over agents"
        )


def require_choice(name: str, value: Any, accepted: Sequence[Any]) -> None:
    """Raise ``ValueError`` unless the value is one of those accepted."""
    if not any(value is one or value == one for one in accepted):
        raise ValueError(
            f"{name}={value!r} must be one of {', '.join(map(repr, accepted))}"
        )


def as_arrays(tree: Any) -> Any:
    """Return the tree with Python floats as arrays, as optax takes them."""
    return jax.tree.map(lambda x: jnp.asarray(x) if isinstance(x, float) else x, tree)


def require_floating(params: Any) -> None:
    """Raise ``TypeError`` for the first leaf that is not a floating array."""
    for path, leaf in named_leaves(params):
        kind = getattr(leaf, "dtype", type(leaf))
        if isinstance(kind, type):
            name, is_complex = kind.__name__, kind is complex
        elif jnp.issubdtype(kind, jnp.floating):
            continue
        else:
            name, is_complex = str(kind), jnp.issubdtype(kind, jnp.complexfloating)
        fix = "exclude it with optax.masked (or eqx.filter, nnx.Param)"
        if is_complex:
            fix = "wrap the optimizer in optax.contrib.split_real_and_imaginary"
        raise TypeError(f"parameter '{path}' is {name}, not a floating array; {fix}")


def require_params(params: Any) -> None:
    """Raise optax's ``ValueError`` when ``params`` is missing."""
    if params is None:
        # optax's own wording, whose constant is private: a search finds its threads.
        raise ValueError(
            "You are using a transformation that requires the current value of "
            "parameters, but you are not passing `params` when calling `update`. "
            "Fix: tx.update(grads, state, params)"
        )


def require_state(state: Any, kind: type) -> None:
    """Raise ``TypeError`` unless ``state`` is of the rule's own kind."""
    if not isinstance(state, kind):
        raise TypeError(
            f"state is a {type(state).__name__}, not a {kind.__name__}: pass what "
            "tx.init(params), or the tx.update before, returned"
        )


def require_scalar(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless ``value`` is a scalar, or not given (``None``)."""
    if isinstance(value, str):
        raise ValueError(f"{name} is {value!r}; give one scalar in [0, 1]")
    if value is not None and np.shape(value):
        raise ValueError(
            f"{name} has shape {np.shape(value)}; give one scalar in [0, 1]"
        )


def require_trees(
    updates: Any,
    params: Any,
    memory: Mapping[str, Any],
    channels: Mapping[str, tuple[int, ...]],
) -> None:
    """Raise ``ValueError`` where gradients or state do not fit the parameters.

    ``memory`` has the state's trees and ``channels`` their trailing axes, by slot.
    """
    shapes = _shapes(params)
    fix = "Pass the gradients of these parameters"
    if shapes.keys() - _shapes(updates).keys():
        fix += " (of a whole Equinox model, eqx.filter(model, eqx.is_inexact_array))"
    _compare("gradient", _shapes(updates), shapes, fix)
    if set(memory) != set(channels):
        raise ValueError(
            f"the optimizer state has the slots {sorted(memory)}, but the rule has "
            f"{sorted(channels)}: the state is from another rule. Create it with "
            "tx.init(params) of this one"
        )
    for slot, tree in memory.items():
        needed = {path: (*shape, *channels[slot]) for path, shape in shapes.items()}
        fix = "Pass a state that tx.init(params) of this transformation made"
        _compare(f"optimizer state's {slot!r}", _shapes(tree), needed, fix)
    if jax.tree.structure(updates) != jax.tree.structure(params):
        raise ValueError(
            f"gradients are a {type(updates).__name__} tree, parameters a "
            f"{type(params).__name__} tree with the same paths; convert one, e.g. "
            "with flax.core.unfreeze"
        )


def _shapes(tree: Any) -> Shapes:
    return {leaf.path: leaf.shape for leaf in named_leaves(tree)}


def _compare(what: str, found: Shapes, needed: Shapes, fix: str) -> None:
    for path in sorted(found.keys() | needed.keys()):
        if found.get(path) != needed.get(path):
            raise ValueError(
                f"the {what} does not match the parameters at '{path}': its shape is "
                f"{found.get(path, 'absent')}, needed is {needed.get(path, 'absent')}. "
                f"{fix}"
            )
