"""Where a run stands: the horizon of an artifact, and the proportions at a step."""

from __future__ import annotations

from typing import Any

import jax

from learned_opt_rl.artifacts import Card
from learned_opt_rl.errors import ArtifactError
from learned_opt_rl.features import Horizon, proportions
from learned_opt_rl.rules import _tree_checks as checks


def horizon_of(card: Card, given: Horizon | None) -> Horizon:
    """The caller's horizon, else the one the artifact was trained for.

    Raises:
        ArtifactError: There is neither.
    """
    if given is not None:
        return given
    if card.horizon is None:
        raise ArtifactError(
            f"the card of '{card.name}' names no horizon; pass horizon=Horizon(...)"
        )
    return Horizon(
        card.horizon.total_updates, card.horizon.epochs, card.horizon.minibatches
    )


def progress(
    count: jax.Array, horizon: Horizon, given: tuple[Any, Any]
) -> tuple[Any, Any]:
    """Training and batch proportion: as given, else as counted.

    Args:
        count: int32 scalar, optimiser steps taken.
        horizon: Length of the run.
        given: What the caller passed for the two, ``None`` where nothing.

    Returns:
        Two scalars in [0, 1].

    Raises:
        ValueError: What was given is no scalar.
    """
    checks.require_scalar("training_proportion", given[0])
    checks.require_scalar("batch_proportion", given[1])
    counted = proportions(count, horizon)
    t_p, b_p = (c if g is None else g for g, c in zip(given, counted, strict=True))
    return t_p, b_p
