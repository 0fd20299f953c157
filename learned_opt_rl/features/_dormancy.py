"""Dormancy: the share of a layer's activity that each of its neurons carries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from learned_opt_rl.features._paths import named_leaves

if TYPE_CHECKING:
    from jaxtyping import Array, Float

_FLOOR = 1e-11  # as in the authors' code; keeps the share of a dead layer finite


def dormancy(activation: Float[Array, "*batch neurons"]) -> Float[Array, " neurons"]:
    """Return each neuron's share of the layer's mean absolute activation, times H.

    Args:
        activation: Outputs of one layer over a minibatch (leading axes: batch, and
            space for convolutions), of any float dtype: after the nonlinearity for a
            hidden layer, raw for the last.

    Returns:
        ``[neurons]`` float32; the mean is 1 and a dead neuron has about 0.

    References:
        Sokar et al. 2023, "The Dormant Neuron Phenomenon"; Goldie et al. 2024,
        section 5.3.

    Example:
        >>> level = dormancy(jnp.array([[1.0, 3.0], [-1.0, -3.0]]))
        >>> [round(v, 3) for v in level.tolist()]
        [0.5, 1.5]
    """
    axes = tuple(range(activation.ndim - 1))
    level = jnp.mean(jnp.abs(activation.astype(jnp.float32)), axis=axes) + _FLOOR
    return level.size * level / jnp.sum(level)


def broadcast_dormancy(values: Any, parameters: Any) -> list[jax.Array]:
    """Spread dormancy per neuron over the parameter leaves, and check its widths.

    ``values`` are ``None`` (dormancy 1 everywhere) or a tree prefix of ``parameters``
    whose leaves are scalars, ``[last axis]`` arrays or arrays of a parameter's own
    shape. One value can serve a whole module, its kernel and its bias. A vector always
    belongs to the last axis. An ensemble, whose members are the parameters' first axis,
    takes ``[members, last axis]``. Equinox stores kernels as ``[out, in]``: broadcast
    their vectors to the kernel's shape yourself.

    Returns:
        One float32 array per parameter leaf, in leaf order, of such a shape.

    Raises:
        ValueError: ``values`` is not a tree prefix of ``parameters``, or a width
            differs from the last axis of its parameter.

    Example:
        >>> p = {"head": {"kernel": jnp.ones((3, 2)), "bias": jnp.ones(2)}}
        >>> [d.shape for d in broadcast_dormancy({"head": jnp.ones(2)}, p)]
        [(2,), (2,)]
    """
    leaves = named_leaves(parameters)
    if values is None:
        return [jnp.ones((), jnp.float32) for _ in leaves]
    try:
        spread = jax.tree.broadcast(values, parameters)
    except ValueError as error:
        raise ValueError(
            "dormancy= does not fit the parameters: it must be a tree prefix of "
            "them, with one scalar or [neurons] array per module or leaf "
            "(leave it out for dormancy 1). Inside optax.masked or multi_transform, "
            f"give those mask_compatible_extra_args=True. {error}"
        ) from error
    flat = jax.tree.leaves(spread)
    return [
        _checked(path, jnp.asarray(value, jnp.float32), jnp.shape(leaf))
        for (path, leaf), value in zip(leaves, flat, strict=True)
    ]


def _checked(path: str, value: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    if value.ndim == 0 or value.shape in (shape[-1:], shape):
        return value
    members = shape[: value.ndim - 1]
    if value.ndim > 1 and value.shape == (*members, *shape[-1:]):
        inner = (1,) * (len(shape) - value.ndim)
        return jnp.broadcast_to(value.reshape(*members, *inner, shape[-1]), shape)
    raise ValueError(
        f"dormancy of parameter '{path}' has shape {value.shape}, but the parameter "
        f"has shape {shape}: give a scalar, one value per output neuron of shape "
        f"{shape[-1:]}, or an array of the parameter's own shape (for Equinox's "
        "[out, in] kernels: jnp.broadcast_to(d[:, None], kernel.shape))"
    )
