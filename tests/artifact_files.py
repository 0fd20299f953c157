"""Cards, weights, plugins and a file server for the tests of artifacts and the CLI."""

import contextlib
import hashlib
import http.server
import io
import json
import pathlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from learned_opt_rl.artifacts.weights import save_safetensors, unflatten_names
from learned_opt_rl.families.open_network import Architecture, open_shapes

CARRY, WIDTH = 2, 3
SHAPES = open_shapes(Architecture(CARRY, WIDTH))
PARAMETERS = sum(int(np.prod(shape)) for shape in SHAPES.values())


def card_data(name: str = "tiny", **changes: Any) -> dict[str, Any]:
    """A valid card of a tiny OPEN optimizer, with some fields replaced."""
    data: dict[str, Any] = {
        "schema": 1,
        "name": name,
        "kind": "optimizer",
        "title": "A tiny optimizer",
        "summary": "For tests.",
        "algorithm": "open",
        "representation": "network",
        "architecture": {"carry": CARRY, "width": WIDTH},
        "inputs": ["parameter", "gradient"],
        "horizon": {"total_updates": 320, "epochs": 4, "minibatches": 8},
        "training": {
            "method": "none",
            "environments": ["Breakout-MinAtar"],
            "description": "Random numbers.",
            "command": None,
            "compute": "none",
            "source": None,
        },
        "license": "MIT",
        "citation": {"text": "Nobody, 2024.", "url": "https://example.org"},
        "weights": {
            "file": "weights.safetensors",
            "sha256": "0" * 64,
            "parameters": PARAMETERS,
            "format": "safetensors",
        },
        "results": [
            {
                "environment": "Breakout-MinAtar",
                "steps": 1000,
                "seeds": 2,
                "metric": "final return",
                "mean": 1.5,
                "interval": [1.0, 2.0],
                "method": "bootstrap",
                "source": "results/breakout.jsonl",
                "command": None,
            }
        ],
        "known_failures": ["Everything."],
    }
    return data | changes


def write_card(folder: pathlib.Path, data: dict[str, Any]) -> pathlib.Path:
    """Write a card and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "card.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def write_artifact(folder: pathlib.Path, name: str, **changes: Any) -> dict[str, Any]:
    """Write matching card and weights; return the card's data."""
    folder.mkdir(parents=True, exist_ok=True)
    vector = np.arange(PARAMETERS, dtype=np.float32)
    weights = unflatten_names(
        {
            path: vector[: np.prod(shape, dtype=int)].reshape(shape)
            for path, shape in SHAPES.items()
        }
    )
    digest = save_safetensors(folder / "weights.safetensors", weights)
    data = card_data(name, **changes)
    data["weights"] = data["weights"] | {"sha256": digest}
    write_card(folder, data)
    return data


def npy_bytes(array: np.ndarray) -> bytes:
    """The content of a .npy file."""
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def remote_card_data(content: bytes, name: str = "far/tiny") -> dict[str, Any]:
    """A card whose weights are ``content``, at an address that does not exist."""
    weights = {
        "url": "https://weights.invalid/folder/tiny_OPEN.npy",
        "sha256": hashlib.sha256(content).hexdigest(),
        "bytes": len(content),
        "parameters": PARAMETERS,
        "format": "flat_npy",
    }
    return card_data(name, weights=weights)


def install_plugin(
    site: pathlib.Path, package: str, entry_points: str, code: str = ""
) -> pathlib.Path:
    """Lay out an installed distribution in ``site``; return its package's folder."""
    metadata = site / f"{package}-1.0.dist-info"
    metadata.mkdir(parents=True)
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n"
    )
    (metadata / "entry_points.txt").write_text(entry_points)
    folder = site / package
    folder.mkdir()
    (folder / "__init__.py").write_text(code)
    return folder


Respond = Callable[[http.server.BaseHTTPRequestHandler], None]


@contextlib.contextmanager
def file_server(respond: Respond) -> Iterator[tuple[str, list[str]]]:
    """Serve every GET with ``respond``; yields the base address and paths asked for."""
    asked: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:  # noqa: N802
            asked.append(self.path)
            # A client that gave up closes its end; that is what these tests provoke.
            with contextlib.suppress(ConnectionError):
                respond(self)

        def log_message(self, *_: Any) -> None:
            """Keep the test's output clean."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    # The default interval would make every shutdown take half a second.
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/mirror", asked
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def send(handler: http.server.BaseHTTPRequestHandler, content: bytes) -> None:
    """Answer with ``content``."""
    handler.send_response(200)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)
