"""Train the library's PPO agent on a MinAtar game with a learned optimizer.

The default run takes about a minute. The published runs use ``--steps 1e7``.
"""

import argparse

import jax

from learned_opt_rl import envs, open_rl
from learned_opt_rl.agents import PPOConfig, make_train

parser = argparse.ArgumentParser(description=__doc__)
add = parser.add_argument
add("--env", default="Breakout-MinAtar", help="name of a gymnax environment")
add("--steps", type=float, default=2e5, help="environment steps")
add("--num-envs", type=int, default=64, help="number of parallel environments")
add("--seed", type=int, default=0, help="seed of agent, environment and noise")
options = parser.parse_args()

config = PPOConfig(total_timesteps=options.steps, num_envs=options.num_envs)
# The horizon is the length of this run. The agent already clips the gradients of actor
# and critic separately, so the optimizer needs no optax.clip_by_global_norm.
tx = open_rl.pretrained("minatar", horizon=config.horizon(), seed=options.seed)
train = jax.jit(make_train(config, envs.make(options.env), tx))
result = train(jax.random.key(options.seed))
print(f"{config.num_rollouts} rollouts, {config.num_updates} optimizer steps")
print(f"return before {result.returns[0]:.3f}, after {result.final_return:.3f}")
