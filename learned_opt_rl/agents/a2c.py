"""A2C: one optimizer step on each rollout, without clipping and epochs.

Rollouts, networks, normalization and the optimizer's inputs are those of PPO.

References:
    Mnih et al., "Asynchronous Methods for Deep Reinforcement Learning", 2016.
    Oh et al., "Discovering Reinforcement Learning Algorithms", 2020 (the baseline of
    its figures; a tabular agent has ``hidden=()``).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.agents import actor_critic
from learned_opt_rl.agents.actor_critic import Batch, Loop, Params
from learned_opt_rl.agents.actor_critic import Runner as Runner
from learned_opt_rl.agents.config import A2CConfig as A2CConfig
from learned_opt_rl.agents.rollouts import TrainResult as TrainResult
from learned_opt_rl.agents.rollouts import train_by
from learned_opt_rl.envs.adapter import Environment


def loss(params: Params, batch: Batch, config: A2CConfig) -> tuple[jax.Array, Any]:
    """Return A2C's loss on one rollout; the arguments are those of `ppo.loss`.

    Returns:
        The mean of ``-log_prob * advantage``, plus ``vf_coef`` times half the mean
        squared error of the values, minus ``ent_coef`` times the entropy; and the
        dormancy of every layer's neurons, as in PPO.
    """
    policy, value, dormancies = actor_critic.evaluate(params, batch.observation, config)
    policy_loss = -(policy.log_prob(batch.action) * batch.advantage).mean()
    value_loss = 0.5 * jnp.square(value - batch.target).mean()
    entropy = policy.entropy()
    total = policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy
    return total, dormancies


def make_loop(
    config: A2CConfig, env: Environment, optimizer: optax.GradientTransformation
) -> Loop:
    """Build ``start`` and ``iterate``, as `ppo.make_loop` does."""
    optimizer = optax.with_extra_args_support(optimizer)

    def learn(params: Any, opt_state: Any, batch: Batch, key: jax.Array) -> Any:
        carry = params, opt_state
        return actor_critic.descend(loss, config, optimizer, *carry, batch, config)

    # A bias would share one value across all states of a table.
    tabular = not config.hidden and not config.conv
    return actor_critic.make_loop(config, env, optimizer, learn, bias=not tabular)


def make_train(
    config: A2CConfig, env: Environment, optimizer: optax.GradientTransformation
) -> Callable[[jax.Array], TrainResult]:
    """Build a whole run as one pure function of a key, as `ppo.make_train` does.

    Example:
        >>> import jax, optax
        >>> from learned_opt_rl import envs
        >>> config = A2CConfig(800, num_envs=4, hidden=(16,))
        >>> train = make_train(config, envs.make("CartPole-v1"), optax.adam(1e-3))
        >>> jax.jit(train)(jax.random.key(0)).returns.shape
        (10,)
    """
    return train_by(make_loop(config, env, optimizer), config.num_rollouts)
