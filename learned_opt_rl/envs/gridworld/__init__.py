"""Grid worlds: distributions of levels, their dynamics, and their optimal returns.

`environment` builds one for an agent, from a name of `NAMES`. The modes are in
``modes.json``.

References:
    Oh et al., "Discovering Reinforcement Learning Algorithms", 2020, appendix A.
    Jackson et al., "Discovering General Reinforcement Learning Algorithms with
    Adversarial Environment Design", 2023 (GROOVE).
"""

from learned_opt_rl.envs.gridworld.dynamics import State as State
from learned_opt_rl.envs.gridworld.dynamics import begin as begin
from learned_opt_rl.envs.gridworld.dynamics import effect as effect
from learned_opt_rl.envs.gridworld.dynamics import environment as environment
from learned_opt_rl.envs.gridworld.dynamics import observe as observe
from learned_opt_rl.envs.gridworld.dynamics import step as step
from learned_opt_rl.envs.gridworld.dynamics import transition as transition
from learned_opt_rl.envs.gridworld.levels import Level as Level
from learned_opt_rl.envs.gridworld.levels import sample_level as sample_level
from learned_opt_rl.envs.gridworld.levels import sample_lifetime as sample_lifetime
from learned_opt_rl.envs.gridworld.modes import NAMES as NAMES
from learned_opt_rl.envs.gridworld.modes import Actions as Actions
from learned_opt_rl.envs.gridworld.modes import Interval as Interval
from learned_opt_rl.envs.gridworld.modes import LevelDistribution as LevelDistribution
from learned_opt_rl.envs.gridworld.modes import Mode as Mode
from learned_opt_rl.envs.gridworld.modes import ObjectType as ObjectType
from learned_opt_rl.envs.gridworld.modes import Observation as Observation
from learned_opt_rl.envs.gridworld.modes import get_mode as get_mode
from learned_opt_rl.envs.gridworld.optimal import action_values as action_values
from learned_opt_rl.envs.gridworld.optimal import optimal_return as optimal_return
from learned_opt_rl.envs.gridworld.optimal import value_table as value_table
