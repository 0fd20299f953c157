"""Checks that jax transforms an update, and a rule as a function of its weights."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl.testing import _expect as expect
from learned_opt_rl.testing import _probes as probes
from learned_opt_rl.testing._candidate import Factory, Run
from learned_opt_rl.testing._sharding import stack

MakeRule = Callable[[Any], optax.GradientTransformationExtraArgs]
"""Weights (a pytree, perhaps of traced arrays) -> transformation."""


def jit(make: Factory) -> None:
    """Compiled and op by op, an update is the same up to rounding."""
    run = Run(make)
    compiled, _ = jax.jit(run.tx.update)(run.grads, run.state, run.params)
    expect.close(compiled, run.update()[0], "the jitted update")


def scan(make: Factory) -> None:
    """``jax.lax.scan`` over steps gives the updates of a loop."""
    run = Run(make)

    def step(state: Any, index: jax.Array) -> tuple[Any, Any]:
        updates, state = run.tx.update(run.scaled(index), state, run.params)
        return state, updates

    _, scanned = jax.lax.scan(step, run.state, jnp.arange(3.0))
    looped, _ = run.steps(3)
    expect.close(scanned, stack(looped), "the scanned updates")


def cond(make: Factory) -> None:
    """``jax.lax.cond`` can choose between a step and none, as for skipped steps."""
    run = Run(make)

    def maybe(take: jax.Array) -> tuple[Any, Any]:
        none = jax.tree.map(jnp.zeros_like, run.params)
        return jax.lax.cond(take, run.update, lambda: (none, run.state))

    taken = jax.eval_shape(maybe, jnp.array(True))  # tracing is what can fail
    expect.same_types(taken[0], run.params, "the update under cond", "the parameters")


def vmap(make: Factory) -> None:
    """``jax.vmap`` over agents gives each the updates it would have alone."""
    tx = make()
    agents = [
        jax.tree.map(lambda p, s=scale: p * s, probes.agent()) for scale in (1.0, -2.0)
    ]
    grads = [probes.gradients(agent, seed) for seed, agent in enumerate(agents)]

    def first_update(grads: Any, params: Any) -> Any:
        return tx.update(grads, tx.init(params), params)[0]

    together = jax.jit(jax.vmap(first_update))(stack(grads), stack(agents))
    alone = [first_update(g, p) for g, p in zip(grads, agents, strict=True)]
    expect.close(together, stack(alone), "the updates of agents side by side")


def grad(make: Factory) -> None:
    """``jax.grad`` of the updates by the gradients is finite."""
    run = Run(make)

    def total(grads: Any) -> jax.Array:
        updates, _ = run.tx.update(grads, run.state, run.params)
        return sum((u.sum() for u in jax.tree.leaves(updates)), jnp.zeros(()))

    expect.finite(jax.jit(jax.grad(total))(run.grads), "the derivative by grads")


def population(make_tx: MakeRule, weights: Any) -> None:
    """``jax.vmap`` over a population of weights gives each member's own updates."""

    def first_update(member: Any) -> Any:
        return Run(lambda: make_tx(member)).update()[0]

    members = [
        jax.tree.map(lambda w, s=scale: jnp.asarray(w) * s, weights)
        for scale in (1.0, 0.9)
    ]
    together = jax.jit(jax.vmap(first_update))(stack(members))
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
