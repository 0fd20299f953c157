import concurrent.futures
import contextlib
import hashlib
import http.server
import itertools
import os
import pathlib
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import pytest

from learned_opt_rl import artifacts, cli
from learned_opt_rl.artifacts import registry, remote
from learned_opt_rl.errors import (
    ArtifactError,
    FetchError,
    MissingExtraError,
    WeightsError,
)
from tests.artifact_files import (
    PARAMETERS,
    Respond,
    file_server,
    npy_bytes,
    remote_card_data,
    send,
    write_card,
)

CONTENT = npy_bytes(np.arange(PARAMETERS, dtype=np.float32))
NAME = "far/tiny"
Handler = http.server.BaseHTTPRequestHandler
Serve = Callable[[Respond], list[str]]


@pytest.fixture(autouse=True)
def card(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> artifacts.Card:
    """The card of the one artifact there is, whose own address does not exist."""
    data = remote_card_data(CONTENT, NAME)
    write_card(tmp_path / "pretrained" / NAME, data)
    monkeypatch.setattr(registry, "bundled_root", lambda: tmp_path / "pretrained")
    monkeypatch.setenv("LEARNED_OPT_RL_TIMEOUT", "20")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("LEARNED_OPT_RL_MIRROR", raising=False)
    return artifacts.Card.from_dict(data)


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Serve]:
    """A function that sets up a mirror with a given answer to every request."""
    with contextlib.ExitStack() as servers:

        def serve(respond: Respond) -> list[str]:
            address, asked = servers.enter_context(file_server(respond))
            monkeypatch.setenv("LEARNED_OPT_RL_MIRROR", address)
            return asked

        yield serve


def in_cache() -> list[str]:
    folder = remote.cache_dir()
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def good(handler: Handler) -> None:
    send(handler, CONTENT)


