"""Environments by name, from any package, and the suites that are reported together.

Another package adds environments with entry points in its ``pyproject.toml``. The value
is a function without arguments that returns an `Environment` or an object for `adapt`::

    [project.entry-points."learned_opt_rl.environments"]
    "mycompany/Warehouse" = "mycompany.envs:make_warehouse"
"""

import dataclasses
import functools
import importlib.metadata
from collections.abc import Callable
from types import ModuleType
from typing import NamedTuple

import jax

from learned_opt_rl.checks import suggest
from learned_opt_rl.envs import _brax, _craftax, _gymnax, chain, gridworld
from learned_opt_rl.envs.adapter import Environment, adapt
from learned_opt_rl.families import entry_points

ENVIRONMENTS_GROUP = "learned_opt_rl.environments"

_MINATAR = tuple(
    f"{game}-MinAtar" for game in ("Asterix", "Breakout", "Freeway", "SpaceInvaders")
)
_GRIDWORLDS = (
    "all_shortlife",
    "dense",
    "sparse",
    "long",
    "longer",
    "long_dense",
    "rand_dense",
    "rand_long",
    "rand_small",
    "rand_sparse",
    "rand_very_dense",
    "mazes",
)
_MEMBERS: dict[str, tuple[str, ...]] = {
    "minatar": _MINATAR,
    "minatar5": (*_MINATAR, "Seaquest-MinAtar"),
    "brax": _brax.ENVIRONMENTS,
    "cartpole": ("CartPole-v1",),
    "craftax": ("Craftax-Classic-Symbolic-v1",),
    "deepsea": tuple(f"DeepSea-bsuite/{size}" for size in (4, 10, 20, 30, 40, 50)),
    "gridworld": tuple(f"gridworld/{mode}" for mode in _GRIDWORLDS),
    "lpg": (
        *(f"gridworld/{mode}" for mode in gridworld.NAMES if mode.startswith("paper_")),
        *(f"chain/{mode}" for mode in chain.NAMES),
    ),
}

SUITES = tuple(_MEMBERS)
"""The names of the suites.

``minatar`` has the four games of the published results; ``minatar5`` adds Seaquest,
which is slow. ``brax`` uses the positional backend. ``gridworld`` has GROOVE's training
distribution and the handmade levels that GROOVE is tested on. ``lpg`` has the fifteen
training environments of Oh et al. 2020, table 3: five tabular grid worlds, five with
random objects, five delayed chains; `agents.lpg_arms` has their learning rates.
"""


class _Source(NamedTuple):
    """The environments of one package, or of one of our families."""

    names: tuple[str, ...]
    make: Callable[[str], Environment]


@functools.cache
def make(name: str) -> Environment:
    """Build an environment by name, with its default parameters.

    The same name returns the same object, so that a jitted function which closes over
    it is not compiled again. The object's ``name`` is the requested one.

    Args:
        name: One of `names`: for example gymnax's ``"Breakout-MinAtar"``, or
            ``"DeepSea-bsuite/10"`` with a size of 4 to 50; brax's ``"ant"``, or with a
            backend ``"ant/spring"``; Craftax's ``"Craftax-Classic-Symbolic-v1"``; our
            ``"gridworld/all_shortlife"`` and ``"chain/short"``; entry points of other
            packages. Or a name that you registered with ``gymnax.register``.

    Raises:
        MissingExtraError: The environment's package is not installed.
        ValueError: The name, size or backend is unknown, or another package fails to
            build its environment.
        TypeError: Another package builds an object that `adapt` does not accept.

    References:
        Lange 2022 (gymnax), Freeman et al. 2021 (brax), Matthews et al. 2024 (Craftax).

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
    ours = [name for source in _SOURCES for name in source.names]
    theirs = [entry.name for entry in entry_points(ENVIRONMENTS_GROUP)]
    return tuple(dict.fromkeys((*ours, *theirs)))


def episode_length(name: str) -> int | None:
    """Return the steps of every episode of an environment, or ``None`` if they vary.

    Only Deep Sea of a given size and environments of gymnax that nothing but a time
    limit ends are known here; nothing is imported for them.

    Example:
        >>> episode_length("DeepSea-bsuite/10"), episode_length("Breakout-MinAtar")
        (10, None)
    """
    head, slash, size = name.partition("/")
    if head != _gymnax.DEEP_SEA or not slash:
        return _gymnax.EPISODE_LENGTHS.get(name)
    return _gymnax.deep_sea_size(name, size)  # The diver sinks one row each step.


def suite(name: str) -> tuple[str, ...]:
    """Return the names of the environments of a suite, one of `SUITES`, for `make`.

    Raises:
        ValueError: The suite is unknown.

    References:
        Goldie et al., "Can Learned Optimization Make RL Less Difficult?", 2024
        (minatar, brax, craftax, cartpole).
        Jackson et al., "Discovering General Reinforcement Learning Algorithms with
        Adversarial Environment Design", 2023 (gridworld).
        Oh et al., "Discovering Reinforcement Learning Algorithms", 2020 (lpg).

    Example:
        >>> suite("brax")
        ('ant', 'humanoid', 'hopper', 'walker2d')
    """
    if name not in SUITES:
        hint = suggest(name, SUITES)
        if name in names():
            hint = f"it is an environment. Suites: {', '.join(SUITES)}"
        raise ValueError(f"suite={name!r} is not a suite; {hint}")
    return _MEMBERS[name]


def _find(name: str) -> Environment:
    """Look for the exact name in each source, then for its family."""
    for source in _SOURCES:
        if name in source.names:
            return source.make(name)
    offers = [entry for entry in entry_points(ENVIRONMENTS_GROUP) if entry.name == name]
    if offers:
        return _from_packages(name, offers)
    head = str(name).partition("/")[0]
    for source in _SOURCES:
        # The source may accept more than it lists, and has the best error message.
        if any(head == known.partition("/")[0] for known in source.names):
            return source.make(name)
    if _gymnax.is_registered(name):
        return _gymnax.make(name)
    raise _unknown(name)


def _our_own(family: str, module: ModuleType) -> _Source:
    """Return the environments of one of our modules, which leaves the family out."""
    names = tuple(f"{family}/{mode}" for mode in module.NAMES)

    def make(name: str) -> Environment:
        if name not in names:
            raise _unknown(name)
        return module.environment(name.partition("/")[2])

    return _Source(names, make)


_SOURCES = (
    *(_Source(package.NAMES, package.make) for package in (_gymnax, _brax, _craftax)),
    _our_own("gridworld", gridworld),
    _our_own("chain", chain),
)


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
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # Code of third parties may even exit.
        raise ValueError(
            f"environment {name!r} of the package {packages[0]!r} ({entry.value}) "
            f"cannot be built, {type(error).__name__}: {error}; update or uninstall "
            "that package"
        ) from error
    env = built if isinstance(built, Environment) else adapt(built, name=name)
    version = ((entry.dist.name, entry.dist.version),) if entry.dist else ()
    return dataclasses.replace(env, name=name, details=(*env.details, *version))
