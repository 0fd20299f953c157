"""What a number depends on besides the configuration."""

import functools
import importlib.metadata
import os
import pathlib
import platform
import shutil
import subprocess

import jax

from learned_opt_rl._version import __version__
from learned_opt_rl.rundir.jsonl import Row


def provenance(*packages: str) -> Row:
    """What a number depends on besides the configuration.

    Args:
        *packages: Others that it may depend on; those that are installed are told.

    Returns:
        Versions of the libraries, the git revision of this checkout (None outside
        one; ``-dirty`` if files differ from it), the device, and the processor with
        the number of cores this process may use.

    Example:
        >>> sorted(provenance())
        ['cpu', 'device', 'revision', 'versions']
    """
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
    """The processor's name where the system tells it, else its architecture."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.machine()


def _num_cores() -> int:
    """The cores this process may use, where the system tells; else all there are."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


@functools.cache
def _revision() -> str | None:
    """Of the code as this process started to use it, whatever happens to it later."""
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
