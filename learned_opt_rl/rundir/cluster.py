"""Distribute independent tasks to the workers of a Dask scheduler (extra ``cluster``).

A task is a function of this package, named by its module, with texts and arrays as
arguments and result. Dask sends a task again if its worker dies, and gives up on a task
that has killed several workers.

Dask unpickles what its peers send: anyone who can connect to a scheduler can run code
on it, on its workers and on its clients. Outside a trusted network, use TLS
(``tls://``).

References:
    https://distributed.dask.org/en/stable/tls.html
"""

import asyncio
import contextlib
import importlib
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError
from typing import Any

from learned_opt_rl.errors import MissingExtraError

Task = tuple[Any, ...]
"""Arguments of a function: texts, numbers and NumPy arrays."""

_LOCAL = "local:"
_SECONDS = 30.0  # to reach a scheduler
_TICK = 0.5  # seconds between two looks at the scheduler
_PACKAGES = ("learned_opt_rl",)  # whose functions workers call
# A run uses all cores of its device, whatever the threads of the worker.
_ONE_AT_A_TIME = threading.Lock()


class ClusterError(OSError):
    """The cluster cannot be used, or was lost; finished tasks are not."""


class TaskError(RuntimeError):
    """A task raised on its worker, or killed it. ``trace`` is its traceback."""

    def __init__(self, message: str, trace: str = "") -> None:
        super().__init__(message)
        self.trace = trace


@contextlib.contextmanager
def connected(address: str) -> Iterator["Cluster"]:
    """Connect to a scheduler or start local workers, and close them on exit.

    Args:
        address: Address of a scheduler, for example ``tcp://10.0.0.1:8786``, or
            ``local:4`` for four worker processes on this machine.

    Raises:
        ClusterError: No scheduler answers, or a worker has other versions.
        ValueError: The address has another form.
        MissingExtraError: distributed is not installed.
    """
    try:
        import distributed
    except ImportError as error:
        raise MissingExtraError(
            f"cluster={address!r} needs distributed ({error}); install it with `pip "
            "install learned-opt-rl[cluster]`"
        ) from error
    with contextlib.ExitStack() as stack:
        if address.startswith(_LOCAL):
            local: Any = distributed.LocalCluster(
                n_workers=_count(address),
                threads_per_worker=1,
                dashboard_address="127.0.0.1:0",
            )
            address = stack.enter_context(local).scheduler_address
        try:
            client = stack.enter_context(
                distributed.Client(address, timeout=_SECONDS, set_as_default=False)
            )
        except (OSError, TimeoutError, ValueError, TypeError) as error:
            raise ClusterError(
                f"cluster={address!r}: no scheduler answers ({error}); start one with "
                "`dask scheduler`, or give local:N for N processes on this machine"
            ) from error
        cluster = Cluster(client)
        stack.callback(cluster.close)
        yield cluster


class Cluster:
    """A connection to the workers; see `connected`."""

    def __init__(self, client: Any) -> None:
        self._client = client
        # Loaded here, because distributed takes half a second.
        from learned_opt_rl.rundir._same_versions import SameVersions, versions

        # A name of its own, so that no other client replaces it.
        self._plugin = f"learned-opt-rl-{uuid.uuid4().hex}"
        try:
            plugin = SameVersions(versions(), self._addresses())
            client.register_plugin(plugin, name=self._plugin)
        except Exception as error:  # what workers raise, in several wrappings
            self.close()
            raise ClusterError(
                f"cluster={self.address!r}: a worker is refused: {error}. Start it in "
                "the same way and with the same versions as this command, or stop it"
            ) from error

    def close(self) -> None:
        """Stop refusing workers that join."""
        if self._client.status == "running":
            with contextlib.suppress(OSError, ValueError, TimeoutError):
                self._client.unregister_worker_plugin(self._plugin)

    @property
    def address(self) -> str:
        """The address of the scheduler."""
        return str(self._client.scheduler.address)

    @property
    def workers(self) -> int:
        """The number of workers now.

        Raises:
            ClusterError: The scheduler was lost.
        """
        with self._reached():
            return len(self._addresses())

    def _addresses(self) -> list[str]:
        return list(self._client.scheduler_info(n_workers=-1)["workers"])

    def outcomes(
        self, function: Callable[..., Any], tasks: Sequence[Task]
    ) -> Iterator[tuple[int, Any]]:
        """Yield the index and the result of each task, in the order in which they end.

        The result is a `TaskError` if the task raised, or killed its workers. An
        interrupt cancels the tasks that no worker has begun.

        Args:
            function: Of a module of this package.
            tasks: Its arguments.

        Raises:
            ClusterError: The scheduler was lost.
        """
        name = f"{function.__module__}:{function.__qualname__}"
        # Keys are new, so that a repeated task never finds an old result.
        futures = {
            self._client.submit(perform, name, *task, pure=False): index
            for index, task in enumerate(tasks)
        }
        try:
            while futures:
                for future in [one for one in futures if one.done()]:
                    yield futures.pop(future), self._result(future)
                self._check()
                time.sleep(_TICK if not any(f.done() for f in futures) else 0)
        finally:
            if futures and self._client.status == "running":
                self._client.cancel(list(futures))

    @contextlib.contextmanager
    def _reached(self) -> Iterator[None]:
        """Turn what a lost scheduler raises into ClusterError."""
        lost = (OSError, TimeoutError, CancelledError, asyncio.CancelledError)
        try:
            self._check()
            yield
        except ClusterError:
            raise
        except lost as error:
            raise ClusterError(self._gone()) from error

    def _check(self) -> None:
        if self._client.status != "running":
            raise ClusterError(self._gone())

    def _gone(self) -> str:
        return (
            f"cluster={self.address!r}: the scheduler is gone; start it again and "
            "repeat the command. Finished work is kept"
        )

    def _result(self, future: Any) -> Any:
        if future.status == "finished":
            with self._reached():
                found, problem, trace = future.result()
            return TaskError(problem, trace) if problem else found
        if future.status == "cancelled":
            self._check()  # a lost scheduler cancels them, too
            raise ClusterError(
                f"cluster={self.address!r} has cancelled the tasks; repeat the "
                "command. Finished work is kept"
            )
        with self._reached():
            error = future.exception()
        return TaskError(f"{type(error).__name__}: {error}")


def perform(name: str, *arguments: Any) -> tuple[Any, str, str]:
    """Call a function of this package on a worker: result, error and traceback.

    Errors are texts, because a client would have to unpickle an exception.
    """
    module, _, function = name.partition(":")
    if module.partition(".")[0] not in _PACKAGES:
        raise ValueError(f"name={name!r} is not a function of this package")
    from distributed import Reschedule, get_worker

    from learned_opt_rl.rundir._same_versions import CLOSING

    if get_worker().address in CLOSING:
        time.sleep(_TICK)  # Dask may choose this worker again until it is closed
        raise Reschedule
    try:
        with _ONE_AT_A_TIME:
            made = getattr(importlib.import_module(module), function)(*arguments)
        return made, "", ""
    except Exception as error:  # the other tasks continue
        trace = "".join(traceback.format_exception(error))
        return None, " ".join(f"{type(error).__name__}: {error}".split()), trace


def _count(address: str) -> int:
    text = address.removeprefix(_LOCAL)
    if not text.isdecimal() or not int(text):
        raise ValueError(
            f"cluster={address!r}: give a number of processes, as in local:4"
        )
    return int(text)
