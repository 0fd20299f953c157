"""A transformation at its first step on the probe agent."""

from __future__ import annotations

from typing import Any

import jax

from learned_opt_rl.testing import _probes as probes
from learned_opt_rl.testing._candidate import Factory


class Run:
    """What a check needs to call ``update``: transformation, trees and state.

    Attributes:
        tx: The transformation.
        params: The probe agent's parameters, or those given.
        grads: Gradients for them.
        state: The state ``tx.init`` made.
    """

    def __init__(self, make: Factory, params: Any = None, **options: Any) -> None:
        """Build the transformation with ``options`` and initialise it."""
        self.tx = make(**options)
        self.params = probes.agent() if params is None else params
        self.grads = probes.gradients(self.params)
        self.state = self.tx.init(self.params)

    def update(self, **keywords: Any) -> tuple[Any, Any]:
        """The first update and the state after it."""
        return self.tx.update(self.grads, self.state, self.params, **keywords)

    def steps(self, count: int, state: Any = None) -> tuple[list[Any], Any]:
        """Updates of several steps at fixed parameters, and the state after them.

        Args:
            count: How many steps.
            state: The state to go on from; by default the initial one.

        Returns:
            The updates of each step, and the last state.
        """
        state, found = self.state if state is None else state, []
        for step in range(count):
            updates, state = self.tx.update(self.scaled(step), state, self.params)
            found.append(updates)
        return found, state

    def scaled(self, step: Any) -> Any:
        """The gradients of a step, counted from 0: the run's, smaller each time."""
        return jax.tree.map(lambda g: g / (1.0 + step), self.grads)
