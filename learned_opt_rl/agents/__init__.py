"""Inner loops: the agents that update rules are trained and measured on."""

from learned_opt_rl.agents.config import A2CConfig as A2CConfig
from learned_opt_rl.agents.config import LPGConfig as LPGConfig
from learned_opt_rl.agents.ppo import PPOConfig as PPOConfig
from learned_opt_rl.agents.ppo import Runner as Runner
from learned_opt_rl.agents.ppo import TrainResult as TrainResult
from learned_opt_rl.agents.ppo import make_loop as make_loop
from learned_opt_rl.agents.ppo import make_train as make_train
from learned_opt_rl.agents.presets import LPGArms as LPGArms
from learned_opt_rl.agents.presets import by_network as by_network
from learned_opt_rl.agents.presets import lpg_arms as lpg_arms
from learned_opt_rl.agents.presets import lpg_optimizer as lpg_optimizer
from learned_opt_rl.agents.presets import lpg_optimizers as lpg_optimizers
from learned_opt_rl.agents.presets import preset as preset
from learned_opt_rl.agents.rollouts import act as act
