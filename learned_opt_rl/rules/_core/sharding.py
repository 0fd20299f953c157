"""Updates of parameters that are sharded over a mesh of devices."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.core
import jax.numpy as jnp
from jax.experimental.shard_alike import shard_alike
from jax.sharding import NamedSharding, PartitionSpec

Result = TypeVar("Result")


def start_like(
    leaf: Any, channels: tuple[int, ...], value: Any, dtype: Any
) -> jax.Array:
    """Return ``[*shape, *channels]`` of one value, sharded like a leaf ``[*shape]``."""
    full = jnp.full_like(leaf, value, dtype)
    expanded = jnp.expand_dims(full, tuple(range(leaf.ndim, leaf.ndim + len(channels))))
    return jnp.broadcast_to(expanded, (*leaf.shape, *channels))


def beside(params: Any, value: jax.Array) -> jax.Array:
    """Place one value on every device of the parameters' mesh, where they have one."""
    for leaf in jax.tree.leaves(params):
        # Where a tracer is placed, jit and vmap decide.
        traced = isinstance(leaf, jax.core.Tracer)
        sharding = None if traced else getattr(leaf, "sharding", None)
        if isinstance(sharding, NamedSharding):
            return jax.device_put(value, NamedSharding(sharding.mesh, PartitionSpec()))
    return value


def follow(value: jax.Array, like: jax.Array) -> jax.Array:
    """Return ``value``, sharded like an array of the same shape."""
    if jax.device_count() == 1:
        return value
    return shard_alike(value, like)[0]


def with_auto_axes(
    function: Callable[..., Result], like: Result, *arguments: Any
) -> Result:
    """Call a function whose results have the shapes and shardings of ``like``.

    Where arguments are sharded over Explicit axes of a mesh, JAX refuses to reshape or
    to concatenate them. Inside of the function these axes are Auto, and the compiler
    places the values in between.
    """
    axes = sorted({a for x in jax.tree.leaves(arguments) for a in _axes(x)})
    if not axes:
        return function(*arguments)
    shardings = [jax.typeof(x).sharding for x in jax.tree.leaves((arguments, like))]
    mesh = next(s.mesh for s in shardings if not s.mesh.empty)
    out = jax.tree.map(lambda x: NamedSharding(mesh, jax.typeof(x).sharding.spec), like)
    auto = jax.sharding.auto_axes(function, axes=tuple(axes), out_sharding=out)
    # Op by op, JAX would not know the devices of the abstract mesh.
    return jax.jit(auto)(*arguments)


def _axes(x: Any) -> set[str]:
    """Return the Explicit axes of its mesh over which an array is sharded."""
    spec = jax.typeof(x).sharding.spec
    parts = [part if isinstance(part, tuple) else (part,) for part in spec]
    return {axis for part in parts for axis in part if axis is not None}
