"""One environment interface for both of gymnax's step signatures.

gymnax up to 0.0.9 (and Craftax, and many private environments) return five values
from ``step``; gymnax 1.0 returns six, with termination and truncation apart. `adapt`
looks once, at shapes only, which of the two an environment speaks.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.envs import _signature


class EpisodeState(NamedTuple):
    """An environment's state and the account of its episodes.

    Attributes:
        env: The wrapped environment's own state.
        episode_return: float32 scalar, undiscounted return of the running episode.
        episode_length: int32 scalar, steps taken in the running episode.
        last_return: float32 scalar, return of the last finished episode; 0 until
            the first one ends.
        last_length: int32 scalar, length of the last finished episode.
    """

    env: Any
    episode_return: jax.Array
    episode_length: jax.Array
    last_return: jax.Array
    last_length: jax.Array


class Step(NamedTuple):
    """What one environment step gives.

    Attributes:
        observation: The next observation, of the new episode where one began.
        state: The next state.
        reward: float32 scalar.
        done: bool scalar, terminated or truncated.
    """

    observation: jax.Array
    state: EpisodeState
    reward: jax.Array
    done: jax.Array


@dataclasses.dataclass(frozen=True)
class Environment:
    """An environment as two pure functions and its sizes.

    Attributes:
        name: What results are filed under.
        reset: ``key -> (observation, state)``.
        step: ``(key, state, action) -> Step``; resets itself when an episode ends.
            Continuous actions are clipped to their bounds here and nowhere else.
        observation_shape: Shape of one observation.
        num_actions: Number of discrete actions, or the length of the vector that is
            a continuous action.
        continuous: Whether an action is a float32 ``[num_actions]``, not an integer.
        batched_reset: As ``reset`` for an agent's batch, ``(key, num) -> (observations,
            states)``, where its members share what is drawn (the level of a gridworld).
        batched_step: As ``step`` for a batch, ``(keys, states, actions) -> Step`` with
            a leading axis everywhere, where that is cheaper than ``vmap`` of ``step``.
        details: What results depend on besides the name, such as the physics backend
            and the versions of packages, as pairs; filed with the results.
        optimal_return: The expected undiscounted return of an episode of the best
            policy, where it is known.

    Example:
        >>> import jax
        >>> from learned_opt_rl import envs
        >>> env = envs.make("CartPole-v1")
        >>> observation, state = env.reset(jax.random.key(0))
        >>> step = env.step(jax.random.key(1), state, 1)
        >>> step.observation.shape, float(step.reward)
        ((4,), 1.0)
    """

    name: str
    reset: Callable[[jax.Array], tuple[jax.Array, EpisodeState]]
    step: Callable[[jax.Array, EpisodeState, Any], Step]
    observation_shape: tuple[int, ...]
    num_actions: int
    continuous: bool = False
    batched_reset: Callable[[jax.Array, int], tuple[jax.Array, EpisodeState]] | None = (
        None
    )
    batched_step: Callable[[jax.Array, EpisodeState, Any], Step] | None = None
    details: tuple[tuple[str, str], ...] = ()
    optimal_return: float | None = None

    def reset_many(self, key: jax.Array, num: int) -> tuple[jax.Array, EpisodeState]:
        """Starts an agent's environments.

        Args:
            key: A PRNG key.
            num: How many.

        Returns:
            Observations ``[num, *observation_shape]``, and states of such arrays.
        """
        if self.batched_reset is not None:
            return self.batched_reset(key, num)
        return jax.vmap(self.reset)(jax.random.split(key, num))

    def step_many(self, key: jax.Array, states: EpisodeState, actions: Any) -> Step:
        """Steps an agent's environments.

        Args:
            key: A PRNG key.
            states: Arrays ``[num, ...]``.
            actions: int32 ``[num]``, or float32 ``[num, num_actions]``.

        Returns:
            A step whose arrays are ``[num, ...]``.
        """
        keys = jax.random.split(key, len(actions))
        step = self.batched_step or jax.vmap(self.step)
        return step(keys, states, actions)

    def random_actions(self, key: jax.Array, num: int) -> jax.Array:
        """Draws actions as an untrained agent does.

        Args:
            key: A PRNG key.
            num: How many.

        Returns:
            Uniform int32 ``[num]``, or standard normal float32 ``[num, num_actions]``.
        """
        if self.continuous:
            return jax.random.normal(key, (num, self.num_actions))
        return jax.random.randint(key, (num,), 0, self.num_actions)


def adapt(env: Any, params: Any = None, *, name: str | None = None) -> Environment:
    """Wraps an object with gymnax's methods as an `Environment`.

    Args:
        env: Has ``reset(key, params)`` and ``step(key, state, action, params)``, the
            latter returning ``(obs, state, reward, done, info)`` or
            ``(obs, state, reward, terminated, truncated, info)`` and resetting itself
            at the end of an episode.
        params: Environment parameters; ``env.default_params`` if not given.
        name: Name of the result; ``env.name`` or the class's name if not given.

    Returns:
        The environment, with its episodes' returns and lengths accounted for.

    Raises:
        TypeError: If a method is missing; if ``step`` returns neither five nor six
            values, or a reward or a done that is no scalar; if the observation is not
            a single array; if observation or state change their structure, shape or
            dtype from ``reset`` to ``step``; or if actions are neither discrete nor
            one bounded vector. `check` looks at the values as well.

    Example:
        >>> import gymnax
        >>> adapt(*gymnax.make("Catch-bsuite")).num_actions
        3
    """
    if params is None:
        params = getattr(env, "default_params", None)
    if name is None:
        name = str(getattr(env, "name", type(env).__name__))
    _signature.check_methods(name, env)
    key = _signature.key_shape()
    first = jax.eval_shape(lambda key: env.reset(key, params), key)
    _signature.check_reset(name, first)
    actions = _signature.actions_of(name, env, params)
    stepped = jax.eval_shape(
        lambda *args: env.step(*args, params), key, first[1], actions.example
    )
    has_truncation = _signature.has_truncation(name, stepped)
    _signature.check_step(name, first, stepped)

    def reset(key: jax.Array) -> tuple[jax.Array, EpisodeState]:
        observation, state = env.reset(key, params)
        return observation, start_account(state)

    def step(key: jax.Array, state: EpisodeState, action: Any) -> Step:
        if actions.bounds is not None:
            action = jnp.reshape(action, actions.example.shape)
            action = jnp.clip(action, *actions.bounds)
        observation, inner, reward, done, *rest = env.step(
            key, state.env, action, params
        )
        done = jnp.asarray(done, bool)
        if has_truncation:
            done = done | jnp.asarray(rest[0], bool)
        reward = jnp.asarray(reward, jnp.float32)
        return Step(observation, account(state, inner, reward, done), reward, done)

    return Environment(
        name,
        reset,
        step,
        tuple(first[0].shape),
        actions.number,
        continuous=actions.bounds is not None,
    )


def start_account(inner: Any) -> EpisodeState:
    """Opens the account of an environment that has just been started.

    Args:
        inner: The wrapped environment's state.

    Returns:
        The state with all returns and lengths 0.
    """
    none, zero = jnp.int32(0), jnp.float32(0)
    return EpisodeState(inner, zero, none, zero, none)


def resets_of(
    draw: Callable[[jax.Array], Any],
    begin: Callable[[jax.Array, Any], tuple[jax.Array, EpisodeState]],
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Makes the resets of an environment in which an agent has a draw of its own.

    Args:
        draw: ``key -> drawn``, what the members of an agent's batch share.
        begin: ``(key, drawn) -> (observation, state)``.

    Returns:
        ``reset`` and ``batched_reset`` of an `Environment`.
    """

    def reset(key: jax.Array) -> tuple[jax.Array, EpisodeState]:
        draw_key, key = jax.random.split(key)
        return begin(key, draw(draw_key))

    def batched_reset(key: jax.Array, num: int) -> tuple[jax.Array, EpisodeState]:
        draw_key, key = jax.random.split(key)
        keys = jax.random.split(key, num)
        return jax.vmap(begin, (0, None))(keys, draw(draw_key))

    return reset, batched_reset


def account(
    state: EpisodeState, inner: Any, reward: jax.Array, done: jax.Array
) -> EpisodeState:
    """Adds one step to the running episode and closes it where it ended.

    Args:
        state: Before the step; scalars, or a batch of them.
        inner: The wrapped environment's state after the step.
        reward: float32.
        done: bool.

    Returns:
        The state after the step.
    """
    total = state.episode_return + reward
    length = state.episode_length + 1
    return EpisodeState(
        env=inner,
        episode_return=jnp.where(done, 0.0, total),
        episode_length=jnp.where(done, 0, length),
        last_return=jnp.where(done, total, state.last_return),
        last_length=jnp.where(done, length, state.last_length),
    )
