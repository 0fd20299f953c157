"""One environment interface for both of gymnax's step signatures.

``step`` returns five values in gymnax up to 0.0.9, in Craftax and in many private
environments. It returns six in gymnax 1.0, which separates termination from truncation.
`adapt` finds out which, once and from shapes only.
"""

import dataclasses
import importlib
import importlib.metadata
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from learned_opt_rl.envs import checks
from learned_opt_rl.errors import MissingExtraError


class EpisodeState(NamedTuple):
    """An environment's state, with the returns and lengths of its episodes.

    Attributes:
        env: The wrapped environment's own state.
        episode_return: float32 scalar, undiscounted return of the running episode.
        episode_length: int32 scalar, steps of the running episode.
        last_return: float32 scalar, return of the last finished episode, 0 before.
        last_length: int32 scalar, length of the last finished episode, 0 before.
    """

    env: Any
    episode_return: jax.Array
    episode_length: jax.Array
    last_return: jax.Array
    last_length: jax.Array


class Step(NamedTuple):
    """The result of one environment step.

    Attributes:
        observation: The next observation; after an episode ends, the first of the
            next one.
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
        name: The name in result rows.
        reset: ``key -> (observation, state)``.
        step: ``(key, state, action) -> Step``; resets itself when an episode ends.
            Continuous actions are clipped to their bounds here and nowhere else.
        observation_shape: Shape of one observation.
        num_actions: Number of discrete actions, or length of a continuous action.
        continuous: Whether an action is a float32 ``[num_actions]``, not an integer.
        batched_reset: ``(key, num) -> (observations, states)`` for an agent's batch,
            whose members share a draw (the level of a grid world).
        batched_step: ``(keys, states, actions) -> Step`` for a batch, where that is
            cheaper than ``vmap`` of ``step``.
        details: Further facts that results depend on, such as the physics backend and
            package versions, as pairs; result rows keep them.
        optimal_return: Expected undiscounted return per episode of the best policy, if
            known.

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
        """Return the first observations and states of an agent's environments.

        Their shapes are ``[num, *observation_shape]`` and ``[num, ...]``.
        """
        if self.batched_reset is not None:
            return self.batched_reset(key, num)
        return jax.vmap(self.reset)(jax.random.split(key, num))

    def step_many(self, key: jax.Array, states: EpisodeState, actions: Any) -> Step:
        """Step an agent's environments; all arrays are ``[num, ...]``.

        Actions are int32 ``[num]``, or float32 ``[num, num_actions]``.
        """
        keys = jax.random.split(key, len(actions))
        step = self.batched_step or jax.vmap(self.step)
        return step(keys, states, actions)

    def random_actions(self, key: jax.Array, num: int) -> jax.Array:
        """Draw actions as an untrained agent does.

        They are uniform int32 ``[num]``, or normal float32 ``[num, num_actions]``.
        """
        if self.continuous:
            return jax.random.normal(key, (num, self.num_actions))
        return jax.random.randint(key, (num,), 0, self.num_actions)


def adapt(env: Any, params: Any = None, *, name: str | None = None) -> Environment:
    """Wrap an object with gymnax's methods as an `Environment`.

    Args:
        env: Has ``reset(key, params)`` and ``step(key, state, action, params)``. The
            latter returns ``(obs, state, reward, done, info)`` or
            ``(obs, state, reward, terminated, truncated, info)`` and resets itself at
            the end of an episode.
        params: Environment parameters; by default ``env.default_params``.
        name: Name of the result; by default ``env.name`` or the class's name.

    Raises:
        TypeError: The object does not have this interface, the observation is not a
            single array, a structure, shape or dtype changes from ``reset`` to
            ``step``, or actions are neither discrete nor one bounded vector. `check`
            also looks at values.

    Example:
        >>> import gymnax
        >>> adapt(*gymnax.make("Catch-bsuite")).num_actions
        3
    """
    if params is None:
        params = getattr(env, "default_params", None)
    if name is None:
        name = str(getattr(env, "name", type(env).__name__))
    checks.check_methods(name, env)
    key = checks.key_shape()
    first = jax.eval_shape(lambda key: env.reset(key, params), key)
    checks.check_reset(name, first)
    actions = checks.actions_of(name, env, params)
    stepped = jax.eval_shape(
        lambda *args: env.step(*args, params), key, first[1], actions.example
    )
    has_truncation = checks.has_truncation(name, stepped)
    checks.check_step(name, first, stepped)

    def reset(key: jax.Array) -> tuple[jax.Array, EpisodeState]:
        observation, state = env.reset(key, params)
        return observation, _start_account(state)

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


def sharing_draws(
    name: str,
    draw: Callable[[jax.Array], Any],
    begin: Callable[[jax.Array, Any], tuple[jax.Array, Any]],
    step: Callable[[jax.Array, Any, Any], tuple[jax.Array, Any, jax.Array, jax.Array]],
    **fields: Any,
) -> Environment:
    """Build an environment whose batch shares one draw per agent, such as a level.

    ``reset_many`` calls ``draw(key) -> drawn`` once. ``begin(key, drawn)`` returns an
    observation and an inner state. ``step(key, inner state, action)`` returns
    ``(observation, inner state, reward, done)`` and starts the next episode itself.
    """

    def start(key: jax.Array, drawn: Any) -> tuple[jax.Array, EpisodeState]:
        observation, inner = begin(key, drawn)
        return observation, _start_account(inner)

    def reset(key: jax.Array) -> tuple[jax.Array, EpisodeState]:
        draw_key, key = jax.random.split(key)
        return start(key, draw(draw_key))

    def batched_reset(key: jax.Array, num: int) -> tuple[jax.Array, EpisodeState]:
        draw_key, key = jax.random.split(key)
        keys = jax.random.split(key, num)
        return jax.vmap(start, (0, None))(keys, draw(draw_key))

    def accounted(key: jax.Array, state: EpisodeState, action: Any) -> Step:
        observation, inner, reward, done = step(key, state.env, action)
        return Step(observation, account(state, inner, reward, done), reward, done)

    return Environment(name, reset, accounted, batched_reset=batched_reset, **fields)


def account(
    state: EpisodeState, inner: Any, reward: jax.Array, done: jax.Array
) -> EpisodeState:
    """Add one step to the running episode, and close the episode where it ended.

    ``inner`` is the wrapped environment's state after the step. All arrays are scalars
    or have the same leading axis.
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


def _start_account(inner: Any) -> EpisodeState:
    none, zero = jnp.int32(0), jnp.float32(0)
    return EpisodeState(inner, zero, none, zero, none)


def require(module: str, extra: str) -> ModuleType:
    """Import a module; ``MissingExtraError`` names the extra that installs it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(
            f"the environment needs {package}, which is not installed or not "
            f"importable ({error}): pip install 'learned-opt-rl[{extra}]'"
        ) from error


def versions(*packages: str) -> tuple[tuple[str, str], ...]:
    """Return installed packages with their versions, for `Environment.details`."""
    return tuple((name, importlib.metadata.version(name)) for name in packages)
