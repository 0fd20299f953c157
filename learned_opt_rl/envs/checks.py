"""A check of an environment before a run that takes hours."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.checks import positive_int
from learned_opt_rl.envs import _signature
from learned_opt_rl.envs.adapter import Environment

NUM_ENVS = 4  # More than one, to exercise the batched methods.


def check(env: Environment, steps: int = 100, key: jax.Array | None = None) -> None:
    """Play a few environments with random actions and check their results.

    This takes about as long as compiling the environment's ``reset`` and ``step``.

    Args:
        env: The environment.
        steps: Steps to play, 1 or more.
        key: A PRNG key for the environments and the actions; by default ``key(0)``.

    Raises:
        TypeError: A step's observation, state, reward or done has the wrong structure,
            shape or dtype.
        ValueError: An observation or a reward is NaN or infinite, or ``steps`` is not
            positive.

    Example:
        >>> from learned_opt_rl import envs
        >>> check(envs.make("CartPole-v1"))
    """
    positive_int("steps", steps)
    _check_shapes(env)
    key = jax.random.key(0) if key is None else key
    first, observed, rewards = jax.jit(_play, static_argnums=(0, 1))(env, steps, key)
    if not first:
        raise ValueError(
            f"reset of environment {env.name!r} returned an observation with NaN or "
            "infinite entries"
        )
    for i in range(steps):
        if not observed[i]:
            raise ValueError(
                f"environment {env.name!r} returned an observation with NaN or "
                f"infinite entries at step {i + 1} of random play"
            )
        if not np.isfinite(rewards[i]).all():
            bad = rewards[i][~np.isfinite(rewards[i])][0]
            raise ValueError(
                f"environment {env.name!r} returned a reward of {bad} at step {i + 1} "
                "of random play; rewards must be finite"
            )


def _check_shapes(env: Environment) -> None:
    """Raise unless batches start and step in the form that agents expect."""
    key, name = _signature.key_shape(), env.name
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
    _signature.check_step(name, first, values, (NUM_ENVS,))
    for what, dtype in ("reward", jnp.float32), ("done", jnp.bool_):
        if getattr(stepped, what).dtype != dtype:
            raise TypeError(
                f"step of environment {name!r} returns a {what} of dtype "
                f"{getattr(stepped, what).dtype}; it must be {jnp.dtype(dtype)}"
            )


def _play(env: Environment, steps: int, key: jax.Array) -> Any:
    """Return whether observations are finite, first and by step, and the rewards."""
    reset_key, key = jax.random.split(key)
    observation, state = env.reset_many(reset_key, NUM_ENVS)

    def step(state: Any, key: jax.Array) -> Any:
        action_key, key = jax.random.split(key)
        stepped = env.step_many(key, state, env.random_actions(action_key, NUM_ENVS))
        return stepped.state, (_is_finite(stepped.observation), stepped.reward)

    keys = jax.random.split(key, steps)
    return _is_finite(observation), *jax.lax.scan(step, state, keys)[1]


def _is_finite(x: jax.Array) -> jax.Array:
    return jnp.isfinite(x.astype(jnp.float32)).all()
