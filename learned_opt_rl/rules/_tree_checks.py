"""Checks of what an agent hands to a learned optimiser, with messages that help."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.features import Horizon
from learned_opt_rl.features._networks import path_name

# optax's own wording (its constant is private), so that a search finds its threads.
NO_PARAMS_MESSAGE = (
    "You are using a transformation that requires the current value of parameters, "
    "but you are not passing `params` when calling `update`. "
    "Fix: tx.update(grads, state, params)"
)


def require_horizon(horizon: Any) -> None:
    """Raise ``TypeError`` unless ``horizon`` is a ``Horizon``."""
    if not isinstance(horizon, Horizon):
        raise TypeError(
            f"horizon={horizon!r} must be a Horizon: Horizon(total_updates, epochs, "
            "minibatches) or Horizon.ppo(total_timesteps, num_envs, num_steps, "
            "epochs, minibatches)"
        )


def require_seed(seed: Any, key: Any) -> None:
    """Raise ``TypeError`` unless the seed is an integer, and the key one of jax's."""
    try:
        operator.index(seed)
    except TypeError:
        if not isinstance(seed, jax.Array):  # a traced integer has no index
            raise TypeError(
                f"seed={seed!r} is no integer; give one, or key=jax.random.key(...)"
            ) from None
    if key is not None and not isinstance(key, jax.Array | np.ndarray):
        raise TypeError(f"key={key!r} is no jax random key; give jax.random.key(...)")


def require_floating(params: Any) -> None:
    """Raise ``TypeError`` for the first leaf that is not a floating array."""
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        dtype = getattr(leaf, "dtype", None)
        if dtype is None or not jnp.issubdtype(dtype, jnp.floating):
            raise TypeError(
                f"parameter '{path_name(path)}' is {dtype or type(leaf).__name__}, not "
                "a floating array; keep it from the optimiser with optax.masked "
                "(or eqx.filter, nnx.Param)"
            )


def require_params(params: Any) -> None:
    """Raise optax's ``ValueError`` when ``params`` is missing."""
    if params is None:
        raise ValueError(NO_PARAMS_MESSAGE)


def require_state(state: Any, kind: type) -> None:
    """Raise ``TypeError`` unless ``state`` is of the rule's own kind."""
    if not isinstance(state, kind):
        raise TypeError(
            f"state is a {type(state).__name__}, not a {kind.__name__}: pass what "
            "tx.init(params), or the tx.update before, returned"
        )


def require_carry(carry: Any, units: int | None) -> None:
    """Raise ``ValueError`` where a state's GRU carry is not of ``units`` units."""
    found = {jnp.shape(leaf)[0] for leaf in jax.tree.leaves(carry)} or {None}
    if found != {units}:
        raise ValueError(
            f"the optimiser state has a GRU carry of {found.pop()} units, the weights "
            f"need {units}: the state is of a tx with other weights. Make it with "
            "tx.init(params) of this one"
        )


def require_scalar(name: str, value: Any) -> None:
    """Raise ``ValueError`` unless ``value`` is a scalar, or not given (``None``)."""
    if value is None:
        return
    if isinstance(value, str) or np.shape(value):
        text = isinstance(value, str)
        found = f"is {value!r}" if text else f"has shape {np.shape(value)}"
        raise ValueError(f"{name} {found}; give one scalar in [0, 1]")


def require_same_structure(updates: Any, params: Any, memory: Any) -> None:
    """Raise ``ValueError`` where gradients or state do not match the parameters.

    Args:
        updates: Gradients.
        params: Parameters.
        memory: The state's momenta or carry, one ``[rows, *shape]`` leaf per
            parameter.
    """
    shapes = _shapes(params)
    _compare("gradient", _shapes(updates), shapes, "as jax.grad returns them")
    state = {path: shape[1:] for path, shape in _shapes(memory).items()}
    _compare("optimiser state", state, shapes, "made by tx.init(params)")
    _require_same_kind(updates, params)


def require_same_trees(updates: Any, params: Any, slots: Mapping[str, Any]) -> None:
    """Raise ``ValueError`` where gradients or memory do not match the parameters.

    Args:
        updates: Gradients.
        params: Parameters.
        slots: Per name a tree like the parameters.
    """
    shapes = _shapes(params)
    _compare("gradient", _shapes(updates), shapes, "as jax.grad returns them")
    for tree in slots.values():
        _compare("optimiser state", _shapes(tree), shapes, "made by tx.init(params)")
    _require_same_kind(updates, params)


def _require_same_kind(updates: Any, params: Any) -> None:
    if jax.tree.structure(updates) != jax.tree.structure(params):
        raise ValueError(
            f"gradients are a {type(updates).__name__} tree, parameters a "
            f"{type(params).__name__} tree with the same paths; convert one, e.g. "
            "with flax.core.unfreeze"
        )


def _shapes(tree: Any) -> dict[str, tuple[int, ...]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {path_name(path): jnp.shape(leaf) for path, leaf in leaves}


def _compare(
    what: str,
    found: dict[str, tuple[int, ...]],
    expected: dict[str, tuple[int, ...]],
    fix: str,
) -> None:
    for path in sorted(found.keys() | expected.keys()):
        if found.get(path) != expected.get(path):
            raise ValueError(
                f"the {what} does not match the parameters at '{path}': "
                f"{what} {found.get(path, 'absent')}, parameter "
                f"{expected.get(path, 'absent')}. Pass the {what} {fix} for these "
                "parameters"
            )
