"""The parts of OPEN and No Features, for distillation and analysis.

The rules themselves are in ``open_rl`` and ``no_features``.
"""

from learned_opt_rl.rules._open.network import apply
from learned_opt_rl.rules._open.step import SCALE, deterministic_update
from learned_opt_rl.rules._open.table import no_features_features, open_features

__all__ = [
    "SCALE",
    "apply",
    "deterministic_update",
    "no_features_features",
    "open_features",
]


def __dir__() -> list[str]:
    return __all__
