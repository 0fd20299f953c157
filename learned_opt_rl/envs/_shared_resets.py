"""Environments whose reset costs far more than their step.

Under ``vmap`` every environment would draw a new start at every step, only for almost
all of them to be thrown away. So a batch draws a few, and the environments whose
episodes ended take turns at them.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt_rl.envs.adapter import (
    Environment,
    EpisodeState,
    Step,
    account,
    adapt,
)

RATIO = 16
"""Environments of a batch per new start that is drawn in a step."""


def with_shared_resets(env: Any, params: Any, name: str) -> Environment:
    """Wraps a gymnax-style environment that does not reset itself.

    A batch of ``num`` draws ``max(1, num // RATIO)`` starts in each step. Environments
    whose episodes end in the same step get different ones as long as there are enough;
    beyond that some share a start, and differ again with their first random event.

    Args:
        env: As for `adapt`, with five-value steps that go on past the end.
        params: Its parameters.
        name: Of the result.

    Returns:
        The environment; its ``step`` draws a start of its own only when it needs one.
    """

    def batched_step(keys: jax.Array, states: EpisodeState, actions: Any) -> Step:
        step_keys, reset_keys = jax.vmap(jax.random.split, out_axes=1)(keys)
        observation, inner, reward, done, _ = jax.vmap(
            lambda *arguments: env.step(*arguments, params)
        )(step_keys, states.env, actions)
        count = max(1, len(actions) // RATIO)
        fresh = jax.vmap(lambda key: env.reset(key, params))(reset_keys[:count])
        start = (jnp.cumsum(done) - 1) % count  # in turn, among those that ended

        def choose(fresh: jax.Array, old: jax.Array) -> jax.Array:
            ended = jnp.expand_dims(done, tuple(range(1, old.ndim)))
            return jnp.where(ended, fresh[start], old)

        observation, inner = jax.tree.map(choose, fresh, (observation, inner))
        reward = jnp.asarray(reward, jnp.float32)
        return Step(observation, account(states, inner, reward, done), reward, done)

    one = adapt(_SelfResetting(env), params, name=name)
    return dataclasses.replace(one, batched_step=batched_step)


class _SelfResetting:
    """The environment on its own."""

    def __init__(self, env: Any) -> None:
        self._env = env
        self.action_space = env.action_space

    def reset(self, key: jax.Array, params: Any) -> Any:
        return self._env.reset(key, params)

    def step(self, key: jax.Array, state: Any, action: Any, params: Any) -> Any:
        step_key, reset_key = jax.random.split(key)
        *went_on, reward, done, info = self._env.step(step_key, state, action, params)
        observation, state = jax.lax.cond(
            done,
            lambda: self._env.reset(reset_key, params),
            lambda: tuple(went_on),
        )
        return observation, state, reward, done, info
