"""What Dask runs when a worker joins; importing it imports distributed."""

from collections.abc import Iterable, Mapping
from typing import Any

from distributed import WorkerPlugin

from learned_opt_rl.rundir.provenance import provenance

CLOSING = set[str]()
"""Addresses of workers in this process that are refused and about to close."""

_PACKAGES = ("jaxlib", "numpy", "brax", "craftax", "mujoco")


def versions() -> dict[str, str | None]:
    """Return the versions on which numbers depend, and the revision of this code."""
    known = provenance(*_PACKAGES)
    return known["versions"] | {"revision": known["revision"]}


class SameVersions(WorkerPlugin):
    """Refuse workers that differ from the client, also those that join later.

    Args:
        wanted: The client's `versions`.
        present: Addresses of the workers that are there already.
    """

    def __init__(
        self, wanted: Mapping[str, str | None], present: Iterable[str]
    ) -> None:
        self._wanted, self._present = dict(wanted), frozenset(present)

    def setup(self, worker: Any) -> None:
        """Raise RuntimeError with the differences; a worker that joins is closed."""
        there = versions()
        wrong = [
            f"{name} {there.get(name)} instead of {self._wanted.get(name)}"
            for name in sorted(there.keys() | self._wanted.keys())
            if there.get(name) != self._wanted.get(name)
        ]
        if worker.state.nthreads != 1:
            wrong.append(f"{worker.state.nthreads} threads instead of --nthreads 1")
        if wrong:
            message = f"{worker.address} has {', '.join(wrong)}"
            # Dask only logs what this raises while a worker joins, and joining must be
            # over before the worker can close.
            if worker.address not in self._present:
                CLOSING.add(worker.address)
                worker.loop.call_later(1, worker.close, reason=message)
            raise RuntimeError(message)
