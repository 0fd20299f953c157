"""Checks of a rule as a function of its weights, which is what meta-training needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl.testing import _expect as expect
from learned_opt_rl.testing import _probes as probes
from learned_opt_rl.testing._candidate import Run

MakeRule = Callable[[Any], optax.GradientTransformationExtraArgs]
"""Weights (a pytree, perhaps of traced arrays) -> transformation."""


def population(make_tx: MakeRule, weights: Any) -> None:
    """``jax.vmap`` over a population of weights gives each member's own updates."""

    def first_update(member: Any) -> Any:
        return Run(lambda: make_tx(member)).update()[0]

    members = [
        jax.tree.map(lambda w, s=scale: jnp.asarray(w) * s, weights)
        for scale in (1.0, 0.9)
    ]
    stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *members)
    together = jax.jit(jax.vmap(first_update))(stacked)
    for index, member in enumerate(members):
        mine = jax.tree.map(lambda u, i=index: u[i], together)
        expect.close(mine, first_update(member), f"member {index} of the population:")


def weights_gradient(make_tx: MakeRule, weights: Any) -> None:
    """``jax.grad`` goes through an update to the weights: finite, and not all zero."""
    direction = probes.gradients(probes.agent(), seed=1)

    def objective(weights: Any) -> jax.Array:
        updates, _ = Run(lambda: make_tx(weights)).update()
        products = jax.tree.map(lambda u, d: jnp.sum(u * d), updates, direction)
        return sum(jax.tree.leaves(products), jnp.zeros(()))

    gradient = jax.jit(jax.grad(objective))(jax.tree.map(jnp.asarray, weights))
    expect.finite(gradient, "the gradient by weights")
    if not any(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(gradient)):
        expect.fail("the gradient by every weight is 0: the update ignores its weights")
