"""Playing a rollout, which every on-policy agent does alike."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.agents import _normalisation as normalisation
from learned_opt_rl.agents._policies import policy
from learned_opt_rl.agents.config import Config
from learned_opt_rl.agents.networks import Network, prepare
from learned_opt_rl.envs.adapter import Environment, EpisodeState


class World(NamedTuple):
    """Where an agent plays, between two steps.

    Attributes:
        env_state: The environments' states, each array ``[num_envs, ...]``.
        observation: What they show, ``[num_envs, *observation_shape]``, raw.
        normalisers: What observations and rewards are normalised by.
    """

    env_state: EpisodeState
    observation: jax.Array
    normalisers: normalisation.Normalisers = normalisation.Normalisers()


class Played(NamedTuple):
    """A rollout; every array is ``[num_steps, num_envs, ...]``.

    Observations and rewards are normalised where the run normalises them.
    """

    observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    reward: jax.Array
    done: jax.Array


def collect(
    config: Config, env: Environment, actor: Network, world: World, key: jax.Array
) -> tuple[World, Played]:
    """Plays one rollout; returns the world after it, and the rollout."""
    discount = config.gamma

    def step(world: World, key: jax.Array) -> Any:
        action_key, env_key = jax.random.split(key)
        observation = shown(world)
        x = prepare(observation, env.observation_shape, config)
        acting, _ = policy(actor, x, config)
        action = acting.sample(action_key)
        log_prob = acting.log_prob(action)
        stepped = env.step_many(env_key, world.env_state, action)
        normalisers, reward = normalisation.see(
            world.normalisers,
            discount,
            stepped.observation,
            stepped.reward,
            stepped.done,
        )
        played = Played(observation, action, log_prob, reward, stepped.done)
        return World(stepped.state, stepped.observation, normalisers), played

    return jax.lax.scan(step, world, jax.random.split(key, config.num_steps))


def mean_return(state: EpisodeState) -> jax.Array:
    """Mean return of the episodes that the environments finished last.

    Args:
        state: Arrays ``[..., num_envs]``.

    Returns:
        float32 ``[...]``, over the environments that have finished one; NaN while none
        has: 0 would be the best return there is where rewards are negative.

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
    """What the agent sees now, normalised where the run normalises it."""
    return normalisation.normalise(world.normalisers, world.observation)
