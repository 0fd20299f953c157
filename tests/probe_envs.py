"""Tiny environments, each of which only a working part of an agent can solve.

1 constant reward (value head), 2 reward told by the observation (value network),
3 delayed reward (discounting), 4 reward for an action (policy), 5 reward for the action
that the observation names (policy network); 4 and 5 with continuous actions as well.
Each comes with both of gymnax's step signatures, which differ in how they say that an
episode is over.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp


class ProbeState(NamedTuple):
    time: jax.Array
    observation: jax.Array


class _Discrete:
    def __init__(self, n: int) -> None:
        self.n = n


class _Box:
    def __init__(self, length: int) -> None:
        self.low, self.high, self.shape = -1.0, 1.0, (length,)


class Probe:
    """Six-value steps; every episode is ended by ``terminated``."""

    length = 1
    num_actions = 1

    @property
    def name(self) -> str:
        return type(self).__name__

    def action_space(self, params: Any) -> Any:
        return _Discrete(self.num_actions)

    def draw(self, key: jax.Array) -> jax.Array:
        return jnp.zeros(1)

    def reward(self, state: ProbeState, action: jax.Array) -> jax.Array:
        raise NotImplementedError

    def reset(self, key: jax.Array, params: Any) -> Any:
        observation = self.draw(key)
        return observation, ProbeState(jnp.int32(0), observation)

    def transition(self, key: jax.Array, state: ProbeState, action: jax.Array):
        reward = self.reward(state, action)
        done = state.time + 1 >= self.length
        time = jnp.where(done, 0, state.time + 1)
        observation = self.draw(key) + time
        return observation, ProbeState(time, observation), reward, done

    def step(
        self, key: jax.Array, state: ProbeState, action: jax.Array, params: Any
    ) -> Any:
        observation, state, reward, done = self.transition(key, state, action)
        return observation, state, reward, done, jnp.bool_(False), {}


class ConstantReward(Probe):
    def reward(self, state: ProbeState, action: jax.Array) -> jax.Array:
        return jnp.float32(1)


class ObservedReward(Probe):
    def draw(self, key: jax.Array) -> jax.Array:
        return jax.random.rademacher(key, (1,), jnp.float32)

    def reward(self, state: ProbeState, action: jax.Array) -> jax.Array:
        return state.observation[0]


class DelayedReward(Probe):
    """Observes the time, 0 then 1; pays 1 at the second step."""

    length = 2

    def reward(self, state: ProbeState, action: jax.Array) -> jax.Array:
        return state.time.astype(jnp.float32)


class RewardedAction(Probe):
    num_actions = 2

    def reward(self, state: ProbeState, action: jax.Array) -> jax.Array:
        return 2.0 * action - 1.0


class NamedAction(ObservedReward):
    num_actions = 2

    def reward(self, state: ProbeState, action: jax.Array) -> jax.Array:
        return (2.0 * action - 1.0) * state.observation[0]


class RewardedVector(Probe):
    """Pays most for the action (0.5, -0.5), or for one that is clipped to that."""

    def action_space(self, params: Any) -> Any:
        return _Box(2)

    def reward(self, state: ProbeState, action: jax.Array) -> jax.Array:
        return 1 - jnp.square(action - jnp.array([0.5, -0.5])).mean()


class NamedVector(ObservedReward):
    """Pays most for an action of half of what is observed."""

    def action_space(self, params: Any) -> Any:
        return _Box(1)

    def reward(self, state: ProbeState, action: jax.Array) -> jax.Array:
        return 1 - jnp.square(action - 0.5 * state.observation).sum()


class Truncated(DelayedReward):
    """Six values, every episode ended by ``truncated`` instead."""

    def step(
        self, key: jax.Array, state: ProbeState, action: jax.Array, params: Any
    ) -> Any:
        observation, state, reward, done = self.transition(key, state, action)
        return observation, state, reward, jnp.bool_(False), done, {}


class Endless(ConstantReward):
    """Pays 1 in each step without an end; a time limit cuts it after two steps."""

    length = 2

    def draw(self, key: jax.Array) -> jax.Array:
        return jnp.zeros(1)

    def step(
        self, key: jax.Array, state: ProbeState, action: jax.Array, params: Any
    ) -> Any:
        last = self.draw(key) + state.time + 1
        observation, state, reward, cut = self.transition(key, state, action)
        info = {"final_observation": last}
        return observation, state, reward, jnp.bool_(False), cut, info


class FiveValues(DelayedReward):
    """gymnax up to 0.0.9: one ``done``."""

    def step(
        self, key: jax.Array, state: ProbeState, action: jax.Array, params: Any
    ) -> Any:
        return *self.transition(key, state, action), {}
