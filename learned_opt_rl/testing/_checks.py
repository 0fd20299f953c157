"""The contract, clause by clause: every check by its name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from learned_opt_rl.testing import (
    _calling,
    _drift,
    _state,
    _transforms,
    _update_rule,
    _updates,
)
from learned_opt_rl.testing._candidate import Factory

_ORDERED: tuple[Callable[[Factory], None], ...] = (
    _calling.builds,
    _calling.plain_update,
    _calling.common_options,
    _calling.unknown_keywords,
    _calling.dormancy,
    _calling.proportions,
    _calling.missing_params,
    _calling.mismatched_gradients,
    _updates.any_pytree,
    _updates.moves,
    _updates.finite_updates,
    _updates.bounded_run,
    _state.state_of_arrays,
    _state.stable_state,
    _state.one_compilation,
    _state.npz_round_trip,
    _state.no_hidden_state,
    _state.same_seed,
    _transforms.jit,
    _transforms.scan,
    _transforms.cond,
    _transforms.vmap,
    _transforms.grad,
    _transforms.sharding,
    _calling.chain,
    _calling.partition,
    _calling.masked,
    _calling.multi_steps,
    _calling.map_params,
)

CHECKS: dict[str, Callable[[Factory], None]] = {f.__name__: f for f in _ORDERED}
"""Name -> check of a transformation; the docstring's first line is the promise.

A check takes a factory and raises (``ConformanceError``, or whatever the
transformation raised) when the promise is broken, ``unittest.SkipTest`` when it cannot
tell here. ``check_artifact(artifact, only=name)`` calls one with anything it accepts.
"""

DRIFT_CHECKS: dict[str, Callable[[Factory], None]] = {
    f.__name__: f
    for f in (
        _drift.gives_values,
        _drift.elementwise,
        _drift.mirror_conditions,
        _drift.flat_at_one,
        _drift.transforms,
        _drift.policy_gradient,
    )
}
"""Name -> check of a drift, as ``CHECKS`` are of a transformation."""

UPDATE_RULE_CHECKS: dict[str, Callable[[Factory], None]] = {
    f.__name__: f
    for f in (
        _update_rule.gives_targets,
        _update_rule.episodes_are_apart,
        _update_rule.workers_are_apart,
        _update_rule.agent_gradient,
    )
}
"""Name -> check of an update rule, as ``CHECKS`` are of a transformation."""

CHECKS_OF: dict[str, dict[str, Callable[[Factory], None]]] = {
    "optimizer": CHECKS,
    "drift": DRIFT_CHECKS,
    "update_rule": UPDATE_RULE_CHECKS,
}
"""A card's ``kind`` -> the checks of such artifacts."""

RULE_CHECKS: dict[str, Callable[[_transforms.MakeRule, Any], None]] = {
    f.__name__: f for f in (_transforms.population, _transforms.weights_gradient)
}
"""Name -> check of a rule as a function of its weights, for ``check_rule``."""

FOUNDATIONS = ("builds", "plain_update", "gives_values", "gives_targets")
"""Where one of these fails, no other check can tell anything."""


def promise(check: Callable[..., None]) -> str:
    """What a check promises: the first line of its docstring."""
    return (check.__doc__ or check.__name__).partition("\n")[0]
