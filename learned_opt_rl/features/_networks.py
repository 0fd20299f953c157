"""The network of a parameter, its layer position, and whether it explores.

OPEN's features need these three facts, which optax does not pass. They are read from
the parameter paths and can be overridden by name pattern, mask or callable.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeGuard

import jax
import numpy as np

Networks = Mapping[str, str | Sequence[str] | Callable[[Any], Any] | Any]
"""Network name -> regular expression over paths, one expression per layer in
order, a mask pytree of bools, or a callable from parameters to such a mask."""

_CRITIC_WORDS = frozenset(
    {"critic", "critics", "value", "values", "vf", "v", "qf", "q", "baseline"}
)
_ACTOR_WORDS = frozenset({"actor", "policy", "pi"})
_HEAD_WORDS = frozenset({"head", "heads", "logits", "output", "out", "final"})
_BOXES = frozenset({"value", "raw_value"})  # attributes of flax's variables

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


def leaf_roles(parameters: Any, networks: Networks | None = None) -> list[LeafRole]:
    """Return network, layer position and exploration flag of every parameter leaf.

    Without ``networks`` the outermost path component that names one kind decides.
    The words critic, value, vf, v, qf, q and baseline (``"QNetwork"``, ``"q1"``) name a
    critic; actor, policy and pi name an actor. A component that names both, such as
    ``"ActorCritic_0"``, is skipped. Leaves without either form a third network. Layers
    are the leaves' parent modules in natural order of their names (``Dense_2`` before
    ``Dense_10``); a head, logits or output layer comes after the others. A leaf beside
    the layers, such as ``log_std``, counts as one more layer, the last.

    With ``networks``, e.g. ``{"actor": "Dense_[0-2]/|log_std", "critic":
    "Dense_[3-5]/"}``, each value is a regular expression searched in the path (end a
    name with ``/``: ``Dense_1`` also matches ``Dense_10``), a sequence of expressions
    (one per layer, in order), a mask pytree of bools or a callable that returns one. A
    network with a critic's name does not explore.

    Returns:
        One ``LeafRole`` per leaf, in leaf order.

    Raises:
        ValueError: A leaf matches no network, or more than one; an expression or
            a mask is malformed.
        TypeError: ``networks`` is not a mapping.

    References:
        Goldie et al. 2024, section 5.3 (layer proportion, exploration).

    Example:
        >>> import jax.numpy as jnp
        >>> tree = {"actor": {"Dense_0": {"bias": jnp.ones(2)}, "log_std": jnp.ones(2)}}
        >>> [(r.position, r.explored) for r in leaf_roles(tree)]
        [(0.0, True), (1.0, True)]
    """
    paths = [path_name(p) for p, _ in jax.tree_util.tree_leaves_with_path(parameters)]
    named: list[_Assignment] = [(_network_by_name(path), None) for path in paths]
    if networks is not None:
        named = _network_by_override(paths, parameters, networks)
    positions = _positions(paths, named)
    return [
        LeafRole(path, network, position, not _words(network) & _CRITIC_WORDS)
        for path, (network, _), position in zip(paths, named, positions, strict=True)
    ]


def path_name(path: tuple[Any, ...]) -> str:
    """Return the slash-separated name of a pytree path; ``""`` for a bare leaf."""
    # flax variables are pytree nodes around the array: their last key is no name.
    # It is an attribute, unlike the key "value" of a dict, which names a critic.
    last = path[-1:] if len(path) > 1 else ()
    if any(isinstance(k, jax.tree_util.GetAttrKey) and k.name in _BOXES for k in last):
        path = path[:-1]
    return jax.tree_util.keystr(path, simple=True, separator="/")


def _words(name: str) -> set[str]:
    # "valueHead" and "QNetwork" are two words each.
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", name)
    return set(re.findall(r"[a-z]+", spaced.lower()))


def _network_by_name(path: str) -> str:
    for component in path.split("/"):
        words = _words(component)
        critic, actor = words & _CRITIC_WORDS, words & _ACTOR_WORDS
        # "ActorCritic_0" names both: the components inside decide.
        if bool(critic) != bool(actor):
            return "critic" if critic else "actor"
    return "network"


def _network_by_override(
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
    """Return whether to call it: masks of equinox modules are callable as well."""
    leaves = jax.tree.leaves(selector)
    return bool(leaves) and all(callable(leaf) for leaf in leaves)


def _positions(paths: list[str], named: list[_Assignment]) -> list[float]:
    modules = [path.rpartition("/")[0] for path in paths]
    containers = {parent for module in modules for parent in _ancestors(module)}
    keys = []
    for path, module, (_, layer) in zip(paths, modules, named, strict=True):
        if layer is not None:
            keys.append((layer,))
        elif module in containers:  # beside the layers, as log_std is: comes last
            keys.append((1, _natural(path)))
        else:  # heads, such as "action_logits" and "Dense_out", after the others
            head = _words(module.rpartition("/")[2]) & _HEAD_WORDS
            keys.append((0, bool(head), _natural(module)))
    owners = [network for network, _ in named]
    ranks = {network: {} for network in owners}
    for network, key in sorted(set(zip(owners, keys, strict=True))):
        ranks[network][key] = len(ranks[network])
    return [
        ranks[network][key] / max(len(ranks[network]) - 1, 1)
        for network, key in zip(owners, keys, strict=True)
    ]


def _ancestors(module: str) -> set[str]:
    """Return the proper prefixes of a module path, with the root ``""``."""
    parts = module.split("/") if module else []
    return {"/".join(parts[:i]) for i in range(len(parts))}


def _natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that puts ``Dense_2`` before ``Dense_10``."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((1, int(p), "") if p.isdigit() else (0, 0, p) for p in parts)
