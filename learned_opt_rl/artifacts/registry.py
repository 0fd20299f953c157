"""One lookup over three sources: bundled, plugins, remote.

The environment variable ``LEARNED_OPT_RL_PRETRAINED`` names a folder of artifacts to
use in place of the bundled ones.
"""

import contextlib
import dataclasses
import os
import pathlib
import warnings
from collections.abc import Iterable, Iterator

from learned_opt_rl import checks
from learned_opt_rl.artifacts import remote
from learned_opt_rl.artifacts._json import read_json
from learned_opt_rl.artifacts._plugins import plugins
from learned_opt_rl.artifacts.artifact import Artifact
from learned_opt_rl.artifacts.card import Card, FileWeights, is_name
from learned_opt_rl.artifacts.weights import (
    check_weights,
    from_flat_npy,
    load_expression,
    load_safetensors,
    read_limited,
)
from learned_opt_rl.errors import ArtifactError, CardError, UnknownArtifactError

BUNDLED = "bundled"
"""The origin of artifacts that come with this library."""

_VARIABLE = "LEARNED_OPT_RL_PRETRAINED"
_PACKAGE = pathlib.Path(__file__).resolve().parents[1]


@dataclasses.dataclass(frozen=True)
class Entry:
    """A usable card and its place.

    Attributes:
        card: The card.
        folder: The folder that holds it and, unless remote, its weights.
        origin: ``"bundled"`` or ``"plugin <entry point>"``.
    """

    card: Card
    folder: pathlib.Path
    origin: str


@dataclasses.dataclass(frozen=True)
class Broken:
    """A card or a plugin that cannot be used.

    Attributes:
        name: The name that the card states, or else the entry point's name.
        origin: ``"bundled"`` or ``"plugin <entry point>"``.
        error: What is wrong, and the fix.
    """

    name: str
    origin: str
    error: ArtifactError


@dataclasses.dataclass(frozen=True)
class Scan:
    """Everything that one look at all sources found.

    Attributes:
        entries: Usable cards by artifact name: bundled ones first, then plugins'.
        broken: The rest.
    """

    entries: dict[str, Entry]
    broken: list[Broken]

    def add(self, path: pathlib.Path, origin: str, fallback_name: str) -> None:
        """Read one card file and file it under usable or broken.

        ``fallback_name`` names a broken card that does not state its own name.
        """
        try:
            card = Card.load(path)
            if card.name in self.entries:
                raise CardError(
                    f"{path}: name is {card.name!r}, which an artifact from "
                    f"{self.entries[card.name].origin} already has; rename this one"
                )
        except CardError as error:
            name = _claimed_name(path) or fallback_name
            self.broken.append(Broken(name, origin, error))
        else:
            self.entries[card.name] = Entry(card, path.parent, origin)


def bundled_root() -> pathlib.Path:
    """Return the folder of the artifacts that come with this library.

    Returns:
        ``$LEARNED_OPT_RL_PRETRAINED`` if it is set; otherwise
        ``learned_opt_rl/pretrained`` in an installed wheel, or ``pretrained`` at the
        top of the repository in a source checkout.

    Example:
        >>> bundled_root().name
        'pretrained'
    """
    chosen = os.environ.get(_VARIABLE)
    if chosen:
        return pathlib.Path(chosen)
    installed = _PACKAGE / "pretrained"
    return installed if installed.is_dir() else _PACKAGE.parent / "pretrained"


@contextlib.contextmanager
def bundled_in(folder: pathlib.Path) -> Iterator[None]:
    """Set ``LEARNED_OPT_RL_PRETRAINED`` inside a ``with`` block.

    Args:
        folder: Laid out as `bundled_root`.

    Example:
        >>> with bundled_in(pathlib.Path("no/such/folder")):
        ...     "minatar" in cards()
        False
    """
    before = os.environ.get(_VARIABLE)
    os.environ[_VARIABLE] = str(folder)
    try:
        yield
    finally:
        del os.environ[_VARIABLE]
        if before is not None:
            os.environ[_VARIABLE] = before


def scan() -> Scan:
    """Look at all sources afresh.

    Returns:
        Usable and broken cards. Nothing is raised or warned about, and no plugin's
        code runs.

    Example:
        >>> scan().entries["goldie2024/ant"].origin
        'bundled'
    """
    result = Scan({}, [])
    root = bundled_root()
    for path in sorted(root.rglob("card.json")):
        if any(part.startswith(".") for part in path.relative_to(root).parts):
            continue  # left by a promotion that was killed
        result.add(path, BUNDLED, path.parent.relative_to(root).as_posix())
    _scan_plugins(result)
    return result


def _scan_plugins(result: Scan) -> None:
    for plugin in plugins():
        origin = f"plugin {plugin.name}"
        if plugin.error is not None:
            result.broken.append(Broken(plugin.name, origin, plugin.error))
        for path in plugin.cards:
            result.add(path, origin, plugin.name)


def cards() -> dict[str, Card]:
    """Return the cards of all artifacts, whether or not their weights were fetched.

    Returns:
        Cards by name, sorted.

    Warns:
        UserWarning: A plugin is broken; it is left out and the rest is returned.

    Example:
        >>> "goldie2024/minatar" in cards()
        True
    """
    found = scan()
    for broken in found.broken:
        warnings.warn(
            f"{broken.origin}: {broken.name!r} is left out. {broken.error}",
            UserWarning,
            stacklevel=2,
        )
    return {name: found.entries[name].card for name in sorted(found.entries)}


def card(name: str) -> Card:
    """Return the card of one artifact.

    Args:
        name: The artifact's name, as `cards` and ``learned-opt-rl list`` show it.

    Returns:
        The card.

    Raises:
        UnknownArtifactError: There is none; the message suggests the nearest names.
        ArtifactError: There is one, but its card or its plugin is broken.

    Example:
        >>> card("goldie2024/minatar").architecture["width"]
        32
    """
    return find(name).card


def load(name: str, *, fetch: bool = False) -> Artifact:
    """Load an artifact: its card and its checked weights.

    Args:
        name: The artifact's name.
        fetch: Whether a remote artifact may be downloaded into the cache.

    Returns:
        The artifact; its weights fit its card.

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

    Args:
        name: The artifact's name.

    Returns:
        Its card and where it was found.

    Raises:
        UnknownArtifactError: There is none of that name.
        ArtifactError: There is one, but its card or its plugin is broken.

    Example:
        >>> find("goldie2024/ant").folder.name
        'ant'
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
    """Load an artifact that was found already; arguments and errors as for `load`."""
    card = entry.card
    if isinstance(card.weights, FileWeights):
        path = entry.folder / card.weights.file
        if card.weights.format == "expression":
            return Artifact(card, *load_expression(path, card))
        weights = load_safetensors(path, card.weights.sha256)
    else:
        path = remote.locate(card, fetch=fetch)
        restore = f"run `learned-opt-rl fetch {card.name}` to fetch it again"
        weights = from_flat_npy(read_limited(path, restore), card)
    check_weights(weights, card)
    return Artifact(card, weights)


def _claimed_name(path: pathlib.Path) -> str | None:
    """Return the name a card states, even if the rest of it is unusable."""
    try:
        name = read_json(path)["name"]
    except (CardError, TypeError, KeyError):
        return None
    return name if isinstance(name, str) and name.isprintable() else None


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
