# pyright: reportUnnecessaryTypeIgnoreComment=true
"""Uses that pyright checks: `make lint` fails if a wrong one is not refused."""

from typing import assert_type

import jax
import optax

import learned_opt_rl
from learned_opt_rl import Horizon, losses, lpg, open_rl
from learned_opt_rl.rules import discovered
from learned_opt_rl.rules.drifts import Drift


def of_a_kind(ratio: jax.Array, advantage: jax.Array) -> None:
    horizon = Horizon(1000)
    optimizer = learned_opt_rl.pretrained("minatar", horizon=horizon)
    drift = learned_opt_rl.pretrained("lpo/minatar")
    update_rule = learned_opt_rl.pretrained("lpg/gridworld")
    assert_type(optimizer, optax.GradientTransformationExtraArgs)
    assert_type(drift, Drift)
    assert_type(update_rule, lpg.UpdateRule)
    assert_type(discovered.pretrained("discovered/dpo"), Drift)

    optax.chain(optimizer, open_rl.pretrained("minatar", horizon=horizon))
    optax.chain(drift)  # pyright: ignore[reportArgumentType]
    optax.chain(update_rule)  # pyright: ignore[reportArgumentType]
    losses.policy_loss(ratio, advantage, drift)
    losses.policy_loss(
        ratio,
        advantage,
        optimizer,  # pyright: ignore[reportArgumentType]
    )


# A name that only the running program knows may be of any kind.
def of_any_kind(name: str) -> None:
    optax.chain(learned_opt_rl.pretrained(name))
