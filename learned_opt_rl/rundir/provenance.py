"""Record the versions and the machine that a number depends on."""

import functools
import importlib.metadata
import os
import pathlib
import platform
import shutil
import subprocess
from typing import Any

from learned_opt_rl._version import __version__


def provenance(*packages: str) -> dict[str, Any]:
    """Return what a number depends on besides the configuration.

    ``versions`` are those of the libraries, and of further packages that are installed.
    ``revision`` is the git commit of this checkout (None outside a checkout, ``-dirty``
    at its end if files differ from it). ``device`` is the accelerator; ``cpu`` is the
    processor and the number of cores that this process may use.
    """
    import jax  # Here, because this room loads without jax.

    versions = {name: _version(name) for name in ("jax", "optax", "gymnax")}
    others = {name: version for name in packages if (version := _version(name))}
    return {
        "versions": {"learned_opt_rl": __version__, **versions, **others},
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
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.machine()


def _num_cores() -> int:
    # Containers and schedulers restrict a process to fewer cores than os.cpu_count().
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@functools.cache  # The code in memory stays what it was when this process started.
def _revision() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    described = subprocess.run(
        [git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or None
