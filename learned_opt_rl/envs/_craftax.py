"""Craftax with symbolic observations, the classic game and the full one."""

import dataclasses

from learned_opt_rl.envs._extras import require, versions
from learned_opt_rl.envs._shared_resets import RATIO, with_shared_resets
from learned_opt_rl.envs.adapter import Environment

NAMES = ("Craftax-Classic-Symbolic-v1", "Craftax-Symbolic-v1")


def make(name: str) -> Environment:
    """Builds an environment whose batches share the worlds they reset to."""
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
