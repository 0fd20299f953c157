"""Machine-discovered reinforcement-learning algorithms as optax transformations.

Names load on first use, so that ``learned_opt_rl.artifacts`` and the command
line never wait for jax:

>>> import optax
>>> from learned_opt_rl import open_rl
>>> tx = optax.chain(optax.clip_by_global_norm(0.5), open_rl.pretrained("minatar"))
"""

import importlib
from typing import TYPE_CHECKING, Any

from learned_opt_rl._version import __version__ as __version__

if TYPE_CHECKING:
    from learned_opt_rl import artifacts as artifacts
    from learned_opt_rl import errors as errors
    from learned_opt_rl import features as features
    from learned_opt_rl.features import Horizon as Horizon
    from learned_opt_rl.rules import open_rl as open_rl
    from learned_opt_rl.rules import pretrained as pretrained

# Public name -> (module, attribute); attribute None means the module itself.
_LAZY: dict[str, tuple[str, str | None]] = {
    "artifacts": ("learned_opt_rl.artifacts", None),
    "errors": ("learned_opt_rl.errors", None),
    "features": ("learned_opt_rl.features", None),
    "Horizon": ("learned_opt_rl.features", "Horizon"),
    "open_rl": ("learned_opt_rl.rules.open_rl", None),
    "pretrained": ("learned_opt_rl.rules", "pretrained"),
}

__all__ = [
    "Horizon",
    "__version__",
    "artifacts",
    "errors",
    "features",
    "open_rl",
    "pretrained",
]


def __getattr__(name: str) -> Any:
    try:
        module_name, attribute = _LAZY[name]
    except KeyError:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}") from None
    module = importlib.import_module(module_name)
    value = module if attribute is None else getattr(module, attribute)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY})
