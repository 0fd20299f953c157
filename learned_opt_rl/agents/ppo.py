"""PPO, end to end in one jitted function, with optimiser and drift as arguments.

Learned optimisers overfit the loop they were trained in, so every detail here is the
one the published optimisers saw: separate actor and critic, their gradients clipped
apart, advantages normalised per minibatch, PPO2's clipped value loss. Read `make_loop`
first; the functions above it are its steps, in order.

References:
    Schulman et al., "Proximal Policy Optimization Algorithms", 2017.
    Lu et al., "Discovered Policy Optimisation", 2022 (the vectorised loop).
    Goldie et al., "Can Learned Optimization Make RL Less Difficult?", 2024.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.agents._gradients import clip_by_norm
from learned_opt_rl.agents._rollouts import collect, flatten, select
from learned_opt_rl.agents.config import PPOConfig as PPOConfig
from learned_opt_rl.agents.networks import MLP, apply_mlp, init_mlp
from learned_opt_rl.envs.adapter import Environment, EpisodeState
from learned_opt_rl.features import dormancy
from learned_opt_rl.rules import drifts, losses

Params = dict[str, MLP]
"""``{"actor": MLP, "critic": MLP}``."""


class TrainResult(NamedTuple):
    """What a run leaves.

    Attributes:
        params: ``{"actor": ..., "critic": ...}``, the agent at the end.
        opt_state: The optimiser's state at the end.
        returns: float32 ``[num_rollouts]``, the learning curve: at the end of each
            rollout, the mean over environments of the return of the episode each
            finished last, counting 0 for one that has finished none.
        final_return: float32 scalar, the last of them.
    """

    params: Params
    opt_state: optax.OptState
    returns: jax.Array
    final_return: jax.Array


class Batch(NamedTuple):
    """Transitions as the loss needs them, one per row."""

    observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    advantage: jax.Array
    target: jax.Array


class Runner(NamedTuple):
    """A run between two rollouts.

    Attributes:
        params: ``{"actor": ..., "critic": ...}``.
        opt_state: The optimiser's state.
        env_state: The environments' states, each array ``[num_envs, ...]``.
        observation: What they show now, ``[num_envs, *observation_shape]``.
        key: For the rest of the run.
    """

    params: Any
    opt_state: optax.OptState
    env_state: EpisodeState
    observation: jax.Array
    key: jax.Array

    @property
    def mean_return(self) -> jax.Array:
        """Mean over environments of the return of the last finished episode."""
        return self.env_state.last_return.mean(-1)


def init_params(key: jax.Array, config: PPOConfig, env: Environment) -> Params:
    """Draws an actor and a critic for the environment."""
    actor_key, critic_key = jax.random.split(key)
    sizes = (math.prod(env.observation_shape), *config.hidden)
    return {
        "actor": init_mlp(actor_key, (*sizes, env.num_actions), head_gain=0.01),
        "critic": init_mlp(critic_key, (*sizes, 1), head_gain=1.0),
    }


def gae(
    reward: jax.Array,
    done: jax.Array,
    value: jax.Array,
    last_value: jax.Array,
    gamma: float,
    gae_lambda: float,
) -> jax.Array:
    """Generalised advantage estimation, backwards over a rollout.

    Args:
        reward: float32 ``[T, N]``.
        done: bool ``[T, N]``; nothing is bootstrapped across it.
        value: float32 ``[T, N]``, of the observations acted on.
        last_value: float32 ``[N]``, of the observation after the last step.
        gamma: Discount.
        gae_lambda: Decay.

    Returns:
        Advantages, float32 ``[T, N]``.

    References:
        Schulman et al., "High-Dimensional Continuous Control Using Generalized
        Advantage Estimation", 2016, equation 16.

    Example:
        >>> import jax.numpy as jnp
        >>> one, no = jnp.ones((2, 1)), jnp.zeros((2, 1), bool)
        >>> gae(one, no, 0 * one, jnp.zeros(1), 0.5, 1.0).ravel().tolist()
        [1.5, 1.0]
    """
    next_value = jnp.concatenate([value[1:], last_value[None]])
    alive = 1.0 - done
    delta = reward + gamma * next_value * alive - value

    def backwards(advantage: jax.Array, x: tuple[jax.Array, jax.Array]):
        delta, decay = x
        advantage = delta + decay * advantage
        return advantage, advantage

    xs = (delta, gamma * gae_lambda * alive)
    start = jnp.zeros_like(last_value)
    return jax.lax.scan(backwards, start, xs, reverse=True)[1]


def loss(
    params: Params,
    batch: Batch,
    config: PPOConfig,
    drift: drifts.Drift | None = None,
) -> tuple[jax.Array, Any]:
    """PPO's loss on one minibatch.

    Args:
        params: The agent.
        batch: Fields of shape ``[B]``; observations ``[B, features]``.
        config: Coefficients.
        drift: Of the policy loss; by default PPO's, clipping at ``config.clip_eps``.

    Returns:
        The loss, and the dormancy of every layer's neurons as the tree
        ``{"actor": {"Dense_i": [width]}, "critic": ...}``.
    """
    logits, actor_layers = apply_mlp(
        params["actor"], batch.observation, config.activation
    )
    value, critic_layers = apply_mlp(
        params["critic"], batch.observation, config.activation
    )
    value = value[:, 0]
    log_probs = jax.nn.log_softmax(logits)

    advantage = batch.advantage
    advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
    ratio = jnp.exp(select(log_probs, batch.action) - batch.log_prob)
    drift = drifts.ppo(config.clip_eps) if drift is None else drift
    policy_loss = losses.policy_loss(ratio, advantage, drift)

    change = jnp.clip(value - batch.value, -config.clip_eps, config.clip_eps)
    errors = jnp.square(value - batch.target)
    clipped_errors = jnp.square(batch.value + change - batch.target)
    value_loss = 0.5 * jnp.maximum(errors, clipped_errors).mean()

    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    total = policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy
    layers = {"actor": actor_layers, "critic": critic_layers}
    return total, jax.tree.map(dormancy, jax.lax.stop_gradient(layers))


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

    def minibatch_step(carry: Any, minibatch: Batch):
        params, opt_state = carry
        grads, dormancies = jax.grad(loss, has_aux=True)(
            params, minibatch, config, drift
        )
        grads = {k: clip_by_norm(g, config.max_grad_norm) for k, g in grads.items()}
        updates, opt_state = optimizer.update(
            grads, opt_state, params, dormancy=dormancies
        )
        return (optax.apply_updates(params, updates), opt_state), None

    def epoch(carry: Any, key: jax.Array):
        order = jax.random.permutation(key, config.batch_size)
        order = order.reshape(config.minibatches, -1)
        return jax.lax.scan(
            minibatch_step, carry, jax.tree.map(lambda x: x[order], batch)
        )

    keys = jax.random.split(key, config.epochs)
    return jax.lax.scan(epoch, (params, opt_state), keys)[0]


def make_loop(
    config: PPOConfig,
    env: Environment,
    optimizer: optax.GradientTransformation,
    *,
    drift: drifts.Drift | None = None,
) -> tuple[Callable[[jax.Array], Runner], Callable[[Runner], Runner]]:
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

    def start(key: jax.Array) -> Runner:
        param_key, reset_key, key = jax.random.split(key, 3)
        params = init_params(param_key, config, env)
        observation, env_state = env.reset_many(reset_key, config.num_envs)
        return Runner(params, optimizer.init(params), env_state, observation, key)

    def iterate(runner: Runner) -> Runner:
        key, rollout_key, update_key = jax.random.split(runner.key, 3)
        (env_state, observation), played = collect(config, env, runner, rollout_key)
        observations, action, log_prob, reward, done = played
        # One evaluation of the critic for the whole rollout is much cheaper than one
        # per step, and gives the same values: its parameters have not changed.
        x = flatten(jnp.concatenate([observations, observation[None]]), env)
        value, _ = apply_mlp(runner.params["critic"], x, config.activation)
        value, last_value = value[:-1, :, 0], value[-1, :, 0]
        advantage = gae(
            reward, done, value, last_value, config.gamma, config.gae_lambda
        )
        batch = Batch(x[:-1], action, log_prob, value, advantage, advantage + value)
        batch = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)
        params, opt_state = _optimise(
            config, optimizer, drift, runner.params, runner.opt_state, batch, update_key
        )
        return Runner(params, opt_state, env_state, observation, key)

    return start, iterate


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
    """
    start, iterate = make_loop(config, env, optimizer, drift=drift)

    def step(runner: Runner, _: None) -> tuple[Runner, jax.Array]:
        runner = iterate(runner)
        return runner, runner.mean_return

    def train(key: jax.Array) -> TrainResult:
        runner, returns = jax.lax.scan(step, start(key), length=config.num_rollouts)
        return TrainResult(runner.params, runner.opt_state, returns, returns[-1])

    return train
