"""The parts PPO and A2C share: networks, advantages, optimizer step and loop."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.agents import _normalization as normalization
from learned_opt_rl.agents.config import ActorCriticConfig
from learned_opt_rl.agents.networks import (
    Categorical,
    Gaussian,
    Network,
    apply_network,
    init_network,
    policy,
    prepare,
)
from learned_opt_rl.agents.rollouts import (
    World,
    clip_by_norm,
    collect,
    form_to_play,
    mean_return,
    shown,
)
from learned_opt_rl.envs.adapter import Environment, EpisodeState
from learned_opt_rl.features import dormancy

Params = dict[str, Network]
"""``{"actor": Network, "critic": Network}``."""

Loop = tuple[Callable[[jax.Array], "Runner"], Callable[["Runner"], "Runner"]]
"""``start(key) -> Runner`` and ``iterate(runner) -> Runner``."""


class Batch(NamedTuple):
    """Transitions, one per row."""

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
        opt_state: The optimizer's state.
        env_state: The environments' states, each array ``[num_envs, ...]``.
        observation: Raw current observations, ``[num_envs, *observation_shape]``, or
            those of ``env.tabular`` for an agent without layers.
        key: PRNG key for the rest of the run.
        normalizers: State of the normalization; holds no arrays if the run does not
            normalize.
    """

    params: Any
    opt_state: optax.OptState
    env_state: EpisodeState
    observation: jax.Array
    key: jax.Array
    normalizers: normalization.Normalizers = normalization.Normalizers()

    @property
    def mean_return(self) -> jax.Array:
        """Mean return of each environment's last finished episode; NaN before one."""
        return mean_return(self.env_state).value


def init_params(
    key: jax.Array,
    config: ActorCriticConfig,
    env: Environment,
    *,
    bias: bool = True,
) -> Params:
    """Draw an actor and a critic for the environment."""
    actor_key, critic_key = jax.random.split(key)
    shape, bias_ = env.observation_shape, {"bias": bias}
    # purejaxrl's head gains: nearly uniform actions at first.
    actor = init_network(actor_key, config, shape, env.num_actions, 0.01, **bias_)
    critic = init_network(critic_key, config, shape, 1, 1.0, **bias_)
    if env.continuous:
        actor["log_std"] = jnp.zeros(env.num_actions, jnp.float32)
    return {"actor": actor, "critic": critic}


def gae(
    reward: jax.Array,
    done: jax.Array,
    value: jax.Array,
    last_value: jax.Array,
    gamma: float,
    gae_lambda: float,
    truncated: jax.Array | None = None,
    final_value: jax.Array | None = None,
) -> jax.Array:
    """Estimate advantages ``[T, N]`` by GAE, backwards over a rollout.

    Arrays are ``[T, N]``, and ``last_value``, of the observation after the last step,
    is ``[N]``. No value follows a termination. Where ``truncated`` is True, a time
    limit cut the episode, and the value of its final observation, ``final_value``,
    follows. Neither end passes on the advantage of the next episode.

    References:
        Schulman et al., "High-Dimensional Continuous Control Using Generalized
        Advantage Estimation", 2016, equation 16.
        Pardo et al., "Time Limits in Reinforcement Learning", 2018.

    Example:
        >>> import jax.numpy as jnp
        >>> one, no = jnp.ones((2, 1)), jnp.zeros((2, 1), bool)
        >>> gae(one, no, 0 * one, jnp.zeros(1), 0.5, 1.0).ravel().tolist()
        [1.5, 1.0]
        >>> cut = jnp.array([[True], [False]])  # a value of 10 follows the first step
        >>> gae(one, cut, 0 * one, jnp.zeros(1), 0.5, 1.0, cut, 10 * one).tolist()
        [[6.0], [1.0]]
    """
    next_value = jnp.concatenate([value[1:], last_value[None]])
    alive = 1.0 - done
    followed = alive
    if truncated is not None and final_value is not None:
        next_value = jnp.where(truncated, final_value, next_value)
        followed = jnp.where(truncated, 1.0, alive)
    delta = reward + gamma * next_value * followed - value

    def backwards(advantage: jax.Array, x: tuple[jax.Array, jax.Array]):
        delta, decay = x
        advantage = delta + decay * advantage
        return advantage, advantage

    xs = (delta, gamma * gae_lambda * alive)
    start = jnp.zeros_like(last_value)
    return jax.lax.scan(backwards, start, xs, reverse=True)[1]


