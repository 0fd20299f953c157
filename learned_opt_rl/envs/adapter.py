"""One environment interface for both of gymnax's step signatures.

gymnax up to 0.0.9 (and Craftax, and many private environments) return five values
from ``step``; gymnax 1.0 returns six, with termination and truncation apart. `adapt`
looks once, at shapes only, which of the two an environment speaks.
"""

import dataclasses
import difflib
import functools
import importlib
import math
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.errors import MissingExtraError


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

    Example:
        >>> import jax
        >>> env = make("CartPole-v1")
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
        TypeError: If ``step`` returns neither five nor six values, or a reward that is
            no scalar; if the observation is not a single array, or changes its shape;
            or if actions are neither discrete nor one bounded vector.

    Example:
        >>> import gymnax
        >>> adapt(*gymnax.make("Catch-bsuite")).num_actions
        3
    """
    if params is None:
        params = getattr(env, "default_params", None)
    if name is None:
        name = str(getattr(env, "name", type(env).__name__))
    key = jax.eval_shape(lambda: jax.random.key(0))
    first = jax.eval_shape(lambda key: env.reset(key, params), key)
    _check_reset(name, first)
    observation, state = first
    actions = _actions(name, env, params)
    stepped = jax.eval_shape(
        lambda *args: env.step(*args, params), key, state, actions.example
    )
    has_truncation = _has_truncation(name, stepped)
    _check_step(name, observation, stepped)

    def reset(key: jax.Array) -> tuple[jax.Array, EpisodeState]:
        observation, state = env.reset(key, params)
        none, zero = jnp.int32(0), jnp.float32(0)
        return observation, EpisodeState(state, zero, none, zero, none)

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
        tuple(observation.shape),
        actions.number,
        continuous=actions.bounds is not None,
    )


@functools.lru_cache
def make(name: str) -> Environment:
    """Builds a gymnax environment by name.

    The same name gives the same object, so that a jitted function which closes over
    it is not compiled again.

    Args:
        name: A name gymnax knows, such as ``"Breakout-MinAtar"``.

    Returns:
        The environment with its default parameters.

    Raises:
        MissingExtraError: If gymnax is not installed.
        ValueError: If gymnax knows no environment of that name.
        TypeError: If its actions are not discrete.

    References:
        Lange, "gymnax: A JAX-based Reinforcement Learning Environment Library", 2022.

    Example:
        >>> make("Breakout-MinAtar").observation_shape
        (10, 10, 4)
    """
    gymnax = _import_gymnax()
    if name not in gymnax.registered_envs:
        near = difflib.get_close_matches(name, gymnax.registered_envs, 3, 0.4)
        hint = f"nearest: {', '.join(near)}" if near else f"{gymnax.registered_envs}"
        raise ValueError(f"name={name!r} is not one of gymnax's environments; {hint}")
    return adapt(*gymnax.make(name), name=name)


def _import_gymnax() -> ModuleType:
    try:
        return importlib.import_module("gymnax")
    except ImportError as error:
        raise MissingExtraError(
            "the environments need gymnax, which is not installed or not importable "
            f"({error}): pip install 'learned-opt-rl[train]'"
        ) from error


def _check_reset(name: str, first: Any) -> None:
    """Raises unless ``reset`` gave one observation array and a state."""
    if not isinstance(first, tuple) or len(first) != 2:
        raise TypeError(
            f"reset of environment {name!r} must return (observation, state), "
            f"got {type(first).__name__}"
        )
    if not hasattr(first[0], "shape"):
        raise TypeError(
            f"environment {name!r} observes a {type(first[0]).__name__}, not one "
            "array; wrap it (gymnax.wrappers.FlattenObservationWrapper) first"
        )


def _has_truncation(name: str, stepped: Any) -> bool:
    """Whether ``step`` returns termination and truncation apart (gymnax >= 1.0)."""
    count = len(stepped) if isinstance(stepped, tuple) else 1
    if count not in (5, 6):
        raise TypeError(
            f"step of environment {name!r} returns {count} value(s); adapt() accepts "
            "(obs, state, reward, done, info) and "
            "(obs, state, reward, terminated, truncated, info)"
        )
    return count == 6


class _Actions(NamedTuple):
    """What actions an environment takes; bounds are those of continuous ones."""

    number: int
    example: jax.ShapeDtypeStruct
    bounds: tuple[Any, Any] | None


def _actions(name: str, env: Any, params: Any) -> _Actions:
    space = env.action_space(params)
    if hasattr(space, "n"):
        return _Actions(int(space.n), jax.ShapeDtypeStruct((), jnp.int32), None)
    shape = getattr(space, "shape", None)
    if shape is None or len(shape) > 1 or not hasattr(space, "low"):
        raise TypeError(
            f"environment {name!r} has actions of type {type(space).__name__}; "
            "supported are discrete ones (an action space with an attribute `n`) and "
            "vectors within bounds (attributes `shape`, `low` and `high`)"
        )
    example = jax.ShapeDtypeStruct(shape, jnp.float32)
    return _Actions(math.prod(shape), example, (space.low, space.high))


def _check_step(name: str, observation: Any, stepped: tuple[Any, ...]) -> None:
    """Raises unless ``step`` gave an observation as ``reset`` did and one reward."""
    if getattr(stepped[0], "shape", None) != observation.shape:
        raise TypeError(
            f"step of environment {name!r} observes shape "
            f"{getattr(stepped[0], 'shape', None)}, its reset {observation.shape}; "
            "they must be the same"
        )
    if jnp.shape(stepped[2]) != ():
        raise TypeError(
            f"step of environment {name!r} gives a reward of shape "
            f"{jnp.shape(stepped[2])}; it must be a scalar, ()"
        )


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
