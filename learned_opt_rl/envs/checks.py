"""Whether an environment behaves, found out before a run that takes hours."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.envs import _signature
from learned_opt_rl.envs.adapter import Environment

NUM_ENVS = 4


def check(env: Environment, steps: int = 100, key: jax.Array | None = None) -> None:
    """Plays a few environments with random actions and looks at what they give.

    Takes about as long as compiling the environment's ``reset`` and ``step``.

    Args:
        env: The environment.
        steps: Steps to play, 1 or more.
        key: A PRNG key for the environments and the actions; ``key(0)`` if not given.

    Raises:
        TypeError: If a step gives observations, states, rewards or dones of another
            structure, shape or dtype than it should.
        ValueError: If an observation or a reward is NaN or infinite, or ``steps`` is
            less than 1.

    Example:
        >>> from learned_opt_rl import envs
        >>> check(envs.make("CartPole-v1"))
    """
    if not isinstance(steps, int) or steps < 1:
        raise ValueError(f"steps={steps!r} must be a positive whole number")
    _check_shapes(env)
    key = jax.random.key(0) if key is None else key
    first, observed, rewards = jax.jit(_play, static_argnums=(0, 1))(env, steps, key)
    if not first:
        raise ValueError(
            f"reset of environment {env.name!r} gave an observation with NaN or "
            "infinite entries"
        )
    for i in range(steps):
        if not observed[i]:
            raise ValueError(
                f"environment {env.name!r} gave an observation with NaN or infinite "
                f"entries at step {i + 1} of random play"
            )
        if not np.isfinite(rewards[i]).all():
            bad = rewards[i][~np.isfinite(rewards[i])][0]
            raise ValueError(
                f"environment {env.name!r} gave a reward of {bad} at step {i + 1} of "
                "random play; rewards must be finite"
            )


def _check_shapes(env: Environment) -> None:
    """Raises unless batches start and step as the agents take them to."""
    key, name = _signature.key_shape(), env.name
    first = jax.eval_shape(lambda key: env.reset_many(key, NUM_ENVS), key)
    expected = (NUM_ENVS, *env.observation_shape)
    if first[0].shape != expected:
        raise TypeError(
            f"reset_many of environment {name!r} observes shape {first[0].shape}; "
            f"by its observation_shape it must be {expected}"
        )
    actions = jax.eval_shape(lambda key: env.random_actions(key, NUM_ENVS), key)
    stepped = jax.eval_shape(env.step_many, key, first[1], actions)
    values = (stepped.observation, stepped.state, stepped.reward, stepped.done, {})
    _signature.check_step(name, first, values, (NUM_ENVS,))
    for what, dtype in ("reward", jnp.float32), ("done", jnp.bool_):
        if getattr(stepped, what).dtype != dtype:
            raise TypeError(
                f"step of environment {name!r} gives a {what} of dtype "
                f"{getattr(stepped, what).dtype}; it must be {jnp.dtype(dtype)}"
            )


def _play(env: Environment, steps: int, key: jax.Array) -> Any:
    """Whether observations are finite, at first and by step; and the rewards."""
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
