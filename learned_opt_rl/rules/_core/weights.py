"""Weights of learned rules: drawn for shapes, and checked against shapes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt_rl.artifacts.weights import unflatten_names
from learned_opt_rl.errors import WeightsError

Weights = dict[str, Any]
"""Nested dict of float32 arrays; the layouts in ``artifacts`` list them."""

# The recurrent maps of a GRU's gates (r, z, n) and an LSTM's (i, g, f, o).
_RECURRENT_MAPS = frozenset(f"h{gate}" for gate in "rzn" + "igfo")

Shapes = Mapping[str, tuple[int, ...]]


def draw_weights(key: jax.Array, shapes: Shapes) -> Weights:
    """Draw weights as Flax initializes its ``Dense``, ``LayerNorm`` and ``GRUCell``.

    Kernels are LeCun-normal (orthogonal for the recurrent maps), biases zero, scales 1.
    """
    keys = jax.random.split(key, len(shapes))
    return unflatten_names(
        {
            name: _initial(name, shape, subkey)
            for (name, shape), subkey in zip(shapes.items(), keys, strict=True)
        }
    )


def _initial(name: str, shape: tuple[int, ...], key: jax.Array) -> jax.Array:
    *_, layer, leaf = name.split(".")
    if leaf == "bias":
        return jnp.zeros(shape, jnp.float32)
    if leaf == "scale":
        return jnp.ones(shape, jnp.float32)
    if layer in _RECURRENT_MAPS:
        return jax.nn.initializers.orthogonal()(key, shape, jnp.float32)
    return jax.nn.initializers.lecun_normal()(key, shape, jnp.float32)


def require_shapes(
    weights: Weights, shapes: Shapes, architecture: object, transform: str
) -> None:
    """Raise ``WeightsError`` unless weights have exactly these tensors and shapes.

    ``transform`` is the function that was given the weights, for the message.
    """
    found = {
        jax.tree_util.keystr(path, simple=True, separator="."): jnp.shape(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(weights)
    }
    for name in sorted(shapes.keys() | found.keys()):
        if shapes.get(name) != found.get(name):
            raise WeightsError(
                f"weights tensor '{name}' has shape {found.get(name, 'missing')}, but "
                f"{architecture} needs {shapes.get(name, 'no such tensor')}. Weights "
                "of another algorithm or architecture do not fit; for a population "
                f"of weights, vmap over {transform}"
            )


def as_float32(weights: Weights) -> Weights:
    """Return weights as float32 jax arrays."""
    return jax.tree.map(lambda w: jnp.asarray(w, jnp.float32), weights)
