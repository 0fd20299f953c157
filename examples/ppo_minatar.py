"""PPO on a MinAtar game with a learned optimiser, in the library's own agent."""

import argparse

import jax
import optax

from learned_opt_rl import envs, open_rl
from learned_opt_rl.agents import PPOConfig, make_train
from learned_opt_rl.agents.ppo import Batch, loss

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--env", default="Breakout-MinAtar", help="a gymnax environment")
parser.add_argument("--steps", type=float, default=2e5, help="environment steps")
