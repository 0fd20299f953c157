"""Playing a rollout, which every on-policy agent does alike."""

from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp

from learned_opt_rl.agents.config import LPGConfig, PPOConfig
from learned_opt_rl.agents.networks import apply_mlp
from learned_opt_rl.envs.adapter import Environment, EpisodeState


class Player(Protocol):
    """Who plays: an agent between two rollouts."""

    @property
    def params(self) -> Any:
        """Holds the ``"actor"``."""
        ...

    @property
    def env_state(self) -> EpisodeState:
        """The environments' states."""
        ...

    @property
    def observation(self) -> jax.Array:
        """What they show now."""
        ...


class Played(NamedTuple):
    """A rollout; every array is ``[num_steps, num_envs, ...]``."""

    observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    reward: jax.Array
    done: jax.Array


def collect(
    config: PPOConfig | LPGConfig, env: Environment, runner: Player, key: jax.Array
) -> tuple[tuple[EpisodeState, jax.Array], Played]:
    """Plays one rollout; returns states and observations after it, and the rollout."""

    def step(carry: tuple[EpisodeState, jax.Array], key: jax.Array) -> Any:
        env_state, observation = carry
        action_key, env_key = jax.random.split(key)
        x = flatten(observation, env)
        logits, _ = apply_mlp(runner.params["actor"], x, config.activation)
        action = jax.random.categorical(action_key, logits)
        log_prob = select(jax.nn.log_softmax(logits), action)
        stepped = env.step_many(env_key, env_state, action)
        played = Played(observation, action, log_prob, stepped.reward, stepped.done)
        return (stepped.state, stepped.observation), played

    start = runner.env_state, runner.observation
    return jax.lax.scan(step, start, jax.random.split(key, config.num_steps))


def flatten(observation: jax.Array, env: Environment) -> jax.Array:
    """Observations of any shape and dtype as float32 vectors."""
    lead = observation.ndim - len(env.observation_shape)
    return observation.reshape(*observation.shape[:lead], -1).astype(jnp.float32)


def select(values: jax.Array, index: jax.Array) -> jax.Array:
    """``values[..., index]``; a mask, because its gradient needs no scatter."""
    return (values * jax.nn.one_hot(index, values.shape[-1])).sum(-1)
