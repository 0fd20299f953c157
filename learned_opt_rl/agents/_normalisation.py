"""Running normalisation of observations and rewards, as part of a run's state.

The same numbers as purejaxrl's ``NormalizeVecObservation`` and ``NormalizeVecReward``
give: statistics are updated by every batch before it is normalised.
"""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

EPS = 1e-8
"""Added to variances."""

_FIRST_WEIGHT = 1e-4  # The weight of the mean 0 and variance 1 at the start.


class Statistics(NamedTuple):
    """Of all values so far.

    Attributes:
        mean: float32, the shape of a value.
        var: float32, likewise.
        weight: float32 scalar, how many.
    """

    mean: jax.Array
    var: jax.Array
    weight: jax.Array


class Normalisers(NamedTuple):
    """What a run remembers to normalise by; ``None`` for what is left as it is.

    Attributes:
        observation: Of observations.
        reward: Of discounted returns, scalars.
        discounted: float32 ``[num_envs]``, the return of each running episode: the
            rewards so far, each discounted by its age.
    """

    observation: Statistics | None = None
    reward: Statistics | None = None
    discounted: jax.Array | None = None


class NormalisationConfig(Protocol):
    """What a configuration says of normalisation."""

    @property
    def normalize_observations(self) -> bool:
        """Of observations."""
        ...

    @property
    def normalize_rewards(self) -> bool:
        """Of rewards."""
        ...


def start(config: NormalisationConfig, observation: jax.Array) -> Normalisers:
    """Normalisers that have seen the first observations, ``[num_envs, ...]``."""
    result = Normalisers()
    if config.normalize_observations:
        shape = observation.shape[1:]
        seen = update(_nothing(shape), observation)
        result = result._replace(observation=seen)
    if config.normalize_rewards:
        zeros = jnp.zeros(observation.shape[:1])
        result = result._replace(reward=_nothing(()), discounted=zeros)
    return result


def see(
    normalisers: Normalisers,
    gamma: Any,
    observation: jax.Array,
    reward: jax.Array,
    done: jax.Array,
) -> tuple[Normalisers, jax.Array]:
    """Takes in one step of all environments.

    Args:
        normalisers: Before the step.
        gamma: Discount.
        observation: ``[num_envs, ...]``, after the step.
        reward: float32 ``[num_envs]``.
        done: bool ``[num_envs]``.

    Returns:
        The normalisers after the step, and the normalised rewards.
    """
    if normalisers.observation is not None:
        seen = update(normalisers.observation, observation)
        normalisers = normalisers._replace(observation=seen)
    if normalisers.reward is not None and normalisers.discounted is not None:
        # The return is cut at the step that ends an episode, not at the one after, and
        # its mean is not subtracted: so the published results were made.
        discounted = gamma * normalisers.discounted * (1.0 - done) + reward
        seen = update(normalisers.reward, discounted)
        normalisers = normalisers._replace(reward=seen, discounted=discounted)
        reward = reward / jnp.sqrt(seen.var + EPS)
    return normalisers, reward


def normalise(normalisers: Normalisers, observation: jax.Array) -> jax.Array:
    """Observations ``[..., *observation_shape]`` by all that were seen so far."""
    seen = normalisers.observation
    if seen is None:
        return observation
    mean, var = (jnp.broadcast_to(x, observation.shape) for x in (seen.mean, seen.var))
    return (observation - mean) / jnp.sqrt(var + EPS)


def update(seen: Statistics, batch: jax.Array) -> Statistics:
    """Adds the values along the first axis of a batch.

    References:
        Chan, Golub and LeVeque, 1979: parallel algorithm for the variance.
    """
    size = batch.shape[0]
    delta = batch.mean(0) - seen.mean
    total = seen.weight + size
    squares = seen.var * seen.weight + batch.var(0) * size
    squares += jnp.square(delta) * seen.weight * size / total
    return Statistics(seen.mean + delta * size / total, squares / total, total)


def _nothing(shape: tuple[int, ...]) -> Statistics:
    weight = jnp.float32(_FIRST_WEIGHT)
    return Statistics(jnp.zeros(shape), jnp.ones(shape), weight)
