"""Craftax with symbolic observations, the classic game and the full one.

Craftax's reset costs far more than its step. Under ``vmap`` every environment would
generate a new world at every step, and almost all of them would be thrown away. A batch
therefore generates a few worlds per step, and the environments whose episodes ended
share them.
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
    in_32_bits,
    require,
    versions,
)

NAMES = ("Craftax-Classic-Symbolic-v1", "Craftax-Symbolic-v1")

# Environments of a batch per world generated in a step, as in Craftax's own baselines.
RATIO = 16


@in_32_bits
def make(name: str) -> Environment:
    """Build an environment whose batches share the worlds they reset to."""
    if name not in NAMES:
        raise ValueError(
            f"name={name!r}: {name.partition('/')[0]} has no variants; "
            "give the name without a slash"
        )
    craftax = require("craftax.craftax_env", "craftax")
    env = craftax.make_craftax_env_from_name(name, auto_reset=False)
    return dataclasses.replace(
        with_shared_resets(env, env.default_params, name),
        details=(
            *versions("craftax"),
            ("reset", f"a new world per {RATIO} environments and step, shared"),
        ),
    )


def with_shared_resets(env: Any, params: Any, name: str) -> Environment:
    """Wrap a gymnax-style environment that does not reset itself.

    A batch of ``num`` draws ``max(1, num // RATIO)`` starts in each step. If more
    episodes end in the same step, some share a start and differ again after their first
    random event. The arguments are those of `adapt`; steps return five values.
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

    one = adapt(env, params, name=name, resets=False)
    return dataclasses.replace(one, batched_step=batched_step)
