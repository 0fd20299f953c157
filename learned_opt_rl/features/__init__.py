"""The inputs of learned rules, for each parameter, and how to capture them."""

from learned_opt_rl.features._dormancy import (
    broadcast_dormancy,
    dormancy,
    linen_dormancy,
    nnx_dormancy,
)
from learned_opt_rl.features._horizon import Horizon, proportions
from learned_opt_rl.features._networks import LeafRole, Networks, leaf_roles, path_name
from learned_opt_rl.features._signals import (
    DECAYS,
    init_momenta,
    log_magnitude,
    rms_normalize,
    update_momenta,
)

__all__ = [
    "DECAYS",
    "Horizon",
    "LeafRole",
    "Networks",
    "broadcast_dormancy",
    "dormancy",
    "init_momenta",
    "leaf_roles",
    "linen_dormancy",
    "log_magnitude",
    "nnx_dormancy",
    "path_name",
    "proportions",
    "rms_normalize",
    "update_momenta",
]


def __dir__() -> list[str]:
    return __all__
