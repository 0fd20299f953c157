"""PPO, end to end in one jitted function, with optimiser and drift as arguments.

Learned optimisers overfit the loop they were trained in, so every detail here is the
one the published optimisers saw: separate actor and critic, their gradients clipped
apart, advantages normalised per minibatch, PPO2's clipped value loss. Continuous
actions are drawn from a diagonal Gaussian whose deviation does not depend on the
observation, ``params["actor"]["log_std"]``.

References:
    Schulman et al., "Proximal Policy Optimization Algorithms", 2017.
    Lu et al., "Discovered Policy Optimisation", 2022 (the vectorised loop).
    Goldie et al., "Can Learned Optimization Make RL Less Difficult?", 2024.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.agents import _actor_critic as actor_critic
from learned_opt_rl.agents._actor_critic import Batch as Batch
from learned_opt_rl.agents._actor_critic import Loop, Params
from learned_opt_rl.agents._actor_critic import Runner as Runner
from learned_opt_rl.agents._actor_critic import gae as gae
from learned_opt_rl.agents._actor_critic import init_params as init_params
from learned_opt_rl.agents._training import TrainResult as TrainResult
from learned_opt_rl.agents._training import train_by
from learned_opt_rl.agents.config import PPOConfig as PPOConfig
from learned_opt_rl.envs.adapter import Environment
from learned_opt_rl.rules import drifts, losses


def loss(
    params: Params,
    batch: Batch,
    config: PPOConfig,
    drift: drifts.Drift | None = None,
) -> tuple[jax.Array, Any]:
    """PPO's loss on one minibatch.

    Args:
        params: The agent.
        batch: Fields of shape ``[B]``; observations ``[B, features]`` (or images, with
            convolutions), continuous actions ``[B, num_actions]``.
        config: Coefficients.
        drift: Of the policy loss; by default PPO's, clipping at ``config.clip_eps``.

    Returns:
        The loss, and the dormancy of every layer's neurons as the tree
        ``{"actor": {"Dense_i": [width]}, "critic": ...}``.
    """
    policy, value, dormancies = actor_critic.evaluate(params, batch.observation, config)

    advantage = batch.advantage
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    ratio = jnp.exp(policy.log_prob(batch.action) - batch.log_prob)
    drift = drifts.ppo(config.clip_eps) if drift is None else drift
    policy_loss = losses.policy_loss(ratio, advantage, drift)

    change = jnp.clip(value - batch.value, -config.clip_eps, config.clip_eps)
    errors = jnp.square(value - batch.target)
    clipped_errors = jnp.square(batch.value + change - batch.target)
    value_loss = 0.5 * jnp.maximum(errors, clipped_errors).mean()

    entropy = policy.entropy()
    total = policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy
    return total, dormancies


def _optimise(
    config: PPOConfig,
    optimizer: optax.GradientTransformationExtraArgs,
    drift: drifts.Drift | None,
    params: optax.Params,
    opt_state: optax.OptState,
    batch: Batch,
    key: jax.Array,
) -> tuple[optax.Params, optax.OptState]:
    """Takes ``epochs * minibatches`` optimiser steps on one rollout."""

    def minibatch_step(carry: Any, rows: jax.Array) -> tuple[Any, None]:
        # Taken here, not for the whole epoch before, the rows are copied once only.
        minibatch = jax.tree.map(lambda x: x[rows], batch)
        arguments = minibatch, config, drift
        return actor_critic.descend(loss, config, optimizer, *carry, *arguments), None

    def epoch(carry: Any, key: jax.Array):
        order = jax.random.permutation(key, config.batch_size)
        order = order.reshape(config.minibatches, -1)
        return jax.lax.scan(minibatch_step, carry, order)

    keys = jax.random.split(key, config.epochs)
    return jax.lax.scan(epoch, (params, opt_state), keys)[0]


def make_loop(
    config: PPOConfig,
    env: Environment,
    optimizer: optax.GradientTransformation,
    *,
    drift: drifts.Drift | None = None,
) -> Loop:
    """Builds a run's two pieces, for those who want to hold the loop themselves.

    Args:
        config: The run.
        env: Where it is played.
        optimizer: See `make_train`.
        drift: See `make_train`.

    Returns:
        ``start(key) -> Runner`` and ``iterate(runner) -> Runner``, one rollout and
        the optimiser steps on it; both pure, to be jitted and vmapped.

    Example:
        >>> import jax, optax
        >>> from learned_opt_rl import envs
        >>> config = PPOConfig(1024, num_envs=4, num_steps=32, minibatches=4)
        >>> env = envs.make("CartPole-v1")
        >>> start, iterate = make_loop(config, env, optax.adam(1e-3))
        >>> runner = jax.jit(iterate)(start(jax.random.key(0)))
        >>> runner.mean_return.shape
        ()
    """
    optimizer = optax.with_extra_args_support(optimizer)

    def learn(params: Any, opt_state: Any, batch: Batch, key: jax.Array) -> Any:
        return _optimise(config, optimizer, drift, params, opt_state, batch, key)

    return actor_critic.make_loop(config, env, optimizer, learn)


def make_train(
    config: PPOConfig,
    env: Environment,
    optimizer: optax.GradientTransformation,
    *,
    drift: drifts.Drift | None = None,
) -> Callable[[jax.Array], TrainResult]:
    """Builds a whole training run as one pure function of a key.

    Args:
        config: The run.
        env: Where it is played.
        optimizer: Any optax transformation. Its ``update`` gets the gradient, already
            clipped, the parameters and, if it takes extra arguments, ``dormancy``.
        drift: What takes the place of clipping in the policy loss, such as
            ``drifts.dpo()``; by default PPO's drift with ``config.clip_eps``. The
            value loss is clipped in any case.

    Returns:
        ``train(key) -> TrainResult``, to be jitted, and vmapped over keys for seeds.
        It reports nothing as it goes; for progress, hold the loop with `make_loop`.

    Example:
        >>> import jax, optax
        >>> from learned_opt_rl import envs
        >>> config = PPOConfig(1024, num_envs=4, num_steps=32, minibatches=4)
        >>> train = make_train(config, envs.make("CartPole-v1"), optax.adam(1e-3))
        >>> jax.jit(train)(jax.random.key(0)).returns.shape
        (8,)

        Learning rates side by side, as one program; fields of the configuration such
        as ``gamma`` can be varied in the same way:

        >>> import jax.numpy as jnp
        >>> def final_return(learning_rate):
        ...     adam = optax.adam(learning_rate)
        ...     train = make_train(config, envs.make("CartPole-v1"), adam)
        ...     return train(jax.random.key(0)).final_return
        >>> population = jax.jit(jax.vmap(final_return))
        >>> population(jnp.array([1e-3, 1e-2, 1e-1])).shape
        (3,)
    """
    loop = make_loop(config, env, optimizer, drift=drift)
    return train_by(loop, config.num_rollouts)
