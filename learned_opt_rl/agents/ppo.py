"""PPO as one jitted function, with the optimizer and the drift as arguments.

Learned optimizers overfit the loop they were trained in, so every detail here equals
that of the published runs: separate actor and critic, gradients clipped separately,
advantages normalized per minibatch, PPO2's clipped value loss. Continuous actions come
from a diagonal Gaussian whose deviation, ``params["actor"]["log_std"]``, does not
depend on the observation.

References:
    Schulman et al., "Proximal Policy Optimization Algorithms", 2017.
    Lu et al., "Discovered Policy Optimisation", 2022 (the vectorized loop).
    Goldie et al., "Can Learned Optimization Make RL Less Difficult?", 2024.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.agents import actor_critic
from learned_opt_rl.agents.actor_critic import Batch as Batch
from learned_opt_rl.agents.actor_critic import Loop, Params
from learned_opt_rl.agents.actor_critic import Runner as Runner
from learned_opt_rl.agents.actor_critic import gae as gae
from learned_opt_rl.agents.actor_critic import init_params as init_params
from learned_opt_rl.agents.config import PPOConfig as PPOConfig
from learned_opt_rl.agents.rollouts import TrainResult as TrainResult
from learned_opt_rl.agents.rollouts import train_by
from learned_opt_rl.envs.adapter import Environment
from learned_opt_rl.rules import drifts, losses


def loss(
    params: Params,
    batch: Batch,
    config: PPOConfig,
    drift: drifts.Drift | None = None,
) -> tuple[jax.Array, Any]:
    """Return PPO's loss on one minibatch.

    Args:
        params: The agent.
        batch: Fields of shape ``[B]``; observations ``[B, features]`` (or images, with
            convolutions), continuous actions ``[B, num_actions]``.
        config: Coefficients.
        drift: Drift of the policy loss; by default PPO's, with ``config.clip_eps``.

    Returns:
        The loss, and the dormancy of every layer's neurons as the tree
        ``{"actor": {"Dense_i": [width]}, "critic": ...}``.
    """
    policy, value, dormancies = actor_critic.evaluate(params, batch.observation, config)

    advantage = batch.advantage
    # 1e-8 as in purejaxrl: it only guards constant advantages.
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    ratio = jnp.exp(policy.log_prob(batch.action) - batch.log_prob)
    drift = drifts.ppo(config.clip_eps) if drift is None else drift
    policy_loss = losses.policy_loss(ratio, advantage, drift)

    # PPO2 clips the value's change by the same width as the ratio.
    change = jnp.clip(value - batch.value, -config.clip_eps, config.clip_eps)
    errors = jnp.square(value - batch.target)
    clipped_errors = jnp.square(batch.value + change - batch.target)
    value_loss = 0.5 * jnp.maximum(errors, clipped_errors).mean()

    entropy = policy.entropy()
    total = policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy
    return total, dormancies


def _optimize(
    config: PPOConfig,
    optimizer: optax.GradientTransformationExtraArgs,
    drift: drifts.Drift | None,
    params: optax.Params,
    opt_state: optax.OptState,
    batch: Batch,
    key: jax.Array,
) -> tuple[optax.Params, optax.OptState]:
    """Take ``epochs * minibatches`` optimizer steps on one rollout."""

    def minibatch_step(carry: Any, rows: jax.Array) -> tuple[Any, None]:
        # Gathering rows here instead of once per epoch copies them only once.
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
    """Build the two functions of a run, for a loop of your own.

    The arguments are those of `make_train`.

    Returns:
        ``start(key) -> Runner`` and ``iterate(runner) -> Runner``. The latter plays one
        rollout and takes the optimizer steps on it. Both are pure: jit and vmap them.

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
    learn = functools.partial(_optimize, config, optimizer, drift)
    return actor_critic.make_loop(config, env, optimizer, learn)


def make_train(
    config: PPOConfig,
    env: Environment,
    optimizer: optax.GradientTransformation,
    *,
    drift: drifts.Drift | None = None,
) -> Callable[[jax.Array], TrainResult]:
    """Build a whole training run as one pure function of a key.

    Args:
        config: The run.
        env: The environment.
        optimizer: Any optax transformation. Its ``update`` gets the clipped gradient,
            the parameters and, if it takes extra arguments, ``dormancy``.
        drift: Replaces clipping in the policy loss, for example ``drifts.dpo()``; by
            default PPO's drift with ``config.clip_eps``. The value loss is clipped in
            any case.

    Returns:
        ``train(key) -> TrainResult``. Jit it, and vmap it over keys for several seeds.
        To report progress during the run, use `make_loop`.

    Example:
        >>> import jax, optax
        >>> from learned_opt_rl import envs
        >>> config = PPOConfig(1024, num_envs=4, num_steps=32, minibatches=4)
        >>> train = make_train(config, envs.make("CartPole-v1"), optax.adam(1e-3))
        >>> jax.jit(train)(jax.random.key(0)).returns.shape
        (8,)

        One program trains several learning rates side by side. Fields of the
        configuration such as ``gamma`` can vary in the same way:

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