class TestCache:
    def test_the_folder_is_chosen_by_environment(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("LEARNED_OPT_RL_CACHE", "/chosen")
        assert remote.cache_dir() == pathlib.Path("/chosen")
        monkeypatch.delenv("LEARNED_OPT_RL_CACHE")
        monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
        assert remote.cache_dir() == pathlib.Path("/xdg/learned-opt-rl")
        monkeypatch.setenv("XDG_CACHE_HOME", "relative")
        monkeypatch.setenv("HOME", "/home/me")
        assert remote.cache_dir() == pathlib.Path("/home/me/.cache/learned-opt-rl")
        monkeypatch.delenv("XDG_CACHE_HOME")
        assert remote.cache_dir() == pathlib.Path("/home/me/.cache/learned-opt-rl")

    @pytest.mark.parametrize("chosen", [None, "~/weights"])
    def test_without_a_home_only_fetching_fails(
        self, monkeypatch: pytest.MonkeyPatch, chosen: str | None, mirror: Serve
    ) -> None:
        def unknown(uid: int) -> None:
            raise KeyError(f"getpwuid(): uid not found: {uid}")

        monkeypatch.setattr("pwd.getpwuid", unknown)
        for name in ("HOME", "XDG_CACHE_HOME", "LEARNED_OPT_RL_CACHE"):
            monkeypatch.delenv(name, raising=False)
        if chosen:
            monkeypatch.setenv("LEARNED_OPT_RL_CACHE", chosen)
        asked = mirror(good)
        assert cli.main(["list"]) == cli.main(["verify"]) == 0
        assert cli.main(["show", NAME]) == 0
        for fetch in (False, True):
            with pytest.raises(FetchError, match="needs a home folder.* set LEARNED"):
                artifacts.load(NAME, fetch=fetch)
        assert asked == []

    def test_a_shared_cache_is_readable_for_others(
        self, card: artifacts.Card, mirror: Serve
    ) -> None:
        mirror(good)
        before = os.umask(0o027)
        try:
            artifacts.load(NAME, fetch=True)
        finally:
            os.umask(before)
        assert remote.cached_path(card).stat().st_mode & 0o777 == 0o640

    def test_a_read_only_cache_serves_what_it_holds(
        self, card: artifacts.Card, mirror: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def denied(path: pathlib.Path, content: bytes) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        mirror(good)
        artifacts.load(NAME, fetch=True)
        monkeypatch.setattr(remote, "write_atomically", denied)
        assert artifacts.load(NAME, fetch=True).weights
        remote.cached_path(card).write_bytes(b"damaged")
        with pytest.raises(FetchError, match="written to .*Permission denied"):
            artifacts.load(NAME, fetch=True)

    def test_the_file_is_named_after_artifact_and_digest(
        self, card: artifacts.Card
    ) -> None:
        digest = hashlib.sha256(CONTENT).hexdigest()
        path = remote.cached_path(card)
        assert path == remote.cache_dir() / f"far--tiny-{digest[:16]}.npy"

    def test_a_damaged_cached_file_is_refused_and_fetched_again(
        self, card: artifacts.Card, mirror: Serve
    ) -> None:
        path = remote.cached_path(card)
        path.write_bytes(CONTENT[:-1] + b"\xff")
        with pytest.raises(WeightsError, match="run `learned-opt-rl fetch far/tiny`"):
            artifacts.load(NAME)
        mirror(good)
        artifacts.load(NAME, fetch=True)
        assert path.read_bytes() == CONTENT
        assert in_cache() == [path.name]


class TestFetch:
    def test_nothing_is_fetched_unasked(
        self, card: artifacts.Card, mirror: Serve
    ) -> None:
        asked = mirror(good)
        with pytest.raises(FetchError) as error:
            artifacts.load(NAME)
        assert asked == []
        assert "`learned-opt-rl fetch far/tiny`" in str(error.value)
        assert "pretrained('far/tiny', fetch=True)" in str(error.value)
        assert str(remote.cached_path(card)) in str(error.value)

    def test_a_fetched_artifact_works_offline_and_without_pooch(
        self, card: artifacts.Card, mirror: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = mirror(good)
        fetched = artifacts.load(NAME, fetch=True)
        assert asked == ["/mirror/tiny_OPEN.npy"]
        assert in_cache() == [remote.cached_path(card).name]
        np.testing.assert_array_equal(fetched.weights["gru"]["hn"]["bias"], [0, 1])

        monkeypatch.setitem(sys.modules, "pooch", None)
        for fetch in (False, True):
            again = artifacts.load(NAME, fetch=fetch)
            np.testing.assert_array_equal(
                again.weights["mlp"]["dense_2"]["kernel"],
                fetched.weights["mlp"]["dense_2"]["kernel"],
            )
        assert len(asked) == 1

    def test_two_threads_may_fetch_at_once(
        self, card: artifacts.Card, mirror: Serve
    ) -> None:
        mirror(good)
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            loaded = pool.map(lambda _: artifacts.load(NAME, fetch=True), range(8))
            assert [artifact.card.name for artifact in loaded] == [NAME] * 8
        assert in_cache() == [remote.cached_path(card).name]

    def test_pooch_is_named_where_it_is_missing(
        self, mirror: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked = mirror(good)
        monkeypatch.setitem(sys.modules, "pooch", None)
        with pytest.raises(MissingExtraError, match=r"learned-opt-rl\[remote\]"):
            artifacts.load(NAME, fetch=True)
        assert asked == []

    def test_credentials_of_the_user_are_not_sent(
        self, mirror: Serve, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        netrc = tmp_path / "netrc"
        netrc.write_text("default login me password secret\n")
        netrc.chmod(0o600)
        monkeypatch.setenv("NETRC", str(netrc))
        headers: list[str | None] = []

        def record(handler: Handler) -> None:
            headers.append(handler.headers["Authorization"])
            good(handler)

        mirror(record)
        artifacts.load(NAME, fetch=True)
        assert headers == [None]


def head(handler: Handler, status: int, **headers: str) -> None:
    handler.send_response(status)
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()


def not_found(handler: Handler) -> None:
    head(handler, 404, Content_Length="0")


def broken(handler: Handler) -> None:
    head(handler, 503, Content_Length="0")


def redirect(handler: Handler) -> None:
    head(handler, 302, Location="https://evil.invalid/x.npy", Content_Length="0")


def truncated(handler: Handler) -> None:
    head(handler, 200, Content_Length=str(len(CONTENT)))
    handler.wfile.write(CONTENT[:-10])


def short(handler: Handler) -> None:
    send(handler, CONTENT[:-10])


def short_of_unknown_length(handler: Handler) -> None:
    head(handler, 200)
    handler.wfile.write(CONTENT[:-10])


def long(handler: Handler) -> None:
    send(handler, CONTENT + b"x")


def endless(handler: Handler) -> None:
    head(handler, 200)
    for _ in range(10**6):
        handler.wfile.write(b"x" * 1000)


def altered(handler: Handler) -> None:
    send(handler, CONTENT[:-1] + b"\xff")


def not_http(handler: Handler) -> None:
    handler.wfile.write(b"\x00\x01\x02 hello\r\n\r\n")


class TestFailures:
    """Whatever the server does: one clear error, and nothing in the cache."""

    @pytest.mark.parametrize(
        ("respond", "message"),
        [
            (not_found, "answered 404 'Not Found'; try again later"),
            (broken, "answered 503"),
            (redirect, "redirects to 'https://evil.invalid/x.npy', which is not"),
            (truncated, "the connection failed"),
            (short, "reports a size of '.*' bytes, but the card states"),
            (short_of_unknown_length, "sent fewer bytes than the"),
            (long, "reports a size of '.*' bytes, but the card states"),
            (endless, "sent more bytes than the"),
            (altered, "serves a different file than the card describes"),
            (not_http, "the connection failed"),
        ],
    )
    def test_a_wrong_answer(
        self, mirror: Serve, respond: Respond, message: str
    ) -> None:
        asked = mirror(respond)
        with pytest.raises(FetchError, match=f"far/tiny: .*{message}"):
            artifacts.load(NAME, fetch=True)
        assert asked == ["/mirror/tiny_OPEN.npy"]
        assert in_cache() == []

    def test_a_wrong_digest_shows_both(
        self, card: artifacts.Card, mirror: Serve
    ) -> None:
        mirror(altered)
        with pytest.raises(FetchError) as error:
            artifacts.load(NAME, fetch=True)
        assert card.weights.sha256 in str(error.value)
        actual = hashlib.sha256(CONTENT[:-1] + b"\xff").hexdigest()
        assert actual in str(error.value)

    def test_a_failure_keeps_what_is_cached(
        self, card: artifacts.Card, mirror: Serve
    ) -> None:
        path = remote.cached_path(card)
        path.write_bytes(b"damaged")
        mirror(not_found)
        with pytest.raises(FetchError):
            artifacts.load(NAME, fetch=True)
        assert path.read_bytes() == b"damaged"
        assert in_cache() == [path.name]

    @pytest.mark.parametrize("stage", ["silent", "headers", "body"])
    def test_a_server_too_slow_is_given_up(
        self, mirror: Serve, monkeypatch: pytest.MonkeyPatch, stage: str
    ) -> None:
        def drip(handler: Handler) -> None:
            if stage == "body":
                head(handler, 200, Content_Length=str(len(CONTENT)))
            for step in itertools.count():
                time.sleep(0.05)
                if step > 100:
                    break
                if stage == "headers":
                    handler.wfile.write(
                        b"HTTP/1.1 200 OK\r\nX: "[step : step + 1] or b"x"
                    )
                elif stage == "body":
                    handler.wfile.write(b"x")

        mirror(drip)
        monkeypatch.setenv("LEARNED_OPT_RL_TIMEOUT", "0.3")
        start = time.monotonic()
        with pytest.raises(FetchError, match="far/tiny: .*(within 0.3 s|timed out)"):
            artifacts.load(NAME, fetch=True)
        assert time.monotonic() - start < 2
        assert in_cache() == []

    def test_no_server(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with file_server(good) as (address, _):
            pass  # the port is free again
        monkeypatch.setenv("LEARNED_OPT_RL_MIRROR", address)
        with pytest.raises(FetchError, match="check the network and try again"):
            artifacts.load(NAME, fetch=True)
        assert in_cache() == []

    def test_an_interrupt_leaves_nothing(
        self, mirror: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(*_: object) -> bytes:
            raise KeyboardInterrupt

        monkeypatch.setattr(remote, "download", interrupted)
        with pytest.raises(KeyboardInterrupt):
            artifacts.load(NAME, fetch=True)
        assert in_cache() == []

    def test_an_interrupt_while_writing_leaves_nothing(
        self, mirror: Serve, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def interrupted(_: int) -> None:
            raise KeyboardInterrupt

        mirror(good)
        monkeypatch.setattr("os.fsync", interrupted)
        with pytest.raises(KeyboardInterrupt):
            artifacts.load(NAME, fetch=True)
        assert in_cache() == []

    @pytest.mark.parametrize("kind", ["a file", "below a file", "not writable"])
    def test_a_cache_that_cannot_be_written(
        self,
        tmp_path: pathlib.Path,
        mirror: Serve,
        monkeypatch: pytest.MonkeyPatch,
        kind: str,
    ) -> None:
        mirror(good)
        file = tmp_path / "file"
        file.write_text("mine")
        folders = {
            "a file": file,
            "below a file": file / "cache",
            # Not even root can create a folder here, unlike one under chmod 0.
            "not writable": pathlib.Path("/proc/learned-opt-rl"),
        }
        monkeypatch.setenv("LEARNED_OPT_RL_CACHE", str(folders[kind]))
        with pytest.raises(
            FetchError, match="LEARNED_OPT_RL_CACHE to a writable folder"
        ):
            artifacts.load(NAME, fetch=True)
        assert file.read_text() == "mine"


class TestSettings:
    @pytest.mark.parametrize("timeout", ["soon", "0", "-1", "nan", "inf", "1e300"])
    def test_a_timeout_is_a_positive_number(
        self, monkeypatch: pytest.MonkeyPatch, timeout: str
    ) -> None:
        monkeypatch.setenv("LEARNED_OPT_RL_TIMEOUT", timeout)
        with pytest.raises(FetchError, match=f"TIMEOUT is '{timeout}'; use a positive"):
            artifacts.load(NAME, fetch=True)

    @pytest.mark.parametrize(
        "address",
        [
            "http://example.invalid/x",
            "http://127.0.0.1.evil.invalid/",
            "ftp://127.0.0.1/",
            "file:///etc",
            "https:///x",
            "mirror",
        ],
    )
    def test_a_mirror_is_https_or_local(
        self, monkeypatch: pytest.MonkeyPatch, address: str
    ) -> None:
        monkeypatch.setenv("LEARNED_OPT_RL_MIRROR", address)
        with pytest.raises(FetchError, match="LEARNED_OPT_RL_MIRROR is '.*'; use an"):
            artifacts.load(NAME, fetch=True)

    @pytest.mark.parametrize(
        "address",
        ["https://mirror.invalid/a/", "http://localhost:1", "http://[::1]:1/a"],
    )
    def test_a_mirror_replaces_all_but_the_file_name(
        self, monkeypatch: pytest.MonkeyPatch, address: str
    ) -> None:
        asked: list[tuple[str, int, float]] = []

        def download(url: str, size: int, deadline: float) -> bytes:
            asked.append((url, size, deadline))
            return CONTENT

        monkeypatch.setattr(remote, "download", download)
        monkeypatch.setenv("LEARNED_OPT_RL_MIRROR", address)
        artifacts.load(NAME, fetch=True)
        url = f"{address.rstrip('/')}/tiny_OPEN.npy"
        assert asked == [(url, len(CONTENT), 20.0)]

    def test_without_a_mirror_the_address_is_the_card_s(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []

        def download(url: str, *_: object) -> bytes:
            asked.append(url)
            return CONTENT

        monkeypatch.setattr(remote, "download", download)
        monkeypatch.delenv("LEARNED_OPT_RL_TIMEOUT")
        artifacts.load(NAME, fetch=True)
        assert asked == ["https://weights.invalid/folder/tiny_OPEN.npy"]

    def test_local_weights_are_not_fetched(self) -> None:
        data = remote_card_data(CONTENT) | {
            "weights": {
                "file": "w.safetensors",
                "sha256": "0" * 64,
                "parameters": 1,
                "format": "safetensors",
            }
        }
        with pytest.raises(ArtifactError, match="are installed already"):
            remote.read(artifacts.Card.from_dict(data), fetch=True)
