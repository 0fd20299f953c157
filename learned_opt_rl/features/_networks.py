"""The network of a parameter, its layer position, and whether it explores.

OPEN's features need these three facts, which optax does not pass. They are read from
the parameter paths and can be overridden by name pattern, mask or callable.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import jax
import numpy as np

from learned_opt_rl.errors import RolesWarning
from learned_opt_rl.features._layers import Node, Reader, tree_of
from learned_opt_rl.features._paths import NamedLeaf, named_leaves
from learned_opt_rl.features._words import has, names_network
from learned_opt_rl.warn import warn_user

Networks = Mapping[str, str | Sequence[str] | Callable[[Any], Any] | Any]
"""Network name -> regular expression over paths, one expression per layer in
order, a mask pytree of bools, or a callable from parameters to such a mask."""

Layers = Sequence[str] | Mapping[str, Sequence[str]]
"""Regular expressions over paths, one per layer in order: for every network, or network
name -> expressions."""

# A leaf's network, and its layer's index where the caller listed the layers.
_Assignment = tuple[str, int | None]


class LeafRole(NamedTuple):
    """The network, layer and exploration of one parameter leaf.

    Attributes:
        path: Slash-separated path, e.g. ``"actor/Dense_0/kernel"``.
        network: Name of the network it belongs to.
        position: Layer proportion ``l_p`` in [0, 1]; 0 for the first layer.
        explored: Whether the leaf receives learned noise (never for a critic).
    """

    path: str
    network: str
    position: float
    explored: bool


def leaf_roles(
    parameters: Any, networks: Networks | None = None, layers: Layers | None = None
) -> list[LeafRole]:
    """Return network, layer position and exploration flag of every parameter leaf.

    Without ``networks`` the outermost path component that names one kind decides.
    The words critic, value, vf, v, qf, q and baseline (``"QNetwork"``, ``"q1"``) name a
    critic; actor, policy and pi name an actor. A component that names both, such as
    ``"ActorCritic_0"``, is skipped. The query, key and value of attention do not name
    a network. Leaves without either word form a third network.

    Without ``layers`` the modules that hold the leaves are the layers, in the order of
    their definition where the tree keeps it, else by numbers (``Dense_2`` before
    ``Dense_10``), by words (an encoder first, a head or logits last) and by widths. A
    norm has the position of the layer that it follows, a recurrent cell is one layer,
    and so are query, key and value. Twins (``q1`` and ``q2``) count side by side. A
    leaf beside the layers, such as ``log_std``, is one more layer, the last.

    ``explain`` prints the result. With ``networks``, e.g. ``{"actor":
    "Dense_[0-2]/|log_std", "critic": "Dense_[3-5]/"}``, each value is a regular
    expression searched in the path (end a name with ``/``: ``Dense_1`` also matches
    ``Dense_10``), a sequence of expressions (one per layer, in order), a mask pytree of
    bools or a callable that returns one. A network with a critic's name does not
    explore. ``layers``, e.g. ``["Dense_0/", "GRUCell_0/", "Dense_1/"]``, lists
    expressions in order for all networks, or for each network by its name. The first
    expression that matches a leaf counts.

    Returns:
        One ``LeafRole`` per leaf, in leaf order.

    Raises:
        ValueError: A leaf matches no network or no layer, or more than one network; an
            expression or a mask is malformed; ``layers`` has an unknown network.
        TypeError: ``networks`` is not a mapping, or ``layers`` has no lists of strings.

    References:
        Goldie et al. 2024, section 5.3 (layer proportion, exploration).

    Example:
        >>> import jax.numpy as jnp
        >>> tree = {"actor": {"Dense_0": {"bias": jnp.ones(2)}, "log_std": jnp.ones(2)}}
        >>> [(r.position, r.explored) for r in leaf_roles(tree)]
        [(0.0, True), (1.0, True)]
    """
    return _read(parameters, networks, layers).roles


def roles_or_warning(
    parameters: Any, networks: Networks | None, layers: Layers | None
) -> list[LeafRole]:
    """Return ``leaf_roles``, and warn once if the roles are a guess.

    Warns:
        RolesWarning: The tree seems to hold several networks or a critic's value, and
            no name marks the critic. Or layers that do not fit together are in
            alphabetical order.
    """
    reading = _read(parameters, networks, layers)
    paths = tuple(role.path for role in reading.roles)
    if reading.guess and paths not in _WARNED:
        _WARNED.add(paths)
        warn_user(
            f"{reading.guess}. features.explain(params) prints what was read; pass "
            'networks={"actor": ..., "critic": ...} or layers=[...] to the optimizer, '
            "or silence errors.RolesWarning",
            RolesWarning,
        )
    return reading.roles


_WARNED: set[tuple[str, ...]] = set()  # paths of the trees that had their warning


def explain(
    parameters: Any, networks: Networks | None = None, layers: Layers | None = None
) -> str:
    """Print what ``leaf_roles`` reads in a parameter tree, and return the table.

    The columns are the leaf's path, its shape, its network, its layer (leaves with one
    number share a position), the layer's position and whether it explores. A last line
    names what was guessed. The arguments are those of ``leaf_roles``.

    Example:
        >>> import jax.numpy as jnp
        >>> tree = {"actor": {"Dense_0": jnp.ones((2, 4)), "Dense_1": jnp.ones((4, 1))}}
        >>> table = explain(tree)
        leaf           shape   network  layer  position  explored
        actor/Dense_0  (2, 4)  actor    0      0.00      yes
        actor/Dense_1  (4, 1)  actor    1      1.00      yes
    """
    reading = _read(parameters, networks, layers)
    leaves = named_leaves(parameters)
    rows = [("leaf", "shape", "network", "layer", "position", "explored")]
    for leaf, role, layer in zip(leaves, reading.roles, reading.ranks, strict=True):
        explored = "yes" if role.explored else "no"
        position = f"{role.position:.2f}"
        rows.append(
            (role.path, str(leaf.shape), role.network, str(layer), position, explored)
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(str.ljust, row, widths)).rstrip() for row in rows]
    if reading.guess:
        lines.append(f"A guess: {reading.guess}")
    table = "\n".join(lines)
    print(table)
    return table


class _Reading(NamedTuple):
    roles: list[LeafRole]
    ranks: list[int]  # layer of each leaf, from 0
    guess: str = ""


def _read(
    parameters: Any, networks: Networks | None, layers: Layers | None
) -> _Reading:
    leaves = named_leaves(parameters)
    paths = [leaf.path for leaf in leaves]
    if networks is None:
        root = tree_of(enumerate(leaves))
        named: list[_Assignment] = [
            (_network(leaf.parts, root), None) for leaf in leaves
        ]
    else:
        named = _networks_by_override(paths, parameters, networks)
    if layers is not None:
        named = _layers_by_override(paths, named, layers)
    members: dict[str, list[int]] = {}
    for i, (network, _) in enumerate(named):
        members.setdefault(network, []).append(i)
    ranks, positions = [0] * len(paths), [0.0] * len(paths)
    reader = Reader(leaves)
    for indices in members.values():
        listed = {i: named[i][1] for i in indices}
        steps = _listed_steps(listed) or [
            step.leaves
            for step in reader.steps(tree_of((i, leaves[i]) for i in indices))
        ]
        for rank, i in ((rank, i) for rank, step in enumerate(steps) for i in step):
            ranks[i], positions[i] = rank, rank / max(len(steps) - 1, 1)
    roles = [
        LeafRole(path, network, position, not has(network, "critic"))
        for path, (network, _), position in zip(paths, named, positions, strict=True)
    ]
    return _Reading(roles, ranks, _guess(reader, networks, members))


def _guess(reader: Reader, networks: Any, members: Mapping[str, Sequence[int]]) -> str:
    """Return what a reading guessed, or nothing."""
    if networks is not None:
        return ""
    # Which leaves explore is certain if a network has a name or is alone.
    if reader.beside and set(members) == {"network"}:
        return (
            f"the parameters {_listing(reader.beside)} look like networks side by "
            "side, and their names do not mark the critic, so all of them explore"
        )
    value, *others = _heads(reader.all[i] for i in members.get("network", ())) or [""]
    if value and (others or "actor" in members) and "critic" not in members:
        return (
            f"the layer {value!r} has one output, like the value of a critic, but no "
            "name marks a critic, so it explores and may have a wrong position"
        )
    if reader.alphabetical:
        return (
            f"the layers {_listing(reader.alphabetical)} are in alphabetical order, "
            "because neither numbers nor widths give another one"
        )
    return ""


def _heads(leaves: Iterable[NamedLeaf]) -> list[str]:
    """Return the modules whose outputs no other module reads, a value's first.

    Empty if none of them has a single output. Standard deviations and the like do not
    count.
    """
    kernels: dict[str, tuple[int, ...]] = {}
    biases: dict[str, int] = {}
    for leaf in leaves:
        module = leaf.path.rpartition("/")[0]
        if len(leaf.shape) > 1:
            kernels.setdefault(module, leaf.shape)
        elif leaf.shape:
            biases[module] = leaf.shape[0]
    widths = {}
    for module, (*_, before, after) in kernels.items():
        # Equinox's kernels are [out, in]; the bias has the outputs in either case.
        flipped = biases.get(module) == before != after
        widths[module] = (after, before) if flipped else (before, after)
    inputs = {before for before, _ in widths.values()}
    found = [
        (after != 1, module)
        for module, (_, after) in widths.items()
        if after not in inputs and not has(module.rpartition("/")[2], "spread")
    ]
    return [m for _, m in sorted(found)] if (False in dict(found)) else []


def _listing(names: Iterable[str]) -> str:
    return " and ".join(map(repr, dict.fromkeys(names)))


def _listed_steps(listed: Mapping[int, int | None]) -> list[list[int]]:
    """Return the leaves of each listed layer in order, or nothing without a list."""
    steps: dict[int, list[int]] = {}
    for i, layer in listed.items():
        if layer is not None:
            steps.setdefault(layer, []).append(i)
    return [steps[layer] for layer in sorted(steps)]


def _network(parts: Sequence[str], node: Node) -> str:
    """Return the network of a leaf at a path below a node, by the names alone."""
    within_attention = False
    for part in parts:
        within_attention |= has(node.name, "attention")
        named = names_network(part, node.names() - {part}, within_attention)
        if named:
            return "network" if named == "layer" else named
        node = node.children.get(part, node)
    return "network"


def _layers_by_override(
    paths: list[str], named: list[_Assignment], layers: Layers
) -> list[_Assignment]:
    names = {network for network, _ in named}
    by_network = layers if isinstance(layers, Mapping) else dict.fromkeys(names, layers)
    for network, patterns in by_network.items():
        listed = isinstance(patterns, list | tuple)
        if not listed or not all(isinstance(pattern, str) for pattern in patterns):
            raise TypeError(
                f"layers={layers!r} must list regular expressions, one per layer from "
                'the first to the last, e.g. ["Dense_0/", "Dense_1/"], or map network '
                "names to such lists"
            )
        if network not in names:
            raise ValueError(
                f"layers= names the network {network!r}, but the parameters belong to "
                f"{sorted(names)}; features.explain(params) prints them"
            )
    return [
        (network, _layer(path, by_network[network]) if network in by_network else layer)
        for path, (network, layer) in zip(paths, named, strict=True)
    ]


def _layer(path: str, patterns: Sequence[str]) -> int:
    for layer, pattern in enumerate(patterns):
        try:
            if re.search(pattern, path):
                return layer
        except re.error as error:
            raise ValueError(
                f"layers= has {pattern!r}, which is not a regular expression: {error}"
            ) from error
    raise ValueError(
        f"layers= must place every parameter in a layer; '{path}' matches none of "
        f"{list(patterns)}. Add a pattern for it"
    )


def _networks_by_override(
    paths: list[str], parameters: Any, networks: Networks
) -> list[_Assignment]:
    if not isinstance(networks, Mapping):
        raise TypeError(
            f"networks={networks!r} must map network names to patterns, masks or "
            'callables, e.g. {"actor": "Dense_[0-2]/", "critic": "Dense_[3-5]/"}'
        )
    found: list[list[_Assignment]] = [[] for _ in paths]
    for network, selector in networks.items():
        try:
            selected = _selected(paths, parameters, selector)
        except (re.error, ValueError) as error:
            raise ValueError(
                f"networks[{network!r}]={selector!r} must be a regular expression, a "
                "sequence of them, or a tree prefix of the parameters with a bool for "
                f"each leaf (or a callable giving one): {error}"
            ) from error
        for i, layer in selected.items():
            found[i].append((network, layer))
    for path, matches in zip(paths, found, strict=True):
        names = [network for network, _ in matches]
        if len(names) != 1:
            problem = f"several: {names}" if names else f"none of {list(networks)}"
            raise ValueError(
                f"networks= must place every parameter in exactly one network; "
                f"'{path}' matches {problem}. Adjust the patterns so that each path "
                "matches once"
            )
    return [matches[0] for matches in found]


def _selected(
    paths: list[str], parameters: Any, selector: Any
) -> dict[int, int | None]:
    if isinstance(selector, str):
        return {i: None for i, path in enumerate(paths) if re.search(selector, path)}
    if isinstance(selector, list | tuple) and all(isinstance(s, str) for s in selector):
        layers = {}
        for layer, pattern in enumerate(selector):
            for i in _selected(paths, parameters, pattern):
                layers.setdefault(i, layer)
        return layers
    mask = selector(parameters) if _is_function(selector) else selector
    flags = jax.tree.leaves(jax.tree.broadcast(mask, parameters))
    if not all(isinstance(flag, bool | np.bool_) for flag in flags):
        raise ValueError(f"the mask's leaves are {flags}")
    return {i: None for i, flag in enumerate(flags) if flag}


def _is_function(selector: Any) -> TypeGuard[Callable[[Any], Any]]:
    """Return whether a selector is a function. Masks of equinox are callable too."""
    leaves = jax.tree.leaves(selector)
    return bool(leaves) and all(callable(leaf) for leaf in leaves)
