"""Optional packages of the environments."""

import importlib
import importlib.metadata
from types import ModuleType

from learned_opt_rl.errors import MissingExtraError


def require(module: str, extra: str) -> ModuleType:
    """Import a module; ``MissingExtraError`` names the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(
            f"the environment needs {package}, which is not installed or not "
            f"importable ({error}): pip install 'learned-opt-rl[{extra}]'"
        ) from error


def versions(*packages: str) -> tuple[tuple[str, str], ...]:
    """Return installed packages with their versions, for `Environment.details`."""
    return tuple((name, importlib.metadata.version(name)) for name in packages)
