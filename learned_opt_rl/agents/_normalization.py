"""Running normalization of observations and rewards, as part of a run's state.

The numbers equal those of purejaxrl's ``NormalizeVecObservation`` and
``NormalizeVecReward``: each batch updates the statistics before it is normalized.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.agents.config import ActorCriticConfig

# Both constants are purejaxrl's.
EPS = 1e-8  # Added to variances.
_FIRST_WEIGHT = 1e-4  # Weight of the initial mean 0 and variance 1.


class Statistics(NamedTuple):
    """Statistics of all values so far; mean and var have the shape of one value."""

    mean: jax.Array
    var: jax.Array
    weight: jax.Array  # float32 scalar, the number of values


class Normalizers(NamedTuple):
    """State of the normalization; ``None`` for values that stay raw."""

    observation: Statistics | None = None
    reward: Statistics | None = None  # Of discounted returns.
    # float32 [num_envs], the discounted return of each running episode so far.
    discounted: jax.Array | None = None


def start(config: ActorCriticConfig, observation: jax.Array) -> Normalizers:
    """Return normalizers that have seen the first observations, ``[num_envs, ...]``."""
    result = Normalizers()
    if config.normalize_observations:
        shape = observation.shape[1:]
        seen = update(_nothing(shape), observation)
        result = result._replace(observation=seen)
    if config.normalize_rewards:
        zeros = jnp.zeros(observation.shape[:1], jnp.float32)
        result = result._replace(reward=_nothing(()), discounted=zeros)
    return result


def see(
    normalizers: Normalizers,
    gamma: Any,
    observation: jax.Array,
    reward: jax.Array,
    done: jax.Array,
) -> tuple[Normalizers, jax.Array]:
    """Update the normalizers by one step, and normalize its rewards.

    Arrays are ``[num_envs, ...]``; the observation is that after the step.
    """
    if normalizers.observation is not None:
        seen = update(normalizers.observation, observation)
        normalizers = normalizers._replace(observation=seen)
    if normalizers.reward is not None and normalizers.discounted is not None:
        # As in the published runs, the return is cut at the step that ends an episode,
        # not at the one after, and its mean is not subtracted.
        discounted = gamma * normalizers.discounted * (1.0 - done) + reward
        seen = update(normalizers.reward, discounted)
        normalizers = normalizers._replace(reward=seen, discounted=discounted)
        reward = reward / jnp.sqrt(seen.var + EPS)
    return normalizers, reward


def normalize(normalizers: Normalizers, observation: jax.Array) -> jax.Array:
    """Normalize observations ``[..., *observation_shape]`` by all seen so far."""
    seen = normalizers.observation
    if seen is None:
        return observation
    observation = observation.astype(jnp.float32)
    mean, var = (jnp.broadcast_to(x, observation.shape) for x in (seen.mean, seen.var))
    return (observation - mean) / jnp.sqrt(var + EPS)


def update(seen: Statistics, batch: jax.Array) -> Statistics:
    """Add the values along the first axis of a batch.

    References:
        Chan, Golub and LeVeque, 1979: parallel algorithm for the variance.
    """
    size, batch = batch.shape[0], batch.astype(jnp.float32)
    delta = batch.mean(0) - seen.mean
    total = seen.weight + size
    squares = seen.var * seen.weight + batch.var(0) * size
    squares += jnp.square(delta) * seen.weight * size / total
    return Statistics(seen.mean + delta * size / total, squares / total, total)


def _nothing(shape: tuple[int, ...]) -> Statistics:
    mean, var = jnp.zeros(shape, jnp.float32), jnp.ones(shape, jnp.float32)
    return Statistics(mean, var, jnp.float32(_FIRST_WEIGHT))
