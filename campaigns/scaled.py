"""`minatar` with other step sizes: would a scale per layer or phase help?

Each function is a rule of ``learned-opt-rl compare``, for example
``campaigns.scaled:double``.
"""

from typing import Any

import jax
import optax

from learned_opt_rl import Horizon, open_rl
from learned_opt_rl.features import leaf_roles


def half(horizon: Horizon) -> optax.GradientTransformation:
    """Return `minatar` with steps of half the size."""
    return optax.chain(_minatar(horizon), optax.scale(0.5))


def double(horizon: Horizon) -> optax.GradientTransformation:
    """Return `minatar` with steps of twice the size."""
    return optax.chain(_minatar(horizon), optax.scale(2.0))


def annealed(horizon: Horizon) -> optax.GradientTransformation:
    """Return `minatar` with steps that fall from twice their size to zero."""
    fall = optax.linear_schedule(2.0, 0.0, horizon.total_updates)
    return optax.chain(_minatar(horizon), optax.scale_by_schedule(fall))


def double_heads(horizon: Horizon) -> optax.GradientTransformation:
    """Return `minatar` with steps of twice the size in the last layers."""
    return optax.chain(_minatar(horizon), optax.stateless(_heads_doubled))


def _minatar(horizon: Horizon) -> optax.GradientTransformation:
    return open_rl.pretrained("minatar", horizon=horizon)


def _heads_doubled(updates: Any, params: Any) -> Any:
    leaves, structure = jax.tree.flatten(updates)
    roles = leaf_roles(params)
    scaled = [
        2 * leaf if role.position == 1 else leaf
        for leaf, role in zip(leaves, roles, strict=True)
    ]
    return jax.tree.unflatten(structure, scaled)
