"""rejax: override the method of its PPO that creates Adam.

This recipe needs ``pip install rejax`` (0.1.3). None of our extras includes rejax,
because it installs a nightly build of TensorFlow Probability.
"""

import gymnax
import jax
import optax
from flax.training.train_state import TrainState
from gymnax.wrappers import LegacyStepAPIWrapper
from rejax import PPO
from rejax.algos.algorithm import register_init

from learned_opt_rl import Horizon, open_rl

# [wiring]
# Actor and critic each have a TrainState, so the paths do not contain the network's
# name. Sorted by name, the actor's head would come before the layers below it.
NETWORKS = {
    "actor_ts": {"actor": ["features/Dense_0", "features/Dense_1", "action_logits"]},
    "critic_ts": {"critic": "Dense_[0-2]/"},
}


class LearnedPPO(PPO):
    """rejax's PPO with a learned optimizer."""

    @register_init
    def initialize_network_params(self, rng):
        """Return PPO's train states with another ``tx``."""
        rollout = self.total_timesteps, self.num_envs, self.num_steps
        horizon = Horizon.ppo(*rollout, self.num_epochs, self.num_minibatches)
        states = super().initialize_network_params(rng)
        for name, state in states.items():
            networks = NETWORKS[name]
            rule = open_rl.pretrained("minatar", horizon=horizon, networks=networks)
            tx = optax.chain(optax.clip_by_global_norm(0.5), rule)
            states[name] = TrainState.create(apply_fn=(), params=state.params, tx=tx)
        return states


# [end]
class FiveValues(LegacyStepAPIWrapper):
    """Wrap an environment for rejax: steps as before gymnax 1.0, and safe copies."""

    def __deepcopy__(self, memo):
        """Return the wrapper itself, because it has no mutable state."""
        return self


env, env_params = gymnax.make("CartPole-v1")
algo = LearnedPPO.create(
    env=FiveValues(env),
    env_params=env_params,
    total_timesteps=65536,
    eval_freq=65536,
    num_envs=16,
    num_steps=128,
    num_epochs=4,
    num_minibatches=4,
)
_, (_, returns) = jax.jit(algo.train)(jax.random.key(0))
print(f"return before {returns[0].mean():.1f}, after {returns[-1].mean():.1f}")
