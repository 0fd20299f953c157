"""PPO in the style of purejaxrl: one module, one TrainState, one new optimizer.

``networks=`` assigns the layers to actor and critic. Values are not clipped.
"""

import gymnax
import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.training.train_state import TrainState
from gymnax.wrappers import LegacyStepAPIWrapper, LogWrapper

from learned_opt_rl import Horizon, open_rl
from learned_opt_rl.agents.ppo import gae

ENVS, STEPS, EPOCHS, MINIBATCHES, ROLLOUTS = 16, 128, 4, 4, 30


class ActorCritic(nn.Module):
    """Two networks that share only a scope."""

    @nn.compact
    def __call__(self, x):
        """Return the actions' log-probabilities and the value of each observation."""
        h = nn.tanh(nn.Dense(64)(x))
        h = nn.tanh(nn.Dense(64)(h))
        log_probs = nn.log_softmax(nn.Dense(2)(h))
        h = nn.tanh(nn.Dense(64)(x))
        h = nn.tanh(nn.Dense(64)(h))
        return log_probs, nn.Dense(1)(h)[..., 0]


network, (key, *keys) = ActorCritic(), jax.random.split(jax.random.key(0), 2 + ROLLOUTS)
# [wiring]
horizon = Horizon.ppo(ENVS * STEPS * ROLLOUTS, ENVS, STEPS, EPOCHS, MINIBATCHES)
networks = {"actor": "Dense_[0-2]/", "critic": "Dense_[3-5]/"}
rule = open_rl.pretrained("minatar", horizon=horizon, networks=networks)
params = network.init(key, jnp.zeros(4))
tx = optax.chain(optax.clip_by_global_norm(0.5), rule)
train_state = TrainState.create(apply_fn=network.apply, params=params, tx=tx)
# [end]
env, env_params = gymnax.make("CartPole-v1")
env = LegacyStepAPIWrapper(LogWrapper(env))  # since gymnax 1.0, step returns six values
reset, env_step = jax.vmap(env.reset, (0, None)), jax.vmap(env.step, (0, 0, 0, None))


def _env_step(runner_state, key):
    train_state, env_state, obs = runner_state
    key, *keys = jax.random.split(key, 1 + ENVS)
    log_probs, value = network.apply(train_state.params, obs)
    action = jax.nn.one_hot(jax.random.categorical(key, log_probs), 2)
    next_obs, env_state, reward, done, info = env_step(
        jnp.stack(keys), env_state, action.argmax(-1), env_params
    )
    played = (obs, action, log_probs, value), reward, done, info
    return (train_state, env_state, next_obs), played


def _loss_fn(params, batch):
    (obs, action, old_log_probs, old_value), advantage = batch
    log_probs, value = network.apply(params, obs)
    ratio = jnp.exp(((log_probs - old_log_probs) * action).sum(-1))
    gae = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    actor = -jnp.minimum(ratio * gae, jnp.clip(ratio, 0.8, 1.2) * gae).mean()
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    return actor + 0.25 * ((value - old_value - advantage) ** 2).mean() - 0.01 * entropy


def _update_minibatch(train_state, batch):
    grads = jax.grad(_loss_fn)(train_state.params, batch)
    return train_state.apply_gradients(grads=grads), None


def _update_step(runner_state, key):
    key, *keys = jax.random.split(key, 1 + EPOCHS)
    runner_state, (acted, reward, done, info) = jax.lax.scan(
        _env_step, runner_state, jax.random.split(key, STEPS)
    )
    train_state, env_state, obs = runner_state
    last_value = network.apply(train_state.params, obs)[1]
    batch = acted, gae(reward, done, acted[3], last_value, 0.99, 0.95)
    batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
    order = jnp.stack([jax.random.permutation(key, ENVS * STEPS) for key in keys])
    order = order.reshape(EPOCHS * MINIBATCHES, -1)
    minibatches = jax.tree.map(lambda x: x[order], batch)
    train_state, _ = jax.lax.scan(_update_minibatch, train_state, minibatches)
    return (train_state, env_state, obs), info["returned_episode_returns"][-1].mean()


obs, env_state = reset(jax.random.split(keys[0], ENVS), env_params)
train = jax.jit(lambda *runner_state: jax.lax.scan(_update_step, *runner_state))
_, returns = train((train_state, env_state, obs), jnp.stack(keys[1:]))
print(f"return before {returns[0]:.1f}, after {returns[-1]:.1f}")
