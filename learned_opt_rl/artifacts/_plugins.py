"""Find the artifacts of other installed packages, without running their code.

A plugin declares entry points in its ``pyproject.toml``:

- group ``learned_opt_rl.artifacts``, value a package whose folder holds cards;
- group ``learned_opt_rl.rules``, name an algorithm identifier, value a module with
  ``from_artifact(artifact, **options)``.
"""

import importlib.metadata
import importlib.util
import pathlib
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder
from typing import NamedTuple

from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.families import entry_points

_GROUP = "learned_opt_rl.artifacts"


class Plugin(NamedTuple):
    """One entry point of the artifacts group.

    Attributes:
        name: The entry point's name.
        cards: Paths of its ``card.json`` files, sorted.
        error: Why it offers nothing, or ``None``.
    """

    name: str
    cards: tuple[pathlib.Path, ...]
    error: ArtifactError | None


def plugins() -> Iterator[Plugin]:
    """Yield every installed artifact plugin, broken ones too, sorted by name."""
    for entry in entry_points(_GROUP):
        try:
            yield Plugin(entry.name, _cards_of(entry), None)
        except ArtifactError as error:
            yield Plugin(entry.name, (), error)


def _cards_of(entry: importlib.metadata.EntryPoint) -> tuple[pathlib.Path, ...]:
    declared = f"plugin {entry.name!r} ({entry.value!r})"
    try:
        spec = _find_spec(entry.value)
    except (ImportError, ValueError, AttributeError) as error:
        raise ArtifactError(
            f"{declared}: cannot be located ({error}); reinstall or uninstall it"
        ) from error
    if spec is None:
        raise ArtifactError(f"{declared}: no such package; reinstall or uninstall it")
    folders = spec.submodule_search_locations
    if not folders:
        # Searching the folder of a lone module would search all of site-packages.
        raise ArtifactError(
            f"{declared}: is a module, not a package; its author has to name the "
            "package whose folder holds the cards"
        )
    cards = sorted(
        path for folder in folders for path in pathlib.Path(folder).rglob("card.json")
    )
    if not cards:
        raise ArtifactError(
            f"{declared}: no card.json in {', '.join(folders)}; "
            "its author has to put the cards into the wheel"
        )
    return tuple(cards)


def _find_spec(name: str) -> ModuleSpec | None:
    """Locate a module; ``importlib.util.find_spec`` would import its parents."""
    top, *parts = name.split(".")
    spec = importlib.util.find_spec(top)
    for part in parts:
        if spec is None:
            return None
        full = f"{spec.name}.{part}"
        spec = PathFinder.find_spec(full, spec.submodule_search_locations)
    return spec
