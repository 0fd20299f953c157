"""What Dask runs when a worker joins; importing it imports distributed."""

from collections.abc import Iterable
from typing import Any

from distributed import WorkerPlugin

from learned_opt_rl.rundir.provenance import provenance

CLOSING = set[str]()
"""Addresses of workers in this process that have other versions."""


class SameVersions(WorkerPlugin):
    """Refuse a worker whose packages differ from the client's, also one that joins."""

    name = "learned-opt-rl"

    def __init__(self, versions: dict[str, str | None], present: Iterable[str]) -> None:
        self._versions, self._present = versions, frozenset(present)

    def setup(self, worker: Any) -> None:
        """Raise RuntimeError with the differences; a worker that joins is closed."""
        there = provenance()["versions"]
        wrong = [
            f"{name} {there.get(name)} instead of {self._versions.get(name)}"
            for name in sorted(there.keys() | self._versions.keys())
            if there.get(name) != self._versions.get(name)
        ]
        if wrong:
            message = f"{worker.address} has {', '.join(wrong)}"
            # Dask only logs what this raises while a worker joins, and joining must be
            # over before the worker can close.
            if worker.address not in self._present:
                CLOSING.add(worker.address)
                worker.loop.call_later(1, worker.close, reason=message)
            raise RuntimeError(message)
