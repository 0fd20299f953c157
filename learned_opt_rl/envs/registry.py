"""Every environment by its name, whichever package it comes from.

Another package adds its own with an entry point in its ``pyproject.toml``; the value is
a function without arguments that gives an `Environment` or what `adapt` accepts::

    [project.entry-points."learned_opt_rl.environments"]
    "mycompany/Warehouse" = "mycompany.envs:make_warehouse"
"""

import dataclasses
import difflib
import functools
import importlib
import importlib.metadata
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax

from learned_opt_rl.envs import _brax, _craftax, _gymnax
from learned_opt_rl.envs.adapter import Environment, adapt
from learned_opt_rl.families import entry_points

ENVIRONMENTS_GROUP = "learned_opt_rl.environments"


class _Source(NamedTuple):
    """Environments whose names are the same up to the first slash."""

    names: tuple[str, ...]
    make: Callable[[str], Environment]


@functools.cache
def make(name: str) -> Environment:
    """Builds an environment by name.

    The same name gives the same object, so that a jitted function which closes over
    it is not compiled again, and the object's ``name`` is the one asked for.

    Args:
        name: One of `names`. gymnax: its own, as ``"Breakout-MinAtar"``, and
            ``"DeepSea-bsuite/10"`` with a size of 4 to 50. brax: ``"ant"``, which is
            ``"ant/positional"``, or another backend. Craftax:
            ``"Craftax-Classic-Symbolic-v1"``. Ours: ``"gridworld/all_shortlife"``,
            ``"chain/short"``. Or what another package declares as an entry point of
            the group ``learned_opt_rl.environments``, or what you have registered with
            ``gymnax.register``.

    Returns:
        The environment with its default parameters.

    Raises:
        MissingExtraError: If the package it comes from is not installed.
        ValueError: If there is none of that name, size or backend, or another package
            fails to build its own.
        TypeError: If what another package builds is no environment `adapt` accepts.

    References:
        Lange, "gymnax: A JAX-based Reinforcement Learning Environment Library", 2022.
        Freeman et al., "Brax - A Differentiable Physics Engine for Large Scale Rigid
        Body Simulation", 2021.
        Matthews et al., "Craftax: A Lightning-Fast Benchmark for Open-Ended
        Reinforcement Learning", 2024.

    Example:
        >>> make("Breakout-MinAtar").observation_shape
        (10, 10, 4)
        >>> make("DeepSea-bsuite/10").optimal_return
        0.99
    """
    # It is kept: made inside of a jitted function, it must not hold that one's tracers.
    with jax.ensure_compile_time_eval():
        return _find(name)


def names() -> tuple[str, ...]:
    """Lists what `make` accepts, without importing what the environments need.

    Returns:
        Names, those of other packages last. Not all need be installed.

    Example:
        >>> [name for name in names() if name.startswith("ant")]
        ['ant', 'ant/generalized', 'ant/mjx', 'ant/spring']
    """
    ours = [name for source in _sources() for name in source.names]
    theirs = [entry.name for entry in entry_points(ENVIRONMENTS_GROUP)]
    return tuple(dict.fromkeys((*ours, *theirs)))


def episode_length(name: str) -> int | None:
    """Return the steps of every episode of an environment, or ``None`` if they vary.

    Only Deep Sea of a given size is known here; nothing is imported for it.

    Example:
        >>> episode_length("DeepSea-bsuite/10"), episode_length("Breakout-MinAtar")
        (10, None)
    """
    head, slash, size = name.partition("/")
    if head != _gymnax.DEEP_SEA or not slash:
        return None
    return _gymnax.deep_sea_size(name, size)  # The diver sinks one row each step.


def nearest(name: object, known: Iterable[str]) -> str:
    """Words for an error: the known names most like a wrong one.

    Args:
        name: The wrong one.
        known: The right ones.

    Returns:
        As ``"nearest: 'ant', 'chain/long'"``, or that there is none.

    Example:
        >>> nearest("breakout", ["Breakout-MinAtar", "ant"])
        "nearest: 'Breakout-MinAtar'"
    """
    folded = {candidate.casefold(): candidate for candidate in known}
    near = difflib.get_close_matches(str(name).casefold(), folded, 3, 0.4)
    if not near:
        return "no name is like it"
    return f"nearest: {', '.join(repr(folded[candidate]) for candidate in near)}"


def _find(name: str) -> Environment:
    """Asks the sources in turn: who lists the name, then whose family it is of."""
    sources = tuple(_sources())
    for source in sources:
        if name in source.names:
            return source.make(name)
    offers = [entry for entry in entry_points(ENVIRONMENTS_GROUP) if entry.name == name]
    if offers:
        return _from_packages(name, offers)
    head = str(name).partition("/")[0]
    for source in sources:
        # It may know more than it lists, and else says best what is wrong.
        if any(head == known.partition("/")[0] for known in source.names):
            return source.make(name)
    if _gymnax.is_registered(name):
        return _gymnax.make(name)
    raise _unknown(name)


def _sources() -> Iterable[_Source]:
    yield from (_Source(each.NAMES, each.make) for each in (_gymnax, _brax, _craftax))
    yield from (_our_own(family) for family in ("gridworld", "chain"))


def _our_own(family: str) -> _Source:
    """A module of ours, which knows its environments without their first part."""
    module = importlib.import_module(f"learned_opt_rl.envs.{family}")
    names = tuple(f"{family}/{short}" for short in module.NAMES)

    def make(name: str) -> Environment:
        if name not in names:
            raise _unknown(name)
        return module.make(name.partition("/")[2])

    return _Source(names, make)


def _unknown(name: object) -> ValueError:
    return ValueError(
        f"name={name!r} is no environment; {nearest(name, names())} "
        "(learned_opt_rl.envs.names() lists all)"
    )


def _from_packages(
    name: str, offers: list[importlib.metadata.EntryPoint]
) -> Environment:
    """Builds what another package offers under a name; only one may."""
    packages = [entry.dist.name if entry.dist else entry.value for entry in offers]
    if len(offers) > 1:
        raise ValueError(
            f"name={name!r} is an environment of several packages, "
            f"{', '.join(packages)}; uninstall all but one"
        )
    (entry,) = offers
    try:
        built = entry.load()()
    except Exception as error:  # another's code may raise anything
        raise ValueError(
            f"environment {name!r} of the package {packages[0]!r} ({entry.value}) "
            f"cannot be built, {type(error).__name__}: {error}; update or uninstall "
            "that package"
        ) from error
    env = built if isinstance(built, Environment) else adapt(built, name=name)
    version = ((entry.dist.name, entry.dist.version),) if entry.dist else ()
    return dataclasses.replace(env, name=name, details=(*env.details, *version))
