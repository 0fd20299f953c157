"""PPO on a MinAtar game with a learned optimiser, in the library's own agent.

By default a run of a minute, which shows that it works; ``--steps 1e7`` is the length
of the published runs.
"""

import argparse

import jax

from learned_opt_rl import envs, open_rl
from learned_opt_rl.agents import PPOConfig, make_train

parser = argparse.ArgumentParser(description=__doc__)
add = parser.add_argument
add("--env", default="Breakout-MinAtar", help="name of a gymnax environment")
add("--steps", type=float, default=2e5, help="environment steps")
add("--num-envs", type=int, default=64, help="environments played in parallel")
add("--seed", type=int, default=0, help="seed of agent, environment and noise")
options = parser.parse_args()

config = PPOConfig(total_timesteps=options.steps, num_envs=options.num_envs)
# The optimiser is told how long this run is. The agent clips the gradients of actor
# and critic apart, so no optax.clip_by_global_norm comes before.
tx = open_rl.pretrained("minatar", horizon=config.horizon(), seed=options.seed)
train = jax.jit(make_train(config, envs.make(options.env), tx))
result = train(jax.random.key(options.seed))
print(f"{config.num_rollouts} rollouts, {config.num_updates} optimiser steps")
print(f"return before {result.returns[0]:.3f}, after {result.final_return:.3f}")
