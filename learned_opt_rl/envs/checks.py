"""A check of an environment before a long run: shapes, values and restarts."""

import math
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.checks import positive_int
from learned_opt_rl.envs.interface import check_step, key_shape
from learned_opt_rl.warn import warn_user

if TYPE_CHECKING:
    from learned_opt_rl.envs.adapter import Environment

NUM_ENVS = 4  # More than one, to exercise the batched methods.
_STEPS, _MOST_STEPS = 100, 1000
# Steps after an end. If all are done, no episode has begun: five episodes of one step
# in a row are very unlikely.
_PAST_END = 5
_FEW_ENDS = 3
_STARTS = 16  # Batches of first observations to compare later ones with.


def check(
    env: "Environment", steps: int | None = None, key: jax.Array | None = None
) -> None:
    """Play a few environments with random actions and check their results.

    This takes about as long as compiling the environment's ``reset`` and ``step``.

    Args:
        env: The environment.
        steps: Steps to play, 1 or more. By default 100, and up to 1000 until episodes
            have ended, to see the next ones begin.
        key: A PRNG key for the environments and the actions; by default ``key(0)``.

    Raises:
        TypeError: A step's observation, state, reward or done has the wrong structure,
            shape or dtype.
        ValueError: An observation or a reward is NaN or infinite, no new episode begins
            after an end, or ``steps`` is not positive.

    Warns:
        UserWarning: The observations after the ends of episodes are unlike any first
            observation, as if no new episode began.

    Example:
        >>> from learned_opt_rl import envs
        >>> check(envs.make("CartPole-v1"))
    """
    number = _STEPS if steps is None else positive_int("steps", steps)
    _check_shapes(env)
    key = jax.random.key(0) if key is None else key
    start, play = (jax.jit(f, static_argnums=0) for f in (_start, _play))
    starts, state = start(env, key)
    if not np.isfinite(starts[:NUM_ENVS]).all():
        raise ValueError(
            f"reset of environment {env.name!r} returned an observation with NaN or "
            "infinite entries"
        )
    done = odd = np.zeros((0, NUM_ENVS), bool)
    while len(done) < (_MOST_STEPS if steps is None else number):
        keys = jax.random.split(jax.random.fold_in(key, len(done)), number)
        state, (observed, rewards, *ends) = play(env, state, starts, keys)
        _check_values(env.name, len(done), np.asarray(observed), np.asarray(rewards))
        done, odd = (
            np.concatenate([x, y]) for x, y in zip((done, odd), ends, strict=True)
        )
        if done.sum() >= _FEW_ENDS and done[:-_PAST_END].any():
            break
    _check_restarts(env.name, done, odd)


def _check_values(
    name: str, before: int, observed: np.ndarray, rewards: np.ndarray
) -> None:
    """Raise unless all observations and rewards are finite; name the step."""
    for i, (seen, reward) in enumerate(zip(observed, rewards, strict=True), before + 1):
        if not seen:
            raise ValueError(
                f"environment {name!r} returned an observation with NaN or infinite "
                f"entries at step {i} of random play"
            )
        if not np.isfinite(reward).all():
            bad = reward[~np.isfinite(reward)][0]
            raise ValueError(
                f"environment {name!r} returned a reward of {bad} at step {i} of "
                "random play; rewards must be finite"
            )


def _check_restarts(name: str, done: np.ndarray, odd: np.ndarray) -> None:
    """Raise or warn if no new episode begins after an end; arrays are ``[T, N]``."""
    way_out = (
        "Its returns would be wrong. If its step does not start the next episode, use "
        "adapt(env, resets=False)"
    )
    later = [
        column[first + 1 :]
        for column in done.T
        if 0 < (first := int(column.argmax())) < len(column) - _PAST_END
    ]
    if later and all(column.all() for column in later):
        raise ValueError(
            f"environment {name!r} does not reset itself: after the end of its first "
            f"episode, every step is done. {way_out}"
        )
    if done.sum() >= _FEW_ENDS and odd[done].all():
        warn_user(
            f"environment {name!r} seems not to reset itself: after every end of an "
            f"episode its observation is unlike those that reset returns. {way_out}",
        )


def _check_shapes(env: "Environment") -> None:
    """Raise unless batches start and step in the form that agents expect."""
    key, name = key_shape(), env.name
    first = jax.eval_shape(lambda key: env.reset_many(key, NUM_ENVS), key)
    expected = (NUM_ENVS, *env.observation_shape)
    if first[0].shape != expected:
        raise TypeError(
            f"reset_many of environment {name!r} returns observations of shape "
            f"{first[0].shape}; its observation_shape requires {expected}"
        )
    actions = jax.eval_shape(lambda key: env.random_actions(key, NUM_ENVS), key)
    stepped = jax.eval_shape(env.step_many, key, first[1], actions)
    values = (stepped.observation, stepped.state, stepped.reward, stepped.done, {})
    check_step(name, first, values, (NUM_ENVS,))
    for what, dtype in ("reward", jnp.float32), ("done", jnp.bool_):
        if getattr(stepped, what).dtype != dtype:
            raise TypeError(
                f"step of environment {name!r} returns a {what} of dtype "
                f"{getattr(stepped, what).dtype}; it must be {jnp.dtype(dtype)}"
            )


def _start(env: "Environment", key: jax.Array) -> Any:
    """Return many first observations, float32 ``[n, features]``, and first states.

    The states are of the first batch.
    """
    keys = jax.random.split(key, _STARTS)
    observations, states = jax.lax.map(lambda k: env.reset_many(k, NUM_ENVS), keys)
    return _rows(observations, 2), jax.tree.map(lambda x: x[0], states)


def _play(env: "Environment", state: Any, starts: jax.Array, keys: jax.Array) -> Any:
    """Play on; return the last states and four values for each step.

    The values are whether all observations are finite, the rewards ``[N]``, the dones
    ``[N]``, and whether each observation is unlike the first ones ``[N]``. The last is
    always False if the first observations differ too much from each other.
    """
    known, others = starts[: -4 * NUM_ENVS], starts[-4 * NUM_ENVS :]

    def is_odd(rows: jax.Array) -> jax.Array:
        low, high = known.min(0), known.max(0)
        low, high = low - (high - low), high + (high - low)
        low, high = (jnp.broadcast_to(x, rows.shape) for x in (low, high))
        return ((rows < low) | (rows > high)).any(-1)

    can_tell = ~is_odd(others).any()

    def step(state: Any, key: jax.Array) -> Any:
        action_key, key = jax.random.split(key)
        stepped = env.step_many(key, state, env.random_actions(action_key, NUM_ENVS))
        rows = _rows(stepped.observation, 1)
        odd = is_odd(rows) & can_tell
        return stepped.state, (
            jnp.isfinite(rows).all(),
            stepped.reward,
            stepped.done,
            odd,
        )

    return jax.lax.scan(step, state, keys)


def _rows(observations: jax.Array, batch_axes: int) -> jax.Array:
    size = math.prod(observations.shape[:batch_axes])
    return observations.astype(jnp.float32).reshape(size, -1)
