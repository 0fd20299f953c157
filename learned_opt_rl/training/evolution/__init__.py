"""Meta-training by evolution: populations of learned rules, each judged by full runs.

References:
    Salimans et al., "Evolution Strategies as a Scalable Alternative to Reinforcement
    Learning", 2017.
    Goldie et al., "Can Learned Optimization Make RL Less Difficult?", 2024, section
    5.2 and appendix C.3; "How Should We Meta-Learn RL Algorithms?", 2025, section 4.1
    and table 8.
"""

from learned_opt_rl.training.evolution.campaign import Campaign as Campaign
from learned_opt_rl.training.evolution.campaign import Execution as Execution
from learned_opt_rl.training.evolution.config import PRESETS as PRESETS
from learned_opt_rl.training.evolution.config import EvolutionConfig as EvolutionConfig
from learned_opt_rl.training.evolution.config import preset as preset
