"""The agents' policies: categorical over actions, or a diagonal Gaussian."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.agents.config import RunConfig
from learned_opt_rl.agents.networks import Network, apply_network
from learned_opt_rl.envs.adapter import Environment


class Categorical(NamedTuple):
    """A distribution over discrete actions.

    Attributes:
        logits: float32 ``[..., num_actions]``.
        log_probs: Log-softmax of the logits.
    """

    logits: jax.Array
    log_probs: jax.Array

    def sample(self, key: jax.Array) -> jax.Array:
        """Draw actions, int32 ``[...]``."""
        return jax.random.categorical(key, self.logits)

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Return the log-probabilities of actions, float32 ``[...]``."""
        return select(self.log_probs, action)

    def entropy(self) -> jax.Array:
        """Return the mean entropy over observations, float32 scalar."""
        return -(jnp.exp(self.log_probs) * self.log_probs).sum(-1).mean()


class Gaussian(NamedTuple):
    """A distribution over vectors with independent, unbounded entries.

    Attributes:
        mean: float32 ``[..., num_actions]``.
        log_std: float32 ``[..., num_actions]``.
    """

    mean: jax.Array
    log_std: jax.Array

    def sample(self, key: jax.Array) -> jax.Array:
        """Draw actions, float32 ``[..., num_actions]``; the environment clips them."""
        noise = jax.random.normal(key, self.mean.shape)
        return self.mean + jnp.exp(self.log_std) * noise

    def log_prob(self, action: jax.Array) -> jax.Array:
        """Return the log-densities of actions, float32 ``[...]``."""
        z = (action - self.mean) * jnp.exp(-self.log_std)
        constant = 0.5 * math.log(2 * math.pi)
        return -(0.5 * jnp.square(z) + self.log_std + constant).sum(-1)

    def entropy(self) -> jax.Array:
        """Return the mean entropy over observations, float32 scalar."""
        constant = 0.5 * math.log(2 * math.pi * math.e)
        return (self.log_std + constant).sum(-1).mean()


def init_actor_extras(env: Environment) -> Network:
    """Return the actor's parameters besides its layers: ``log_std``, if continuous."""
    return {"log_std": jnp.zeros(env.num_actions)} if env.continuous else {}


def policy(
    actor: Network, x: jax.Array, config: RunConfig
) -> tuple[Categorical | Gaussian, dict[str, jax.Array]]:
    """Evaluate an actor; return its policy and the activations of its layers."""
    outputs, layers = apply_network(actor, x, config)
    if "log_std" in actor:
        log_std = jnp.broadcast_to(actor["log_std"], outputs.shape)
        return Gaussian(outputs, log_std), layers
    return Categorical(outputs, jax.nn.log_softmax(outputs)), layers


def select(values: jax.Array, index: jax.Array) -> jax.Array:
    """Return ``values[..., index]``, by a mask: its gradient needs no scatter."""
    return (values * jax.nn.one_hot(index, values.shape[-1])).sum(-1)
