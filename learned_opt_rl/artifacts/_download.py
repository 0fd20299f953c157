"""One bounded HTTP download: in size, in time, and to one address only."""

import queue
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from learned_opt_rl.errors import FetchError

if TYPE_CHECKING:
    import requests

# Longest silence of the server, in seconds; the deadline bounds the whole.
_SILENCE = 10.0


def download(url: str, size: int, deadline: float) -> bytes:
    """Fetch a file of known size into memory.

    Args:
        url: The address; a redirect away from it is an error.
        size: The exact size of the file in bytes.
        deadline: Seconds after which to give up, whatever the server does.

    Returns:
        The content, ``size`` bytes; its digest is not checked here.

    Raises:
        FetchError: The server cannot be reached, refuses, redirects, is too slow, or
            sends more or fewer bytes than ``size``.
    """
    outcome: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()
    abandoned = threading.Event()

    def work() -> None:
        try:
            outcome.put(_download(url, size, min(_SILENCE, deadline), abandoned))
        except Exception as error:  # handed over, and raised by the caller
            outcome.put(error)

    # No socket timeout ends a server that sends a byte a second, or a name server
    # that hangs. A daemon thread can be left behind; it ends with its connection.
    threading.Thread(target=work, daemon=True, name="learned-opt-rl-fetch").start()
    try:
        result = outcome.get(timeout=deadline)
    except queue.Empty:
        raise FetchError(
            f"{url}: no complete answer within {deadline:g} s; try again, or raise "
            "LEARNED_OPT_RL_TIMEOUT"
        ) from None
    finally:
        abandoned.set()
    if isinstance(result, Exception):
        raise result
    return result


def _download(url: str, size: int, silence: float, abandoned: threading.Event) -> bytes:
    import requests

    try:
        with requests.get(
            url,
            stream=True,
            allow_redirects=False,
            timeout=silence,
            headers={"Accept-Encoding": "identity"},
            # Without an auth of its own requests sends what ~/.netrc holds.
            auth=lambda request: request,
        ) as response:
            _check_response(response, url, size)
            chunks = response.iter_content(chunk_size=1024)
            content = _collect(chunks, size, abandoned)
    except requests.RequestException as error:
        raise FetchError(
            f"{url}: the connection failed ({error}); check the network and try again"
        ) from error
    if len(content) != size:
        amount = "more" if len(content) > size else "fewer"
        raise FetchError(
            f"{url}: sent {amount} bytes than the {size} the card states; try again, "
            "and if it persists report the card as outdated"
        )
    return content


def _check_response(response: "requests.Response", url: str, size: int) -> None:
    status = response.status_code
    if 300 <= status < 400:
        target = response.headers.get("Location", "")
        raise FetchError(
            f"{url}: redirects to {target!r}, which is not followed; where you trust "
            "that address, set LEARNED_OPT_RL_MIRROR to its folder"
        )
    if status != 200:
        raise FetchError(
            f"{url}: answered {status} {response.reason!r}; try again later, or set "
            "LEARNED_OPT_RL_MIRROR to a copy"
        )
    announced = response.headers.get("Content-Length", str(size))
    if announced != str(size):
        raise FetchError(
            f"{url}: announces {announced!r} bytes, but the card states {size}; the "
            "address serves another file now, report the card as outdated"
        )


def _collect(chunks: Iterator[bytes], size: int, abandoned: threading.Event) -> bytes:
    content = bytearray()
    for chunk in chunks:
        content += chunk
        if len(content) > size or abandoned.is_set():
            break
    return bytes(content)
