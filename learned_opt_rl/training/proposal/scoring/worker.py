"""Evaluate proposals in a process of their own, with limits of time and memory.

The process gets texts of expressions and settings as JSON lines and answers with JSON
lines. It never sees the model's code, the provider or its key. A program that compiles
for too long, or needs too much memory, is killed with the process.

References:
    Goldie et al. 2025 (the published pipeline executes proposals in its own process).
"""

import contextlib
import json
import os
import pathlib
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from typing import Any, Self

_KEPT = (
    "PATH",
    "HOME",
    "LANG",
    "LD_LIBRARY_PATH",
    "PYTHONPATH",
    "TMPDIR",
    "VIRTUAL_ENV",
)
_KEPT_FAMILIES = ("JAX_", "XLA_", "CUDA_", "NVIDIA_", "LEARNED_OPT_RL_")


class WorkerError(RuntimeError):
    """An evaluation that gave no result; the message is for the model and the log.

    It does not mean that the expression is bad: another machine may be faster.
    """


class DivergedError(WorkerError):
    """Training whose returns are not finite, which is the expression's own fault."""


class Worker:
    """A process that evaluates one proposal.

    Args:
        memory: Bytes of address space of the process; None for no limit. It holds on
            a CPU only, because a GPU maps more than it uses.

    Example:
        >>> with Worker() as worker:  # doctest: +SKIP
        ...     worker.ask({"do": "check", "text": text}, seconds=60)
    """

    def __init__(self, memory: int | None = None) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="proposal-")
        self._errors = pathlib.Path(self._folder.name) / "stderr"
        with self._errors.open("wb") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", __name__, str(memory or 0)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                cwd=self._folder.name,
                env=_environment(),
            )
        self._answer = b""

    @property
    def pid(self) -> int:
        """Number of the process."""
        return self._process.pid

    def ask(self, request: Mapping[str, Any], seconds: float) -> dict[str, Any]:
        """Return the answer to a request, or raise `WorkerError` and end the process.

        After the given seconds the process is killed.
        """
        stdin: Any = self._process.stdin
        # If the process has died, reading says how.
        with contextlib.suppress(BrokenPipeError):
            stdin.write(json.dumps(request).encode() + b"\n")
            stdin.flush()
        until = time.monotonic() + seconds
        line = self._line(until)
        # Plugins may print while the worker imports them, before it guards the pipe.
        while line and not line.startswith(b"{"):
            line = self._line(until)
        if line is None:
            self.close()
            raise WorkerError(f"it took more than {seconds:g} seconds")
        if not line:
            raise WorkerError(f"the process died ({self._death()})")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerError(answer["error"])
        return answer

    def close(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            # A request may be left that nobody will read.
            with contextlib.suppress(BrokenPipeError):
                pipe.close() if pipe else None
        self._folder.cleanup()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()

    def _line(self, until: float) -> bytes | None:
        """Return the next line of the process, b"" at its end, None after the time."""
        stdout: Any = self._process.stdout
        while b"\n" not in self._answer:
            left = until - time.monotonic()
            if left <= 0 or not select.select([stdout], [], [], left)[0]:
                return None
            found = os.read(stdout.fileno(), 1 << 16)
            if not found:
                return b""
            self._answer += found
        line, _, self._answer = self._answer.partition(b"\n")
        return line

    def _death(self) -> str:
        code = self._process.wait()
        text = self._errors.read_text("utf-8", errors="replace")
        if code in (-9, -6, -11) or "Out of memory" in text or "MemoryError" in text:
            return "out of memory"
        return f"exit status {code}"


def _environment() -> dict[str, str]:
    """Return the variables that a worker needs; a key is never among them."""
    # A relative entry of PYTHONPATH, such as ".", is of this process's folder.
    here = {"PYTHONPATH": os.pathsep.join(map(os.path.abspath, filter(None, sys.path)))}
    kept = {
        n: v
        for n, v in os.environ.items()
        if n in _KEPT or n.startswith(_KEPT_FAMILIES)
    }
    # Several processes share a GPU, so none takes most of it at once.
    return {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | kept | here


def main() -> None:
    """Answer requests from standard input until it ends."""
    _die_with_parent()
    # Libraries may print; only answers go to the pipe.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    _limit_memory(int(sys.argv[1]))
    for line in sys.stdin:
        answers.write(json.dumps(_answered(json.loads(line))) + "\n")
        answers.flush()


def _limit_memory(memory: int) -> None:
    import jax

    # Query the backend in the worker, because the query allocates GPU memory.
    if memory and jax.default_backend() == "cpu":
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))


def _die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies, even in a long training.

    Elsewhere it ends when it next reads a request.
    """
    if sys.platform == "linux":
        import ctypes

        set_death_signal = 1  # PR_SET_PDEATHSIG of prctl
        ctypes.CDLL(None).prctl(set_death_signal, signal.SIGKILL)


def _answered(request: dict[str, Any]) -> dict[str, Any]:
    from learned_opt_rl.training.proposal.scoring import candidate

    try:
        return candidate.answer(request)
    except MemoryError:
        return {"error": "out of memory"}
    except Exception as error:  # It goes to the model as one line, without paths.
        text = str(error).partition("\n")[0]
        if "RESOURCE_EXHAUSTED" in text or "bad_alloc" in text:
            return {"error": "out of memory"}
        return {"error": f"{type(error).__name__}: {text[:300]}"}


if __name__ == "__main__":
    main()
