"""Rollouts, and a whole run as one pure function, the same for every agent."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.agents import _normalization as normalization
from learned_opt_rl.agents.config import RunConfig
from learned_opt_rl.agents.networks import Network, prepare
from learned_opt_rl.agents.policies import policy
from learned_opt_rl.envs.adapter import Environment, EpisodeState


class World(NamedTuple):
    """The environments of an agent between two steps.

    Attributes:
        env_state: The environments' states, each array ``[num_envs, ...]``.
        observation: Raw current observations, ``[num_envs, *observation_shape]``.
        normalizers: State of the normalization.
    """

    env_state: EpisodeState
    observation: jax.Array
    normalizers: normalization.Normalizers = normalization.Normalizers()


class Played(NamedTuple):
    """A rollout; every array is ``[num_steps, num_envs, ...]``.

    Observations and rewards are normalized where the run normalizes them.
    """

    observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    reward: jax.Array
    done: jax.Array


class TrainResult(NamedTuple):
    """The result of a run.

    Attributes:
        params: The agent at the end, ``{"actor": ..., "critic": ...}``, or
            ``{"actor": ..., "predictor": ...}`` for an LPG agent.
        opt_state: The optimizer's state at the end.
        returns: float32 ``[num_rollouts]``, the learning curve: `mean_return` at the
            end of each rollout.
        final_return: float32 scalar, the last of them; NaN if no episode was finished.
    """

    params: Any
    opt_state: optax.OptState
    returns: jax.Array
    final_return: jax.Array


def collect(
    config: RunConfig, env: Environment, actor: Network, world: World, key: jax.Array
) -> tuple[World, Played]:
    """Play one rollout; return the world after it, and the rollout."""

    def step(world: World, key: jax.Array) -> Any:
        action_key, env_key = jax.random.split(key)
        observation = shown(world)
        x = prepare(observation, env.observation_shape, config)
        acting, _ = policy(actor, x, config)
        action = acting.sample(action_key)
        log_prob = acting.log_prob(action)
        stepped = env.step_many(env_key, world.env_state, action)
        normalizers, reward = normalization.see(
            world.normalizers,
            config.gamma,
            stepped.observation,
            stepped.reward,
            stepped.done,
        )
        played = Played(observation, action, log_prob, reward, stepped.done)
        return World(stepped.state, stepped.observation, normalizers), played

    return jax.lax.scan(step, world, jax.random.split(key, config.num_steps))


def mean_return(state: EpisodeState) -> jax.Array:
    """Return the mean return of each environment's last finished episode.

    Args:
        state: Arrays ``[..., num_envs]``.

    Returns:
        float32 ``[...]``, over the environments that have finished an episode. NaN
        while none has: where rewards are negative, 0 would look like the best return.

    Example:
        >>> import jax.numpy as jnp
        >>> returns, lengths = jnp.array([-3.0, 0.0]), jnp.array([2, 0])
        >>> state = EpisodeState(None, 0 * returns, 0 * lengths, returns, lengths)
        >>> mean_return(state).item()
        -3.0
        >>> mean_return(state._replace(last_length=0 * lengths)).item()
        nan
    """
    finished = state.last_length > 0
    number = finished.sum(-1)
    total = jnp.where(finished, state.last_return, 0.0).sum(-1)
    return jnp.where(number > 0, total / jnp.maximum(number, 1), jnp.nan)


def shown(world: World) -> jax.Array:
    """Return the current observations as the agent sees them."""
    return normalization.normalize(world.normalizers, world.observation)


def train_by(
    loop: tuple[Callable[[jax.Array], Any], Callable[[Any], Any]], num_rollouts: int
) -> Callable[[jax.Array], TrainResult]:
    """Build ``train(key)`` from an agent's ``start`` and ``iterate``."""
    start, iterate = loop

    def step(runner: Any, _: None) -> tuple[Any, jax.Array]:
        runner = iterate(runner)
        return runner, runner.mean_return

    def train(key: jax.Array) -> TrainResult:
        runner, returns = jax.lax.scan(step, start(key), length=num_rollouts)
        return TrainResult(runner.params, runner.opt_state, returns, returns[-1])

    return train
