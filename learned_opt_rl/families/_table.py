"""The table of families: built in, registered, or offered by a plugin."""

import importlib.metadata
from types import ModuleType

from learned_opt_rl import checks
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.families import expression, lpg, lpo, open_network, optim4rl
from learned_opt_rl.families.family import Family
from learned_opt_rl.warn import warn_user

_FAMILIES = {
    family.algorithm: family
    for family in (
        open_network.OPEN,
        open_network.OPEN_SEPARATED,
        open_network.NO_FEATURES,
        optim4rl.FAMILY,
        lpo.FAMILY,
        lpg.FAMILY,
        expression.FAMILY,
    )
}


def names() -> tuple[str, ...]:
    """Return the algorithms of all built-in and registered families."""
    return tuple(_FAMILIES)


def known(algorithm: str) -> Family | None:
    """Return a built-in or registered family, or ``None``; no plugin's code runs."""
    return _FAMILIES.get(algorithm)


def find(algorithm: str) -> Family:
    """Find a family by the ``algorithm`` field of its cards.

    Returns:
        The record: built in, registered, or the attribute ``FAMILY`` of the module
        that a plugin offers for the algorithm.

    Raises:
        ArtifactError: No family has that algorithm, or the plugin has no record.

    Example:
        >>> find("opne")
        Traceback (most recent call last):
            ...
        learned_opt_rl.errors.ArtifactError: no installed rule runs the algorithm
        'opne'; did you mean 'open'? Otherwise install the package that offers it
    """
    if algorithm in _FAMILIES:
        return _FAMILIES[algorithm]
    family = getattr(_import_plugin(algorithm), "FAMILY", None)
    if not isinstance(family, Family) or family.algorithm != algorithm:
        raise ArtifactError(
            f"rule plugin {algorithm!r}: its module has no FAMILY, a families.Family "
            "of that algorithm; its author has to add one"
        )
    return family


def register(family: Family) -> None:
    """Add a family to the table for this process.

    Raises:
        ValueError: Another family has the same algorithm.

    Example:
        >>> import dataclasses
        >>> register(dataclasses.replace(find("lpo"), title="Another LPO"))
        Traceback (most recent call last):
            ...
        ValueError: algorithm='lpo' is taken by the family 'LPO'; choose another
    """
    holder = _FAMILIES.setdefault(family.algorithm, family)
    if holder != family:
        raise ValueError(
            f"algorithm={family.algorithm!r} is taken by the family {holder.title!r}; "
            "choose another"
        )


def rule_module(algorithm: str) -> ModuleType:
    """Import the module that turns artifacts of an algorithm into transforms.

    Families in the table come first; others are entry points of the group
    ``learned_opt_rl.rules``. Only this function and `find`
    run the code of a plugin.

    Returns:
        A module that offers ``from_artifact(artifact, **options)``.

    Raises:
        ArtifactError: No installed package offers the rule, several do, or the one
            that does cannot be imported or lacks ``from_artifact``.

    Example:
        >>> rule_module("no_features").__name__
        'learned_opt_rl.rules.no_features'
    """
    family = known(algorithm)
    module = _import_plugin(algorithm) if family is None else family.import_module()
    if not callable(getattr(module, "from_artifact", None)):
        raise ArtifactError(
            f"rule plugin {algorithm!r}: {module!r} lacks from_artifact(artifact, "
            "**options); update or uninstall the package"
        )
    return module


def entry_points(group: str) -> list[importlib.metadata.EntryPoint]:
    """Return the installed entry points of a group, sorted by name and value.

    Two packages that offer the same, such as a package and its renamed successor, count
    once. If the files of any installed package are damaged, warn and return none.
    """
    try:
        offered = importlib.metadata.entry_points(group=group)
    except Exception as error:  # one damaged package of the whole environment
        warn_user(
            "plugins are left out, because the entry points of an installed package "
            f"cannot be read ({type(error).__name__}: {error}); reinstall that package",
        )
        return []
    found = {(entry.name, entry.value): entry for entry in offered}
    return [found[key] for key in sorted(found)]


def _import_plugin(algorithm: str) -> ModuleType:
    offered = entry_points("learned_opt_rl.rules")
    matching = [entry for entry in offered if entry.name == algorithm]
    if not matching:
        names = [*_FAMILIES, *(entry.name for entry in offered)]
        near = checks.nearest(algorithm, names, 1)
        hint = f"did you mean {near[0]!r}? Otherwise install" if near else "install"
        raise ArtifactError(
            f"no installed rule runs the algorithm {algorithm!r}; "
            f"{hint} the package that offers it"
        )
    if len(matching) > 1:
        values = " and ".join(repr(entry.value) for entry in matching)
        raise ArtifactError(
            f"several rules run the algorithm {algorithm!r}: {values}; "
            "uninstall the packages you do not need"
        )
    try:
        return matching[0].load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a third party's import may even exit
        raise ArtifactError(
            f"rule plugin {algorithm!r}: importing {matching[0].value!r} failed "
            f"({type(error).__name__}: {error}); update or uninstall the package"
        ) from error
