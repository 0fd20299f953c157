"""Black-box distillation: networks trained to imitate the updates of another rule.

References:
    Goldie et al. 2025, "How Should We Meta-Learn RL Algorithms?", sections 4.2 and 7,
    appendix A.3.
"""

from learned_opt_rl.training.distillation.config import PRESETS as PRESETS
from learned_opt_rl.training.distillation.config import (
    DistillationConfig as DistillationConfig,
)
from learned_opt_rl.training.distillation.config import configure as configure
from learned_opt_rl.training.distillation.run import distill as distill
from learned_opt_rl.training.distillation.teachers import Teacher as Teacher
from learned_opt_rl.training.distillation.teachers import teacher as teacher
