"""One lookup over three sources: bundled, plugins, remote.

The environment variable ``LEARNED_OPT_RL_PRETRAINED`` names a folder of artifacts to
use in place of the bundled ones. A plugin is a package whose folder holds cards; an
entry point of the group ``learned_opt_rl.artifacts`` names the package.
"""

import contextlib
import dataclasses
import importlib.metadata
import importlib.util
import os
import pathlib
from collections.abc import Iterable, Iterator
from importlib.machinery import ModuleSpec, PathFinder

from learned_opt_rl import checks
from learned_opt_rl.artifacts import remote
from learned_opt_rl.artifacts.card import Card, FileWeights, claimed_name, is_name
from learned_opt_rl.artifacts.weights import (
    Artifact,
    check_weights,
    from_flat_npy,
    load_expression,
    load_safetensors,
)
from learned_opt_rl.errors import (
    ArtifactError,
    CardError,
    UnknownArtifactError,
)
from learned_opt_rl.families import entry_points
from learned_opt_rl.warn import warn_user

BUNDLED = "bundled"
"""The origin of artifacts that come with this library."""

_VARIABLE = "LEARNED_OPT_RL_PRETRAINED"
_PACKAGE = pathlib.Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A usable card and its place."""

    card: Card
    folder: pathlib.Path
    """Holds the card and, unless they are remote, the weights."""
    origin: str
    """``"bundled"`` or ``"plugin <entry point>"``."""


@dataclasses.dataclass(frozen=True)
class Broken:
    """A card or a plugin that cannot be used, and why."""

    name: str
    """The name that the card states, or else its folder's or the entry point's."""
    origin: str
    error: ArtifactError


@dataclasses.dataclass(frozen=True)
class Scan:
    """All artifacts by name, bundled ones first, and all that cannot be used."""

    entries: dict[str, Entry]
    broken: list[Broken]

    def add(self, path: pathlib.Path, origin: str, fallback_name: str) -> None:
        """Read one card file and sort it into usable or broken."""
        try:
            card = Card.load(path)
            if card.name in self.entries:
                raise CardError(
                    f"{path}: name is {card.name!r}, which an artifact from "
                    f"{self.entries[card.name].origin} already has; rename this one"
                )
        except CardError as error:
            name = claimed_name(path) or fallback_name
            self.broken.append(Broken(name, origin, error))
        else:
            self.entries[card.name] = Entry(card, path.parent, origin)


def bundled_root() -> pathlib.Path:
    """Return the folder of the artifacts that come with this library.

    It is ``pretrained`` in the package of an installed wheel, or at the top of the
    repository in a source checkout. The environment variable
    ``LEARNED_OPT_RL_PRETRAINED`` names another folder.

    Raises:
        ArtifactError: The variable names something that is not a folder.
    """
    chosen = os.environ.get(_VARIABLE)
    if chosen:
        root = pathlib.Path(os.path.expanduser(chosen)).absolute()
        if not root.is_dir():
            raise ArtifactError(
                f"{_VARIABLE}={chosen!r} is not a folder; name one that holds "
                "artifacts, or unset the variable"
            )
        return root
    installed = _PACKAGE / "pretrained"
    return installed if installed.is_dir() else _PACKAGE.parent / "pretrained"


@contextlib.contextmanager
def bundled_in(folder: pathlib.Path) -> Iterator[None]:
    """Set ``LEARNED_OPT_RL_PRETRAINED`` to a folder inside a ``with`` block."""
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = str(folder)
    try:
        yield
    finally:
        del os.environ[_VARIABLE]
        if before is not None:
            os.environ[_VARIABLE] = before


def scan() -> Scan:
    """Look at all sources again, without warnings and without running plugins."""
    result = Scan({}, [])
    root = bundled_root()
    for path in sorted(root.rglob("card.json")):
        if any(part.startswith(".") for part in path.relative_to(root).parts):
            continue  # left by a promotion that was killed
        result.add(path, BUNDLED, path.parent.relative_to(root).as_posix())
    for plugin in entry_points("learned_opt_rl.artifacts"):
        origin = f"plugin {plugin.name}"
        try:
            paths = _cards_of(plugin)
        except ArtifactError as error:
            result.broken.append(Broken(plugin.name, origin, error))
        else:
            for path in paths:
                result.add(path, origin, plugin.name)
    return result


def _cards_of(plugin: importlib.metadata.EntryPoint) -> list[pathlib.Path]:
    declared = f"plugin {plugin.name!r} ({plugin.value!r})"
    try:
        if plugin.attr:
            raise ValueError(f"it names the attribute {plugin.attr!r} of a module")
        spec = _find_spec(plugin.module)
    except Exception as error:  # finders of third parties may raise anything
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
    return cards


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


def cards() -> dict[str, Card]:
    """Return the cards of all artifacts by name, sorted, fetched or not.

    Warns:
        UserWarning: A plugin is broken; it is left out and the rest is returned.

    Example:
        >>> "goldie2024/minatar" in cards()
        True
    """
    found = scan()
    for broken in found.broken:
        warn_user(
            f"{broken.origin}: {broken.name!r} is left out. {broken.error}",
        )
    return {name: found.entries[name].card for name in sorted(found.entries)}


def card(name: str) -> Card:
    """Return the card of one artifact, by the name that `cards` shows.

    Raises:
        UnknownArtifactError: There is none; the message suggests the nearest names.
        ArtifactError: There is one, but its card or its plugin is broken.

    Example:
        >>> card("goldie2024/minatar").architecture["width"]
        32
    """
    return find(name).card


def load(name: str, *, fetch: bool = False) -> Artifact:
    """Load an artifact: its card and its weights, checked against the card.

    Args:
        name: The artifact's name.
        fetch: Whether a remote artifact may be downloaded into the cache.

    Raises:
        UnknownArtifactError: There is none of that name.
        CardError: Its card is broken.
        WeightsError: Its weights are damaged or do not fit the card.
        FetchError: It is remote, not cached, and ``fetch`` is false or failed.
        MissingExtraError: Fetching needs the extra ``remote``.

    Example:
        >>> load("minatr")  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        learned_opt_rl.errors.UnknownArtifactError: no artifact is named 'minatr'; did
        you mean ...
    """
    return load_entry(find(name), fetch=fetch)


def find(name: str) -> Entry:
    """Find one artifact, reading no other card if it is bundled.

    The errors are those of `card`.
    """
    if not isinstance(name, str):
        raise TypeError(f"name is {name!r}; pass the artifact's name as a str")
    path = bundled_root() / name / "card.json" if is_name(name) else None
    if path is not None and path.is_file():
        card = Card.load(path)
        if card.name == name:
            return Entry(card, path.parent, BUNDLED)
    # A plugin's card lies anywhere in its package, and suggestions need all names.
    found = scan()
    if name in found.entries:
        return found.entries[name]
    for broken in found.broken:
        if name == broken.name or name.startswith(f"{broken.name}/"):
            raise broken.error
    raise UnknownArtifactError(
        f"no artifact is named {name!r}; {_suggestion(name, found.entries)}"
        "`learned-opt-rl list` shows all"
    )


def load_entry(entry: Entry, *, fetch: bool = False) -> Artifact:
    """Load an artifact that was found; ``fetch`` and the errors are those of `load`."""
    card = entry.card
    if isinstance(card.weights, FileWeights):
        path = entry.folder / card.weights.file
        if card.weights.format == "expression":
            return Artifact(card, *load_expression(path, card))
        weights = load_safetensors(path, card.weights.sha256)
    else:
        weights = from_flat_npy(remote.read(card, fetch=fetch), card)
    check_weights(weights, card)
    return Artifact(card, weights)


def load_folder(folder: pathlib.Path) -> Artifact:
    """Load the artifact in a folder, which need not be installed.

    The errors are those of `load`.
    """
    return load_entry(Entry(Card.load(folder / "card.json"), folder, "path"))


def _suggestion(name: str, known: Iterable[str]) -> str:
    """Suggest the names most like ``name``, with or without their namespace."""
    tails = {one: one.rpartition("/")[2] for one in known}
    like = checks.nearest(name, dict.fromkeys([*tails, *tails.values()]))
    near: dict[str, None] = {}
    for text in like:
        named = [one for one in tails if text in (one, tails[one])]
        near |= dict.fromkeys(sorted(named, key=len))  # without a namespace first
    shown = " or ".join(map(repr, list(near)[:3]))
    return f"did you mean {shown}? " if near else ""
