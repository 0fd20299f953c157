"""From a table of shapes to weights, and back: drawing them, and checking them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt_rl.artifacts.weights import unflatten_names
from learned_opt_rl.errors import WeightsError

Shapes = Mapping[str, tuple[int, ...]]


def draw(key: jax.Array, shapes: Shapes) -> dict[str, Any]:
    """Random float32 weights of the given shapes, as a nested dict.

    Args:
        key: jax random key.
        shapes: By dotted name; the last part says what a tensor is.

    Returns:
        LeCun-normal kernels (orthogonal for a core's recurrent maps, as in Flax's
        cells), zero biases, unit scales.
    """
    keys = jax.random.split(key, len(shapes))
    return unflatten_names(
        {
            name: _initial(name, shape, subkey)
            for (name, shape), subkey in zip(shapes.items(), keys, strict=True)
        }
    )


def _initial(name: str, shape: tuple[int, ...], key: jax.Array) -> jax.Array:
    if name.endswith("bias"):
        return jnp.zeros(shape, jnp.float32)
    if name.endswith("scale"):
        return jnp.ones(shape, jnp.float32)
    if name.startswith(("gru.h", "lstm.h")):
        return jax.nn.initializers.orthogonal()(key, shape, jnp.float32)
    return jax.nn.initializers.lecun_normal()(key, shape, jnp.float32)


def require_shapes(weights: Any, expected: Shapes, architecture: Any, use: str) -> None:
    """Raise ``WeightsError`` where a weights pytree is not of the expected shapes.

    Args:
        weights: Nested dict of arrays.
        expected: Shapes by dotted name.
        architecture: Named in the error.
        use: What to vmap over, for a population of weights.
    """
    found = {
        jax.tree_util.keystr(path, simple=True, separator="."): jnp.shape(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(weights)
    }
    for name in sorted(expected.keys() | found.keys()):
        if expected.get(name) != found.get(name):
            raise WeightsError(
                f"weights tensor '{name}' has shape {found.get(name, 'missing')}, but "
                f"{architecture} needs {expected.get(name, 'no such tensor')}. Weights "
                "of another algorithm or architecture do not fit; for a population "
                f"of weights, vmap over {use}"
            )
