"""Environments by name, from any package.

Another package adds environments with entry points in its ``pyproject.toml``. The value
is a function without arguments that returns an `Environment` or an object for `adapt`::

    [project.entry-points."learned_opt_rl.environments"]
    "mycompany/Warehouse" = "mycompany.envs:make_warehouse"
"""

import dataclasses
import functools
import importlib
import importlib.metadata
from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax

from learned_opt_rl.checks import suggest
from learned_opt_rl.envs import _brax, _craftax, _gymnax
from learned_opt_rl.envs.adapter import Environment, adapt
from learned_opt_rl.families import entry_points

ENVIRONMENTS_GROUP = "learned_opt_rl.environments"


class _Source(NamedTuple):
    """Environments of one package or of one family of ours."""

    names: tuple[str, ...]
    make: Callable[[str], Environment]


@functools.cache
def make(name: str) -> Environment:
    """Build an environment by name, with its default parameters.

    The same name returns the same object, so that a jitted function which closes over
    it is not compiled again. The object's ``name`` is the requested one.

    Args:
        name: One of `names`: gymnax's names such as ``"Breakout-MinAtar"``, and
            ``"DeepSea-bsuite/10"`` with a size of 4 to 50; brax's ``"ant"``, which is
            ``"ant/positional"``, or another backend; Craftax's
            ``"Craftax-Classic-Symbolic-v1"``; our ``"gridworld/all_shortlife"`` and
            ``"chain/short"``; entry points of other packages in the group
            ``learned_opt_rl.environments``. Or a name that you registered with
            ``gymnax.register``.

    Raises:
        MissingExtraError: The environment's package is not installed.
        ValueError: The name, size or backend is unknown, or another package fails to
            build its environment.
        TypeError: Another package builds an object that `adapt` does not accept.

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
    # The result is cached, so it must not hold tracers of a function being jitted.
    with jax.ensure_compile_time_eval():
        return _find(name)


def names() -> tuple[str, ...]:
    """List the names that `make` accepts, without importing the packages behind them.

    Names of other packages come last. Some packages may not be installed.

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


def _find(name: str) -> Environment:
    """Ask each source: first for the exact name, then for its family."""
    sources = tuple(_sources())
    for source in sources:
        if name in source.names:
            return source.make(name)
    offers = [entry for entry in entry_points(ENVIRONMENTS_GROUP) if entry.name == name]
    if offers:
        return _from_packages(name, offers)
    head = str(name).partition("/")[0]
    for source in sources:
        # The source may accept more than it lists, and has the best error message.
        if any(head == known.partition("/")[0] for known in source.names):
            return source.make(name)
    if _gymnax.is_registered(name):
        return _gymnax.make(name)
    raise _unknown(name)


def _sources() -> Iterable[_Source]:
    yield from (_Source(each.NAMES, each.make) for each in (_gymnax, _brax, _craftax))
    yield from (_our_own(family) for family in ("gridworld", "chain"))


def _our_own(family: str) -> _Source:
    """The environments of one of our modules, which omits the family in names."""
    module = importlib.import_module(f"learned_opt_rl.envs.{family}")
    names = tuple(f"{family}/{short}" for short in module.NAMES)

    def make(name: str) -> Environment:
        if name not in names:
            raise _unknown(name)
        return module.environment(name.partition("/")[2])

    return _Source(names, make)


def _unknown(name: object) -> ValueError:
    return ValueError(
        f"name={name!r} is not an environment; {suggest(name, names())} "
        "(learned_opt_rl.envs.names() lists all)"
    )


def _from_packages(
    name: str, offers: list[importlib.metadata.EntryPoint]
) -> Environment:
    """Build an environment of another package; only one package may offer a name."""
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
