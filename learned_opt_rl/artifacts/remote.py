"""Remote weights: fetched on request, checked, cached, never half written.

Environment variables:

- ``LEARNED_OPT_RL_CACHE``: the cache folder; by default ``learned-opt-rl`` under
  ``$XDG_CACHE_HOME`` or ``~/.cache``.
- ``LEARNED_OPT_RL_MIRROR``: a base address that replaces everything before the
  file's name.
- ``LEARNED_OPT_RL_TIMEOUT``: seconds that a whole fetch may take, by default 30; the
  largest published file has 14 kB.
"""

import hashlib
import io
import ipaddress
import math
import os
import pathlib
import queue
import threading
import urllib.parse
from types import ModuleType
from typing import TYPE_CHECKING, Any

from learned_opt_rl.artifacts.card import Card, RemoteWeights
from learned_opt_rl.artifacts.weights import read_limited, refetch
from learned_opt_rl.errors import FetchError, MissingExtraError, WeightsError
from learned_opt_rl.rundir.atomic import write_atomically

if TYPE_CHECKING:
    import requests

_SILENCE = 10.0  # seconds a server may send nothing


def cache_dir(own: bool = False) -> pathlib.Path:
    """Return the folder of fetched weights, absolute; it need not exist yet.

    With ``own``, return the user's own folder instead: ``LEARNED_OPT_RL_CACHE`` may
    name one that several users share, which is not safe for what is executed.

    Raises:
        FetchError: The user has no home folder, and no variable names another folder.
    """
    chosen = None if own else os.environ.get("LEARNED_OPT_RL_CACHE")
    # The XDG specification says to ignore a relative path.
    base = os.environ.get("XDG_CACHE_HOME", "")
    if not os.path.isabs(base):
        base = os.path.join("~", ".cache")
    path = os.path.expanduser(chosen or os.path.join(base, "learned-opt-rl"))
    if path.startswith("~"):
        raise FetchError(
            f"the cache folder {path} needs a home folder, but this user has none; "
            "set LEARNED_OPT_RL_CACHE to a writable folder"
        )
    return pathlib.Path(path).absolute()


def cached_path(card: Card) -> pathlib.Path:
    """Return the path of a remote artifact's weights, once fetched.

    The name holds the digest, so that a card with new weights never reads old ones.
    """
    stem = card.name.replace("/", "--")
    return cache_dir() / f"{stem}-{card.weights.sha256[:16]}.npy"


def is_cached(card: Card) -> bool:
    """Return whether the file of a remote artifact exists; `load` checks it."""
    try:
        return os.path.isfile(cached_path(card))
    except FetchError:
        return False


def read(card: Card, *, fetch: bool = False) -> bytes:
    """Read the weights of a remote artifact in the cache; fetch them on request.

    With ``fetch``, an intact file in the cache is used without the network, and a
    damaged one is fetched again. Nothing partial ever stays in the cache.

    Raises:
        FetchError: The file is not cached and ``fetch`` is false, or fetching failed.
        MissingExtraError: Fetching needs pooch, of the extra ``remote``.
        WeightsError: The file is larger than `weights.MAX_BYTES` or cannot be read.
    """
    path = cached_path(card)
    if fetch and not _is_intact(path, card):
        _retrieve(card, path)
    if not is_cached(card):
        raise FetchError(
            f"{card.name}: its weights are not in the cache ({path}); fetch them once "
            f"with `learned-opt-rl fetch {card.name}` or "
            f"pretrained({card.name!r}, fetch=True)"
        )
    return read_limited(path, refetch(card))


def _is_intact(path: pathlib.Path, card: Card) -> bool:
    try:
        content = read_limited(path, "")
    except WeightsError:
        return False  # fetching reports what is wrong with the folder
    return hashlib.sha256(content).hexdigest() == card.weights.sha256


