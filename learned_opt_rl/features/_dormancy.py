"""Dormancy: the share of a layer's activity that each of its neurons carries.

`linen_dormancy` and `nnx_dormancy` capture it from the forward pass of a flax module
that the loss makes anyway.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.features._networks import Networks, leaf_roles
from learned_opt_rl.features._paths import named_leaves

if TYPE_CHECKING:
    from flax import linen, nnx
    from jaxtyping import Array, Float

Activation = Callable[[jax.Array], jax.Array]

_FLOOR = 1e-11  # as in the authors' code; keeps the share of a dead layer finite

# Networks that have no output layer where other networks stand beside them.
_TORSOS = frozenset({"network", "torso"})


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
    belongs to the last axis. Equinox stores kernels as ``[out, in]``: broadcast their
    vectors to the kernel's shape yourself.

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
    raise ValueError(
        f"dormancy of parameter '{path}' has shape {value.shape}, but the parameter "
        f"has shape {shape}: give a scalar, one value per output neuron of shape "
        f"{shape[-1:]}, or an array of the parameter's own shape (for Equinox's "
        "[out, in] kernels: jnp.broadcast_to(d[:, None], kernel.shape))"
    )


def linen_dormancy(
    module: linen.Module,
    variables: Mapping[str, Any],
    *args: Any,
    activation: Activation = jax.nn.relu,
    networks: Networks | None = None,
    **kwargs: Any,
) -> tuple[Any, Any]:
    """Apply a flax linen module; return its output and the dormancy of its layers.

    Args:
        module: Module made of ``nn.Dense``, ``nn.DenseGeneral`` and ``nn.Conv``.
        variables: As for ``module.apply``; the result has the same structure.
        *args: Inputs; the leading axes are the minibatch.
        activation: The nonlinearity after the hidden layers. It is not applied to the
            last layer of a network, except in a shared torso: the unnamed network
            beside an actor or critic, or one called "torso".
        networks: As in ``leaf_roles``, for modules whose names do not distinguish the
            actor's layers from the critic's.
        **kwargs: Passed on to ``module.apply``.

    Returns:
        ``(output, dormancy)``. ``dormancy`` has the structure of ``variables``,
        each leaf float32: ``[neurons]`` for the kernel and bias of a captured
        layer, scalar 1 elsewhere (and for layers inside ``linen.scan``). Pass
        ``dormancy`` (or ``dormancy["params"]``, whichever matches the optimizer's
        parameters) to ``tx.update``.

    Raises:
        ValueError: The module ran no layer of a kind that can be captured.

    References:
        Goldie et al. 2024, section 5.3.

    Example:
        >>> from flax import linen as nn
        >>> net = nn.Sequential([nn.Dense(4), nn.relu, nn.Dense(2)])
        >>> params = net.init(jax.random.key(0), jnp.ones((1, 3)))
        >>> output, dormant = linen_dormancy(net, params, jnp.ones((8, 3)))
        >>> dormant["params"]["layers_0"]["kernel"].shape
        (4,)
    """
    from flax import core, linen, traverse_util

    kinds = (linen.Dense, linen.DenseGeneral, linen.Conv, linen.ConvTranspose)
    mutable = kwargs.pop("mutable", False)
    # Flax's own capture, not a closure: no value escapes from linen.remat or scan.
    output, collections = module.apply(
        variables,
        *args,
        capture_intermediates=lambda layer, method: (
            isinstance(layer, kinds) and method == "__call__"
        ),
        mutable=core.scope.union_filters(mutable, "intermediates"),
        **kwargs,
    )
    state: dict[str, Any] = {**collections}
    captured: Any = traverse_util.flatten_dict(state.pop("intermediates", {}))
    outputs = {
        "/".join(path[:-1]): list(values)
        for path, values in captured.items()
        if path[-1] == "__call__"
    }
    output = output if mutable is False else (output, state)
    return output, _tree(variables, outputs, activation, networks)


def nnx_dormancy(
    model: nnx.Module,
    *args: Any,
    activation: Activation = jax.nn.relu,
    networks: Networks | None = None,
    **kwargs: Any,
) -> tuple[Any, Any]:
    """Call a flax nnx model; return its output and the dormancy of its layers.

    The model is made of ``nnx.Linear``, ``nnx.LinearGeneral`` and ``nnx.Conv``. The
    arguments are as for ``linen_dormancy``.

    Returns:
        ``(output, dormancy)``, the latter with the structure of
        ``nnx.state(model, nnx.Param)``; leaves as in ``linen_dormancy``.

    Raises:
        MissingExtraError: flax is older than 0.12.6, which has ``nnx.capture``.
        ValueError: The model ran no layer of a kind that can be captured.

    Example:
        >>> from flax import nnx
        >>> model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        >>> output, dormant = nnx_dormancy(model, jnp.ones((8, 3)))
        >>> dormant["kernel"].shape
        (2,)
    """
    from flax import nnx

    if not hasattr(nnx, "capture"):
        raise MissingExtraError(
            "nnx_dormancy needs flax>=0.12.6 for nnx.capture; upgrade flax, or compute "
            "features.dormancy(activations) in the model and pass it on"
        )
    kinds = (nnx.Linear, nnx.LinearGeneral, nnx.Conv, nnx.ConvTranspose)
    layers = {path for path, m in nnx.iter_modules(model) if isinstance(m, kinds)}
    run = nnx.capture(model, nnx.Intermediate, method_outputs=nnx.Intermediate)
    output, captured = run(*args, **kwargs)
    outputs = {
        "/".join(map(str, path[:-1])): list(variable.get_value())
        for path, variable in nnx.to_flat_state(captured)
        if path[-1] == "__call__" and path[:-1] in layers
    }
    state = nnx.state(model, nnx.Param)
    return output, _tree(state, outputs, activation, networks)


def _tree(
    variables: Any,
    outputs: Mapping[str, list[jax.Array]],
    activation: Activation,
    networks: Networks | None,
) -> Any:
    """Return the dormancy of each leaf from the raw outputs of the layers."""
    if not outputs:
        raise ValueError(
            "no layer was captured: the module ran no Dense, Linear or Conv layer of "
            "its own. Compute features.dormancy(activations) where the activations "
            "are, and pass that to tx.update(..., dormancy=...)"
        )
    roles = leaf_roles(variables, networks)
    layers = [role.path.removeprefix("params/").rpartition("/")[0] for role in roles]
    several = len({role.network for role in roles}) > 1
    last: dict[str, float] = {}
    for role, layer in zip(roles, layers, strict=True):
        if layer in outputs and not (several and role.network in _TORSOS):
            last[role.network] = max(last.get(role.network, 0.0), role.position)
    leaves = []
    for role, layer in zip(roles, layers, strict=True):
        if layer not in outputs:
            leaves.append(jnp.ones((), jnp.float32))
            continue
        raw = role.position == last.get(role.network)
        rows = [y.reshape(-1, y.shape[-1]) for y in outputs[layer]]
        level = jnp.concatenate([y if raw else activation(y) for y in rows])
        leaves.append(jax.lax.stop_gradient(dormancy(level)))
    return jax.tree.unflatten(jax.tree.structure(variables), leaves)
