"""The inputs of learned rules, for each parameter, and how to capture them."""

from learned_opt_rl.features._capture import linen_dormancy, nnx_dormancy
from learned_opt_rl.features._dormancy import broadcast_dormancy, dormancy
from learned_opt_rl.features._horizon import Horizon, proportions
from learned_opt_rl.features._networks import (
    Layers,
    LeafRole,
    Networks,
    explain,
    leaf_roles,
    roles_or_warning,
)
from learned_opt_rl.features._paths import NamedLeaf, named_leaves
from learned_opt_rl.features._signals import (
    DECAYS,
    init_momenta,
    log_magnitude,
    rms_normalize,
    rms_scale,
    update_momenta,
)

__all__ = [
    "DECAYS",
    "Horizon",
    "Layers",
    "LeafRole",
    "NamedLeaf",
    "Networks",
    "broadcast_dormancy",
    "dormancy",
    "explain",
    "init_momenta",
    "leaf_roles",
    "linen_dormancy",
    "log_magnitude",
    "nnx_dormancy",
    "named_leaves",
    "proportions",
    "rms_normalize",
    "roles_or_warning",
    "rms_scale",
    "update_momenta",
]
__dir__ = __all__.copy