def _retrieve(card: Card, path: pathlib.Path) -> None:
    weights = card.weights
    if not isinstance(weights, RemoteWeights):
        raise FetchError(
            f"{card.name}: its weights are installed already; load it without fetch"
        )
    url, timeout = _address(weights.url), _timeout()
    try:
        content = download(url, weights.bytes, timeout)
        actual = hashlib.sha256(content).hexdigest()
        if actual != weights.sha256:
            raise FetchError(
                f"{url} serves a different file than the card describes (its sha256 is "
                f"{actual}, not {weights.sha256}); report the card as outdated"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except FetchError as error:
        raise FetchError(f"{card.name}: {error}") from error
    except OSError as error:
        raise FetchError(
            f"{card.name}: the cache {path.parent} cannot be written to ({error}); "
            "set LEARNED_OPT_RL_CACHE to a writable folder"
        ) from error


def download(url: str, size: int, deadline: float) -> bytes:
    """Fetch a file of exactly ``size`` bytes; its digest is not checked here.

    `FetchError` is raised where the server cannot be reached, refuses, redirects, sends
    more or fewer bytes, or has not sent all after ``deadline`` seconds.
    """
    outcome: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
    received = _Received(url, size)

    def work() -> None:
        try:
            outcome.put(_download(url, received, min(_SILENCE, deadline)))
        except Exception as error:  # handed over, and raised by the caller
            outcome.put(error)

    # No socket timeout ends a server that sends a byte a second, or a name server
    # that hangs. A daemon thread can be left behind; it ends with its connection.
    threading.Thread(target=work, daemon=True, name="learned-opt-rl-fetch").start()
    try:
        result = outcome.get(timeout=deadline)
    except queue.Empty:
        raise FetchError(
            f"{url}: no complete response within {deadline:g} s; try again, or raise "
            "LEARNED_OPT_RL_TIMEOUT"
        ) from None
    finally:
        received.abandoned.set()
    if isinstance(result, Exception):
        raise result
    return result


class _Received(io.BytesIO):
    """The bytes of a download, never more than the card states."""

    def __init__(self, url: str, size: int) -> None:
        super().__init__()
        self.url, self.size, self.abandoned = url, size, threading.Event()
        self.response: requests.Response | None = None

    def write(self, chunk: Any) -> int:
        if self.abandoned.is_set() or self.tell() + len(chunk) > self.size:
            raise self.wrong("more")
        return super().write(chunk)

    def wrong(self, amount: str) -> FetchError:
        return FetchError(
            f"{self.url}: sent {amount} bytes than the {self.size} the card states; "
            "try again, and if it persists report the card as outdated"
        )

    def check_head(self, response: "requests.Response", **_: Any) -> None:
        """Refuse an answer by its status and headers, before its body is read."""
        self.response, status = response, response.status_code
        if 300 <= status < 400:
            target = response.headers.get("Location", "")
            raise FetchError(
                f"{self.url}: redirects to {target!r}, which is not followed; if you "
                "trust that address, set LEARNED_OPT_RL_MIRROR to its folder"
            )
        if status != 200:
            raise FetchError(
                f"{self.url}: answered {status} {response.reason!r}; try again later, "
                "or set LEARNED_OPT_RL_MIRROR to a copy"
            )
        announced = response.headers.get("Content-Length", str(self.size))
        if announced != str(self.size):
            raise FetchError(
                f"{self.url}: reports a size of {announced!r} bytes, but the card "
                f"states {self.size}; the file at this address has changed; report "
                "the card as outdated"
            )


def _download(url: str, received: _Received, silence: float) -> bytes:
    pooch = _import_pooch()  # first: its error names the extra, which has requests
    import requests

    fetch = pooch.HTTPDownloader(
        timeout=silence,
        allow_redirects=False,
        headers={"Accept-Encoding": "identity"},
        # Without an auth of its own requests sends what ~/.netrc holds.
        auth=lambda request: request,
        hooks={"response": received.check_head},
    )
    try:
        fetch(url, received, None)
    except requests.RequestException as error:
        raise FetchError(
            f"{url}: the connection failed ({error}); check the network and try again"
        ) from error
    finally:
        if received.response is not None:  # the downloader leaves it open on errors
            received.response.close()
    if received.tell() < received.size:
        raise received.wrong("fewer")
    return received.getvalue()


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
    """Return the address to fetch from: the card's, or the mirror's copy."""
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
    chosen = os.environ.get("LEARNED_OPT_RL_TIMEOUT") or "30"
    try:
        seconds = float(chosen)
    except ValueError:
        seconds = math.nan
    if not 0 < seconds <= threading.TIMEOUT_MAX:
        raise FetchError(
            f"LEARNED_OPT_RL_TIMEOUT is {chosen!r}; use a positive number of seconds"
        )
    return seconds
