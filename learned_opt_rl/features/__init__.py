"""What a learned rule sees: inputs per parameter, and how to capture them."""

from learned_opt_rl.features._capture import linen_dormancy as linen_dormancy
from learned_opt_rl.features._capture import nnx_dormancy as nnx_dormancy
from learned_opt_rl.features._dormancy import broadcast_dormancy as broadcast_dormancy
from learned_opt_rl.features._dormancy import dormancy as dormancy
from learned_opt_rl.features._horizon import Horizon as Horizon
from learned_opt_rl.features._horizon import proportions as proportions
from learned_opt_rl.features._momenta import DECAYS as DECAYS
from learned_opt_rl.features._momenta import init_momenta as init_momenta
from learned_opt_rl.features._momenta import update_momenta as update_momenta
from learned_opt_rl.features._networks import LeafRole as LeafRole
from learned_opt_rl.features._networks import Networks as Networks
from learned_opt_rl.features._networks import leaf_roles as leaf_roles
from learned_opt_rl.features._scaling import log_magnitude as log_magnitude
from learned_opt_rl.features._scaling import rms_normalise as rms_normalise
