"""Meta-training: evolution, distillation, meta-gradients, proposals, symbolic search.

The modules load on first use, because they import jax and need the extra ``train``.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from learned_opt_rl.training import distillation as distillation
    from learned_opt_rl.training import evolution as evolution
    from learned_opt_rl.training import meta_gradients as meta_gradients
    from learned_opt_rl.training import promotion as promotion
    from learned_opt_rl.training import proposal as proposal
    from learned_opt_rl.training import symbolic as symbolic

_MODULES = (
    "distillation",
    "evolution",
    "meta_gradients",
    "promotion",
    "proposal",
    "symbolic",
)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return importlib.import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted(_MODULES)
