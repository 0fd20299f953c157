"""Train LPG by meta-gradients: a pool of agents learns while the rule learns from them.

`preset` gives a configuration and `Training` runs it in a folder. ``objective`` is the
meta-gradient of one lifetime, for a loop of your own.

References:
    Oh et al., "Discovering Reinforcement Learning Algorithms", 2020.
    Jackson et al., "Discovering General Reinforcement Learning Algorithms with
    Adversarial Environment Design", 2023 (GROOVE).
"""

from learned_opt_rl.training.meta_gradients.config import PRESETS as PRESETS
from learned_opt_rl.training.meta_gradients.config import (
    MetaGradientConfig as MetaGradientConfig,
)
from learned_opt_rl.training.meta_gradients.config import preset as preset
from learned_opt_rl.training.meta_gradients.run import Estimate as Estimate
from learned_opt_rl.training.meta_gradients.run import Training as Training

__all__ = ["PRESETS", "Estimate", "MetaGradientConfig", "Training", "preset"]
__dir__ = __all__.copy