def experience(
    config: ActorCriticConfig,
    env: Environment,
    params: Params,
    world: World,
    key: jax.Array,
) -> tuple[World, Batch]:
    """Play a rollout and estimate advantages; return the next world and the batch."""
    world, played = collect(config, env, params["actor"], world, key)

    def judge(observation: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = prepare(observation, env.observation_shape, config)
        return x, apply_network(params["critic"], x, config)[0][..., 0]

    # Evaluating the critic once for the whole rollout is much cheaper than once per
    # step and gives the same values, since its parameters have not changed.
    x, value = judge(jnp.concatenate([played.observation, shown(world)[None]]))
    value, last_value = value[:-1], value[-1]
    final_value = None
    if played.final_observation is not None:
        final_value = judge(played.final_observation)[1]
    advantage = gae(
        played.reward,
        played.done,
        value,
        last_value,
        config.gamma,
        config.gae_lambda,
        played.truncated,
        final_value,
    )
    action, log_prob = played.action, played.log_prob
    batch = Batch(x[:-1], action, log_prob, value, advantage, advantage + value)
    return world, jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), batch)


def evaluate(
    params: Params, observation: jax.Array, config: ActorCriticConfig
) -> tuple[Categorical | Gaussian, jax.Array, Any]:
    """Return the policy, values ``[B]``, and the dormancy of every layer's neurons."""
    acting, actor_layers = policy(params["actor"], observation, config)
    value, critic_layers = apply_network(params["critic"], observation, config)
    layers = {"actor": actor_layers, "critic": critic_layers}
    dormancies = jax.tree.map(dormancy, jax.lax.stop_gradient(layers))
    if "log_std" in params["actor"]:
        # The published optimizers saw a layer of one neuron, mean(exp(log_std)).
        dormancies["actor"]["log_std"] = jnp.float32(1)
    return acting, value[:, 0], dormancies


def descend(
    loss: Callable[..., tuple[jax.Array, Any]],
    config: ActorCriticConfig,
    optimizer: optax.GradientTransformationExtraArgs,
    params: Any,
    opt_state: optax.OptState,
    *arguments: Any,
) -> tuple[Any, optax.OptState]:
    """Take one optimizer step on ``loss(params, *arguments) -> (loss, dormancy)``."""
    grads, dormancies = jax.grad(loss, has_aux=True)(params, *arguments)
    # Each network has its own bound, as in the published runs.
    grads = {k: clip_by_norm(g, config.max_grad_norm) for k, g in grads.items()}
    updates, opt_state = optimizer.update(grads, opt_state, params, dormancy=dormancies)
    return optax.apply_updates(params, updates), opt_state


def make_loop(
    config: ActorCriticConfig,
    env: Environment,
    optimizer: optax.GradientTransformationExtraArgs,
    learn: Callable[[Any, Any, Batch, jax.Array], tuple[Any, Any]],
    *,
    bias: bool = True,
) -> Loop:
    """Build the two functions of a run.

    ``learn(params, opt_state, batch, key) -> (params, opt_state)`` is the agent's own
    part; the optimizer only makes the first ``opt_state`` here.
    """
    played = form_to_play(config, env)

    def start(key: jax.Array) -> Runner:
        param_key, reset_key, key = jax.random.split(key, 3)
        params = init_params(param_key, config, env, bias=bias)
        observation, env_state = played.reset_many(reset_key, config.num_envs)
        normalizers = normalization.start(config, observation)
        opt_state = optimizer.init(params)
        return Runner(params, opt_state, env_state, observation, key, normalizers)

    def iterate(runner: Runner) -> Runner:
        key, rollout_key, update_key = jax.random.split(runner.key, 3)
        world = World(runner.env_state, runner.observation, runner.normalizers)
        world, batch = experience(config, played, runner.params, world, rollout_key)
        params, opt_state = learn(runner.params, runner.opt_state, batch, update_key)
        env_state, observation, normalizers = world
        return Runner(params, opt_state, env_state, observation, key, normalizers)

    return start, iterate
