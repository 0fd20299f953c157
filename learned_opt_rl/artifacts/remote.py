"""Remote weights: fetched when asked for, checked, cached, never half there.

Environment variables:

- ``LEARNED_OPT_RL_CACHE``: the cache folder; by default ``learned-opt-rl`` under
  ``$XDG_CACHE_HOME`` or ``~/.cache``.
- ``LEARNED_OPT_RL_MIRROR``: a base address used in place of everything before the
  file's name.
- ``LEARNED_OPT_RL_TIMEOUT``: seconds a fetch may take in all, by default 30.
"""

import hashlib
import ipaddress
import math
import os
import pathlib
import threading
import urllib.parse
from types import ModuleType

from learned_opt_rl.artifacts._download import download
from learned_opt_rl.artifacts.card import Card, RemoteWeights
from learned_opt_rl.errors import FetchError, MissingExtraError

DEFAULT_TIMEOUT = 30.0


def cache_dir() -> pathlib.Path:
    """The folder fetched weights are kept in.

    Returns:
        ``$LEARNED_OPT_RL_CACHE``, or ``learned-opt-rl`` under ``$XDG_CACHE_HOME`` or
        ``~/.cache``. It need not exist yet.

    Example:
        >>> cache_dir().is_absolute()
        True
    """
    chosen = os.environ.get("LEARNED_OPT_RL_CACHE")
    if chosen:
        return pathlib.Path(chosen).expanduser().absolute()
    # The XDG specification says to ignore a relative path.
    base = pathlib.Path(os.environ.get("XDG_CACHE_HOME", ""))
    if not base.is_absolute():
        base = pathlib.Path.home() / ".cache"
    return base / "learned-opt-rl"


def cached_path(card: Card) -> pathlib.Path:
    """Where the weights of a remote artifact are, once fetched.

    Args:
        card: The card of a remote artifact.

    Returns:
        A path named after the artifact and its digest, so that a card with new
        weights never reads old ones.

    Example:
        >>> from learned_opt_rl import artifacts
        >>> cached_path(artifacts.card("goldie2024/ant")).name
        'goldie2024--ant-e1901cafe323d1c5.npy'
    """
    stem = card.name.replace("/", "--")
    return cache_dir() / f"{stem}-{card.weights.sha256[:16]}.npy"


def is_cached(card: Card) -> bool:
    """Whether the weights of a remote artifact were fetched already.

    Args:
        card: The card of a remote artifact.

    Returns:
        Whether the file exists; its digest is checked when it is read.

    Example:
        >>> from learned_opt_rl import artifacts
        >>> is_cached(artifacts.card("goldie2024/ant")) in (True, False)
        True
    """
    return cached_path(card).is_file()


def locate(card: Card, *, fetch: bool = False) -> pathlib.Path:
    """Find the weights of a remote artifact in the cache, fetching them if asked to.

    Args:
        card: The card of a remote artifact.
        fetch: Whether the network may be used. An intact file in the cache is used
            as it is, without the network; a damaged one is fetched again.

    Returns:
        The path of the cached file.

    Raises:
        FetchError: The file is not cached and ``fetch`` is false, or fetching failed.
            Nothing partial stays in the cache.
        MissingExtraError: Fetching needs pooch, of the extra ``remote``.

    Example:
        >>> from learned_opt_rl import artifacts
        >>> card = artifacts.card("goldie2024/ant")
        >>> path = locate(card, fetch=True)  # doctest: +SKIP
    """
    path = cached_path(card)
    if fetch:
        if not _is_intact(path, card):
            _retrieve(card, path)
    elif not path.is_file():
        raise FetchError(
            f"{card.name}: its weights are not in the cache ({path}); fetch them once "
            f"with `learned-opt-rl fetch {card.name}` or "
            f"pretrained({card.name!r}, fetch=True)"
        )
    return path


def _is_intact(path: pathlib.Path, card: Card) -> bool:
    try:
        content = path.read_bytes() if path.is_file() else b""
    except OSError:
        return False  # fetching says what is wrong with the folder
    return hashlib.sha256(content).hexdigest() == card.weights.sha256


def _retrieve(card: Card, path: pathlib.Path) -> None:
    weights = _remote_weights(card)
    pooch, url, timeout = _import_pooch(), _address(weights.url), _timeout()

    def downloader(url: str, output: str, _: object) -> None:
        content = download(url, weights.bytes, timeout)
        with open(output, "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())

    try:
        # pooch writes to a temporary file beside `path`, checks the digest, renames,
        # and removes the temporary file whatever happens.
        pooch.retrieve(
            url,
            known_hash=f"sha256:{weights.sha256}",
            fname=path.name,
            path=path.parent,
            downloader=downloader,
        )
    except FetchError as error:
        raise FetchError(f"{card.name}: {error}") from error
    except OSError as error:
        raise FetchError(
            f"{card.name}: the cache {path.parent} cannot be written to ({error}); "
            "set LEARNED_OPT_RL_CACHE to a folder that can"
        ) from error
    except ValueError as error:
        raise FetchError(
            f"{card.name}: {url} serves another file than the card describes "
            f"({error}); report the card as outdated"
        ) from error


def _remote_weights(card: Card) -> RemoteWeights:
    if not isinstance(card.weights, RemoteWeights):
        raise FetchError(
            f"{card.name}: its weights are installed already; load it without fetch"
        )
    return card.weights


def _import_pooch() -> ModuleType:
    try:
        import pooch
    except ImportError as error:
        raise MissingExtraError(
            "fetching needs pooch, which is not installed; run "
            "pip install 'learned-opt-rl[remote]'"
        ) from error
    return pooch


def _address(url: str) -> str:
    """The address to fetch from: the card's, or the mirror's copy of the file."""
    mirror = os.environ.get("LEARNED_OPT_RL_MIRROR")
    if not mirror:
        return url
    parts = urllib.parse.urlsplit(mirror)
    local = parts.scheme == "http" and _is_loopback(parts.hostname or "")
    if not (local or parts.scheme == "https" and parts.hostname):
        raise FetchError(
            f"LEARNED_OPT_RL_MIRROR is {mirror!r}; use an https:// address "
            "(http:// is for 127.0.0.1 and localhost only)"
        )
    return f"{mirror.rstrip('/')}/{url.rpartition('/')[2]}"


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _timeout() -> float:
    chosen = os.environ.get("LEARNED_OPT_RL_TIMEOUT")
    if not chosen:
        return DEFAULT_TIMEOUT
    try:
        seconds = float(chosen)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise FetchError(
            f"LEARNED_OPT_RL_TIMEOUT is {chosen!r}; use a positive number of seconds"
        )
    return seconds
