"""Warnings that name the user's own line."""

import importlib.util
import os
import sys
import warnings


def warn_user(message: str, category: type[Warning] = UserWarning) -> None:
    """Warn, and name the user's own line instead of one in this or another library."""
    if sys.version_info >= (3, 12):
        warnings.warn(message, category, skip_file_prefixes=_LIBRARIES)
        return
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_code.co_filename.startswith(_LIBRARIES):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, category, stacklevel=level)


# Only the libraries that call this one: the code of an agent may be installed too.
_CALLERS = ("learned_opt_rl", "optax", "flax", "jax")
_LIBRARIES = tuple(
    os.path.dirname(spec.origin) + os.sep
    for spec in map(importlib.util.find_spec, _CALLERS)  # which imports none of them
    if spec is not None and spec.origin
)
