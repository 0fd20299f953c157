"""Record the versions and the machine that a number depends on."""

import functools
import importlib.metadata
import os
import pathlib
import platform
import subprocess
from typing import Any

from learned_opt_rl._version import __version__


def provenance(*packages: str) -> dict[str, Any]:
    """Return what a number depends on besides the configuration.

    ``versions`` are those of Python, of the libraries, and of further packages that are
    installed. ``revision`` is the git commit of the library's own checkout (None
    outside one or without git, ``-dirty`` at its end if files differ from it).
    ``device`` is the accelerator; ``cpu`` is the processor and the number of cores that
    this process may use.
    """
    import jax  # Here, because this room loads without jax.

    versions = {name: _version(name) for name in ("jax", "optax", "gymnax")}
    others = {name: version for name in packages if (version := _version(name))}
    return {
        "versions": {
            "learned_opt_rl": __version__,
            "python": platform.python_version(),
            **versions,
            **others,
        },
        "revision": _revision(),
        "device": jax.devices()[0].device_kind,
        "cpu": f"{_cpu_model()}, {_num_cores()} cores",
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    # Only Linux names the processor in a file; elsewhere the architecture must do.
    info = pathlib.Path("/proc/cpuinfo")
    text = info.read_text("utf-8", errors="replace") if info.is_file() else ""
    lines = text.splitlines()
    names = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.machine()


def _num_cores() -> int:
    # Containers and schedulers restrict a process to fewer cores than os.cpu_count().
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@functools.cache  # The code in memory stays what it was when this process started.
def _revision() -> str | None:
    file = pathlib.Path(__file__).resolve()
    root = file.parents[2]
    settings = root / "pyproject.toml"
    # An installed or vendored copy may lie in the repository of its user.
    if not ((root / ".git").exists() and settings.is_file()):
        return None
    if b'name = "learned-opt-rl"' not in settings.read_bytes():
        return None
    if _git(root, "ls-files", "--error-unmatch", str(file)) is None:
        return None
    return _git(root, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(root: pathlib.Path, *arguments: str) -> str | None:
    """Return the output of git; None if git is missing or refuses."""
    # Within a hook or an alias these name the user's repository.
    kept = ("GIT_CONFIG", "GIT_EXEC_PATH")
    env = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("GIT_") or name.startswith(kept)
    }
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments],
            env=env | {"GIT_OPTIONAL_LOCKS": "0"},  # the checkout may be read-only
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            check=False,
        )
    except OSError:
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
