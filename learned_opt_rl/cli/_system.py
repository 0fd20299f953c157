"""Set up the compilation cache, and add advice to system errors."""

import errno
import hashlib
import importlib.util
import os
import pathlib
import platform
import sys

from learned_opt_rl.artifacts.remote import cache_dir
from learned_opt_rl.errors import FetchError

_JAX_CACHE = "JAX_COMPILATION_CACHE_DIR"
_OWN_CACHE = "LEARNED_OPT_RL_COMPILATION_CACHE"
# The oldest programs are deleted first; a comparison has some of a few megabytes.
_CACHE_BYTES = 2**31
_ADVICE = {
    errno.ENOSPC: "Free space, or pass --out with a folder on another disk",
    errno.EDQUOT: "Free space, or pass --out with a folder on another disk",
    errno.EACCES: "Pass a path that you may read and write",
    errno.EPERM: "Pass a path that you may read and write",
    errno.EROFS: "Pass --out with a folder that is not read-only",
    errno.ENOENT: "Check the path",
    errno.ENOTDIR: "Pass a path whose parents are folders",
    errno.EEXIST: "Pass another path",
    errno.EISDIR: "Pass a file, not a folder",
    errno.ENAMETOOLONG: "Pass a shorter path",
    errno.EMFILE: "Raise the limit of open files (ulimit -n)",
}


def keep_compiled_programs() -> None:
    """Let jax keep compiled programs between commands, in a folder of the user.

    Compiling takes most of the time of a short comparison. Nothing changes if the user
    has a cache of jax, if ``LEARNED_OPT_RL_COMPILATION_CACHE=off``, or if the folder
    cannot be written or belongs to another user, whose native code would run. That
    variable may also name another folder.
    """
    chosen = os.environ.get(_OWN_CACHE, "")
    if chosen == "off" or _JAX_CACHE in os.environ or "jax" in sys.modules:
        return
    try:
        folder = pathlib.Path(chosen) if chosen else _own_folder()
        # Programs of one processor may not run on another with the same home folder.
        folder = folder / _processor()
        folder.mkdir(parents=True, exist_ok=True)
    except (FetchError, OSError):  # no home folder, read-only, or another user's
        return
    # jax bounds the cache with the package filelock.
    if os.access(folder, os.W_OK) and importlib.util.find_spec("filelock"):
        os.environ[_JAX_CACHE] = str(folder)
        os.environ.setdefault("JAX_COMPILATION_CACHE_MAX_SIZE", str(_CACHE_BYTES))


def _own_folder() -> pathlib.Path:
    folder = cache_dir(own=True) / "compiled"
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)  # raises if the folder belongs to another user
    return folder


def _processor() -> str:
    info = pathlib.Path("/proc/cpuinfo")
    text = info.read_text("utf-8", errors="replace") if info.is_file() else ""
    kept = ("model name", "flags", "Features")
    lines = sorted({line for line in text.splitlines() if line.startswith(kept)})
    content = "\n".join([platform.machine(), *lines]).encode()
    return hashlib.sha256(content).hexdigest()[:12]


def system_error(error: OSError) -> str:
    """Return path, reason and advice; other errors have a message of their own."""
    if error.errno is None or error.strerror is None:
        return str(error)
    advice = _ADVICE.get(error.errno, "")
    path = "" if error.filename is None else f"{error.filename}: "
    return f"{path}{error.strerror}{'. ' if advice else ''}{advice}"
