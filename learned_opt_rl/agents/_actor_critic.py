"""What PPO and A2C share: networks, rollouts, advantages, and the loop around them."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.agents import _normalisation as normalisation
from learned_opt_rl.agents._gradients import clip_by_norm
from learned_opt_rl.agents._policies import (
    Categorical,
    Gaussian,
    init_actor_extras,
    policy,
)
from learned_opt_rl.agents._rollouts import World, collect, mean_return, shown
from learned_opt_rl.agents.config import A2CConfig, PPOConfig
from learned_opt_rl.agents.networks import (
    Network,
    apply_network,
    init_network,
    prepare,
)
from learned_opt_rl.envs.adapter import Environment, EpisodeState
from learned_opt_rl.features import dormancy

Params = dict[str, Network]
"""``{"actor": Network, "critic": Network}``."""

Loop = tuple[Callable[[jax.Array], "Runner"], Callable[["Runner"], "Runner"]]
"""``start(key) -> Runner`` and ``iterate(runner) -> Runner``."""


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
        observation: What they show now, ``[num_envs, *observation_shape]``, raw.
        key: For the rest of the run.
        normalisers: What observations and rewards are normalised by; without arrays
            where the run normalises nothing.
    """

    params: Any
    opt_state: optax.OptState
    env_state: EpisodeState
    observation: jax.Array
    key: jax.Array
    normalisers: normalisation.Normalisers = normalisation.Normalisers()

    @property
    def mean_return(self) -> jax.Array:
        """See `_rollouts.mean_return`."""
        return mean_return(self.env_state)


def init_params(
    key: jax.Array,
    config: PPOConfig | A2CConfig,
    env: Environment,
    *,
    bias: bool = True,
) -> Params:
    """Draws an actor and a critic for the environment."""
    actor_key, critic_key = jax.random.split(key)
    shape, bias_ = env.observation_shape, {"bias": bias}
    actor = init_network(actor_key, config, shape, env.num_actions, 0.01, **bias_)
    critic = init_network(critic_key, config, shape, 1, 1.0, **bias_)
    return {"actor": {**actor, **init_actor_extras(env)}, "critic": critic}


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


def experience(
    config: PPOConfig | A2CConfig,
    env: Environment,
    params: Params,
    world: World,
    key: jax.Array,
) -> tuple[World, Batch]:
    """Plays a rollout and judges it; returns the world after it, and the batch."""
    world, played = collect(config, env, params["actor"], world, key)
    observations, action, log_prob, reward, done = played
    # One evaluation of the critic for the whole rollout is much cheaper than one
    # per step, and gives the same values: its parameters have not changed.
    observations = jnp.concatenate([observations, shown(world)[None]])
    x = prepare(observations, env.observation_shape, config)
    value, _ = apply_network(params["critic"], x, config)
    value, last_value = value[:-1, :, 0], value[-1, :, 0]
    advantage = gae(reward, done, value, last_value, config.gamma, config.gae_lambda)
    batch = Batch(x[:-1], action, log_prob, value, advantage, advantage + value)
    return world, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


def evaluate(
    params: Params, observation: jax.Array, config: PPOConfig | A2CConfig
) -> tuple[Categorical | Gaussian, jax.Array, Any]:
    """The policy, values ``[B]``, and the dormancy of every layer's neurons."""
    acting, actor_layers = policy(params["actor"], observation, config)
    value, critic_layers = apply_network(params["critic"], observation, config)
    layers = {"actor": actor_layers, "critic": critic_layers}
    dormancies = jax.tree.map(dormancy, jax.lax.stop_gradient(layers))
    if "log_std" in params["actor"]:
        # A layer of one neuron, mean(exp(log_std)), as the published optimisers saw it.
        dormancies["actor"]["log_std"] = jnp.ones(())
    return acting, value[:, 0], dormancies


def descend(
    loss: Callable[..., tuple[jax.Array, Any]],
    config: PPOConfig | A2CConfig,
    optimizer: optax.GradientTransformationExtraArgs,
    params: Any,
    opt_state: optax.OptState,
    *arguments: Any,
) -> tuple[Any, optax.OptState]:
    """Takes one optimiser step on ``loss(params, *arguments) -> (loss, dormancy)``."""
    grads, dormancies = jax.grad(loss, has_aux=True)(params, *arguments)
    grads = {k: clip_by_norm(g, config.max_grad_norm) for k, g in grads.items()}
    updates, opt_state = optimizer.update(grads, opt_state, params, dormancy=dormancies)
    return optax.apply_updates(params, updates), opt_state


def make_loop(
    config: PPOConfig | A2CConfig,
    env: Environment,
    optimizer: optax.GradientTransformationExtraArgs,
    learn: Callable[[Any, Any, Batch, jax.Array], tuple[Any, Any]],
    *,
    bias: bool = True,
) -> Loop:
    """Builds a run's two pieces around what is done with a rollout.

    Args:
        config: The run.
        env: Where it is played.
        optimizer: Whose state is kept.
        learn: ``(params, opt_state, batch, key) -> (params, opt_state)``.
        bias: Whether layers have biases.

    Returns:
        ``start`` and ``iterate``.
    """

    def start(key: jax.Array) -> Runner:
        param_key, reset_key, key = jax.random.split(key, 3)
        params = init_params(param_key, config, env, bias=bias)
        observation, env_state = env.reset_many(reset_key, config.num_envs)
        normalisers = normalisation.start(config, observation)
        opt_state = optimizer.init(params)
        return Runner(params, opt_state, env_state, observation, key, normalisers)

    def iterate(runner: Runner) -> Runner:
        key, rollout_key, update_key = jax.random.split(runner.key, 3)
        world = World(runner.env_state, runner.observation, runner.normalisers)
        world, batch = experience(config, env, runner.params, world, rollout_key)
        params, opt_state = learn(runner.params, runner.opt_state, batch, update_key)
        return Runner(
            params,
            opt_state,
            world.env_state,
            world.observation,
            key,
            world.normalisers,
        )

    return start, iterate
