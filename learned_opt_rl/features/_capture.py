"""Dormancy captured during a forward pass of a flax module.

Layers count in the order in which they run, whatever their names. The layer that runs
last in a network is its output, to which no activation is applied.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp

from learned_opt_rl.features._dormancy import dormancy
from learned_opt_rl.features._networks import LeafRole, Networks, leaf_roles
from learned_opt_rl.features._paths import named_leaves
from learned_opt_rl.features._words import HEAD, has, rank

if TYPE_CHECKING:
    from flax import linen, nnx

Activation = Callable[[jax.Array], jax.Array]

# These networks have no output layer if the module has other networks as well.
_TORSOS = frozenset({"network", "torso"})


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
        module: Module made of ``nn.Dense``, ``nn.DenseGeneral``, ``nn.Conv`` and
            recurrent cells.
        variables: As for ``module.apply``; the result has the same structure.
        *args: Inputs; the leading axes are the minibatch.
        activation: The nonlinearity after the hidden layers. It is not applied to
            recurrent cells, to the query, key and value of attention, or to the layer
            of a network that runs last. In a shared torso (the unnamed network beside
            an actor or critic, or one called "torso") the last layer is hidden as well.
        networks: As in ``leaf_roles``, for modules whose names do not distinguish the
            actor's layers from the critic's.
        **kwargs: Passed on to ``module.apply``.

    Returns:
        ``(output, dormancy)``. ``dormancy`` has the structure of ``variables``,
        each leaf float32: ``[neurons]`` for the kernel and bias of a captured
        layer, ``[members, neurons]`` for an ensemble's (``linen.vmap``), scalar 1
        elsewhere (and for layers inside ``linen.scan``). Pass ``dormancy`` (or
        ``dormancy["params"]``, whichever matches the optimizer's parameters) to
        ``tx.update``.

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

    layers = (linen.Dense, linen.DenseGeneral, linen.Conv, linen.ConvTranspose)
    kinds = (*layers, linen.RNNCellBase)
    calls = _Calls()

    def record(run: Any, inputs: Any, options: Any, context: Any) -> Any:
        output, layer = run(*inputs, **options), context.module
        if isinstance(layer, kinds) and context.method_name == "__call__":
            scope: Any = layer.scope
            path = "/".join(scope.path)
            calls.ran(path, layer.variables.get("params", {}), output)
            if not scope.is_mutable_collection("intermediates"):
                calls.watch(path, output)
        return output

    mutable = kwargs.pop("mutable", False)
    # Flax's own capture, not a closure: no value escapes from linen.remat or scan.
    with linen.intercept_methods(record):
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
    for path in [path for path in captured if path[-1] == "__call__"]:
        values = captured.pop(path)
        # linen.jit runs modules that are alike once, so only one of them was recorded.
        unseen = _Layer({}, isinstance(values[0], tuple))
        layer = calls.layers.setdefault("/".join(path[:-1]), unseen)
        layer.outputs = [_activity(value) for value in values]
    if captured and core.scope.in_filter(mutable, "intermediates"):
        state["intermediates"] = traverse_util.unflatten_dict(captured)
    output = output if mutable is False else (output, state)
    return output, _tree(variables, calls.layers, activation, networks)


def nnx_dormancy(
    model: nnx.Module,
    *args: Any,
    activation: Activation = jax.nn.relu,
    networks: Networks | None = None,
    **kwargs: Any,
) -> tuple[Any, Any]:
    """Call a flax nnx model; return its output and the dormancy of its layers.

    The model is made of ``nnx.Linear``, ``nnx.LinearGeneral``, ``nnx.Conv`` and
    recurrent cells. The arguments are as for ``linen_dormancy``.

    Returns:
        ``(output, dormancy)``, the latter with the structure of
        ``nnx.state(model, nnx.Param)``; leaves as in ``linen_dormancy``, scalar 1 for
        layers inside ``nnx.RNN``, ``scan``, ``remat`` and ``jit``.

    Raises:
        ValueError: The model ran no layer of a kind that can be captured.

    Example:
        >>> from flax import nnx
        >>> model = nnx.Linear(3, 2, rngs=nnx.Rngs(0))
        >>> output, dormant = nnx_dormancy(model, jnp.ones((8, 3)))
        >>> dormant["kernel"].shape
        (2,)
    """
    from flax import nnx

    kinds = (nnx.Linear, nnx.LinearGeneral, nnx.Conv, nnx.ConvTranspose)
    kinds = (*kinds, nnx.RNNCellBase)
    calls = _Calls()
    layers = {
        "/".join(map(str, path)): layer
        for path, layer in nnx.iter_modules(model)
        if isinstance(layer, kinds)
    }

    def record(layer: Any, output: Any) -> None:
        path = getattr(layer, _PATH, None)  # another model may run as well
        if path is not None:
            calls.ran(path, nnx.state(layer, nnx.Param), output)
            calls.watch(path, output)

    with _labelled(layers), _recorded({type(m) for m in layers.values()}, record):
        output = model(*args, **kwargs)
    state = nnx.state(model, nnx.Param)
    return output, _tree(state, calls.layers, activation, networks)


_PATH = "learned_opt_rl_path"  # nnx copies static attributes with the modules


@contextlib.contextmanager
def _labelled(layers: Mapping[str, Any]) -> Iterator[None]:
    """Store its path on each nnx module while the context is open."""
    try:
        for path, layer in layers.items():
            setattr(layer, _PATH, path)
        yield
    finally:
        for layer in layers.values():
            delattr(layer, _PATH)


@contextlib.contextmanager
def _recorded(classes: set[type], record: Callable[[Any, Any], None]) -> Iterator[None]:
    """Pass each instance that is called, and its output, to ``record``."""

    def recording(run: Callable[..., Any]) -> Callable[..., Any]:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            output = run(self, *args, **kwargs)
            record(self, output)
            return output

        return call

    owners = {next(c for c in cls.__mro__ if "__call__" in vars(c)) for cls in classes}
    originals = {owner: vars(owner)["__call__"] for owner in owners}
    try:
        for owner, run in originals.items():
            setattr(owner, "__call__", recording(run))  # noqa: B010
        yield
    finally:
        for owner, run in originals.items():
            setattr(owner, "__call__", run)  # noqa: B010


@dataclasses.dataclass
class _Layer:
    """A layer that ran: the axes of its parameters in the call, and its outputs."""

    axes: dict[str, int]
    is_cell: bool
    turn: int = -1  # how many layers ran first; -1 where this is unknown
    outputs: list[jax.Array] = dataclasses.field(default_factory=list)


class _Calls:
    """Layers by path, in the order of their first calls."""

    def __init__(self) -> None:
        """Remember the trace of the caller."""
        self.layers: dict[str, _Layer] = {}
        self._here = _trace()

    def ran(self, path: str, params: Any, output: Any) -> None:
        """Note that a layer ran with these parameters."""
        axes = {name: jnp.ndim(leaf) for name, leaf in named_leaves(params)}
        is_cell = isinstance(output, tuple)
        self.layers.setdefault(path, _Layer(axes, is_cell, len(self.layers)))

    def watch(self, path: str, output: Any) -> None:
        """Keep the output of a call, unless it belongs to a scan, remat or jit.

        Inside vmap, keep the outputs of all members. Their axis is the first.
        """
        layer, output = self.layers[path], jax.lax.stop_gradient(_activity(output))
        if _trace() == self._here:
            layer.outputs.append(output)
            return

        @jax.custom_batching.custom_vmap
        def watched(y: jax.Array) -> jax.Array:
            return y

        @watched.def_vmap
        def batched(size: int, is_batched: Any, y: jax.Array) -> tuple[jax.Array, bool]:
            del size, is_batched
            if _trace() == self._here:
                layer.outputs.append(y)
            return watched(y), True

        watched(output)


def _trace() -> Any:
    from flax.core import tracers

    return tracers.current_trace()


def _activity(output: Any) -> jax.Array:
    return output[-1] if isinstance(output, tuple) else output  # a cell's carry first


def _tree(
    variables: Any,
    layers: Mapping[str, _Layer],
    activation: Activation,
    networks: Networks | None,
) -> Any:
    """Return the dormancy of each leaf from the layers that ran, in order."""
    if not any(layer.outputs for layer in layers.values()):
        raise ValueError(
            "no layer was captured: the module ran no Dense, Linear or Conv layer of "
            "its own. Compute features.dormancy(activations) where the activations "
            "are, and pass that to tx.update(..., dormancy=...)"
        )
    roles = leaf_roles(variables, networks)
    paths = [role.path.removeprefix("params/") for role in roles]
    owners = [_owner(path, layers) for path in paths]
    raw = _raw_positions(roles, owners, layers)
    values = []
    for leaf, role, path, owner in zip(
        named_leaves(variables), roles, paths, owners, strict=True
    ):
        value = jnp.ones((), jnp.float32)
        if owner is not None and layers[owner].outputs:
            is_raw = (
                layers[owner].is_cell
                or (role.network, role.position) in raw
                or _is_projection(owner, layers)
            )
            name = path[len(owner) :].lstrip("/")
            value = _of_leaf(leaf.shape, name, layers[owner], is_raw, activation)
        values.append(jax.lax.stop_gradient(value))
    return jax.tree.unflatten(jax.tree.structure(variables), values)


def _owner(path: str, layers: Mapping[str, _Layer]) -> str | None:
    """Return the outermost layer that a leaf belongs to: a cell has layers inside."""
    parts = path.split("/")[:-1]
    prefixes = ("/".join(parts[:n]) for n in range(len(parts) + 1))
    return next((prefix for prefix in prefixes if prefix in layers), None)


def _raw_positions(
    roles: list[LeafRole], owners: list[str | None], layers: Mapping[str, _Layer]
) -> set[tuple[str, float]]:
    """Return network and position of the layers that no nonlinearity follows."""
    several = len({role.network for role in roles}) > 1
    found = set()
    for network in {role.network for role in roles}:
        ran = [
            (layers[owner].turn, role.position, owner)
            for role, owner in zip(roles, owners, strict=True)
            if owner is not None and role.network == network
        ]
        if not ran:
            continue
        end = max(position for _, position, _ in ran)
        if not (several and network in _TORSOS):
            found.add((network, max(ran)[1]))
        # Only a name such as "head" shows that a torso has an output layer.
        elif any(
            position == end and any(rank(part) == HEAD for part in owner.split("/"))
            for _, position, owner in ran
        ):
            found.add((network, end))
    return found


def _is_projection(layer: str, layers: Mapping[str, _Layer]) -> bool:
    """Return whether a layer is the query, key or value of attention."""
    parent, _, name = layer.rpartition("/")
    siblings = (other.rpartition("/") for other in layers)
    inside = any(at == parent and has(last, "key") for at, _, last in siblings)
    return inside and has(name, "query_key_value")


def _of_leaf(
    shape: tuple[int, ...],
    name: str,
    layer: _Layer,
    is_raw: bool,
    activation: Activation,
) -> jax.Array:
    """Return one leaf's dormancy, per member for an ensemble."""
    members = len(shape) - layer.axes.get(name, len(shape))
    fitting = [
        y
        for y in layer.outputs
        if y.shape[:members] == shape[:members] and y.shape[-1:] == shape[-1:]
    ]
    if not fitting:  # the gates of a cell may be stacked
        return jnp.ones((), jnp.float32)
    rows = [
        (y if is_raw else activation(y)).reshape(*shape[:members], -1, shape[-1])
        for y in fitting
    ]
    measure = dormancy
    for _ in range(members):
        measure = jax.vmap(measure)
    return measure(jnp.concatenate(rows, axis=members))
