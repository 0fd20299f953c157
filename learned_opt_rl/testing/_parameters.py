"""Checks of the trees of parameters that agents have."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl.testing import _expect as expect
from learned_opt_rl.testing import _probes as probes
from learned_opt_rl.testing._candidate import Factory, Run

_USED_ROWS = 2
_FEW, _MANY = 20, 200
_TIMES_ADAM = 5
"""The most operations that a further leaf may add, in multiples of Adam's.

The longest published expression adds 4.2 times as many, and compiles 5 times as long.
"""


def any_pytree(make: Factory) -> None:
    """For any pytree of parameters, updates have its structure, shapes and dtypes."""
    tx = make()
    for kind, params in probes.trees().items():
        grads = probes.gradients(params)
        updates, _ = jax.eval_shape(
            lambda g, p: tx.update(g, tx.init(p), p), grads, params
        )
        expect.same_types(
            updates, params, f"the update of parameters of kind '{kind}'", "these"
        )


def python_floats(make: Factory) -> None:
    """Parameters and gradients may be Python floats, as for optax's optimizers."""
    tx, params = make(), {"actor": {"scale": 1.5, "shift": -0.5}}
    grads = jax.tree.map(lambda p: -p, params)
    # Traced without arguments, so that they are floats still.
    updates, _ = jax.eval_shape(lambda: tx.update(grads, tx.init(params), params))
    expect.same_types(updates, params, "the update", "the parameters")


def state_from_shapes(make: Factory) -> None:
    """``tx.init`` takes ``jax.ShapeDtypeStruct`` for arrays, as before any weights."""
    run = Run(make)
    shapes = jax.eval_shape(lambda: run.params)
    found = run.tx.init(shapes)
    expect.same_types(found, run.state, "tx.init of shapes", "tx.init of arrays")


def zero_gradients(make: Factory) -> None:
    """Leaves and rows whose gradient has always been exactly 0 do not move."""
    run = Run(make, {**probes.agent(), **probes.partly_unused()})
    run.grads["target"] = jax.tree.map(jnp.zeros_like, run.params["target"])
    run.grads["embedding"] = run.grads["embedding"].at[_USED_ROWS:].set(0.0)
    step, state = jax.jit(run.tx.update), run.state
    for index in range(3):
        updates, state = step(run.scaled(index), state, run.params)
        unused = {
            "a target network": updates["target"]["kernel"],
            "unused rows of an embedding": updates["embedding"][_USED_ROWS:],
        }
        for name, part in unused.items():
            if np.any(np.asarray(part)):
                expect.fail(
                    f"step {index + 1} moves {name} by {part}, though the gradient "
                    "has been 0 since the start"
                )


def lone_head(make: Factory) -> None:
    """A head without hidden layers learns on its own: its sum can change."""
    tx = make()
    for kind, params in probes.heads().items():
        run = Run(lambda: tx, params)
        ones = jax.tree.map(jnp.ones_like, params)

        def step(carry: Any, _: None, run: Run = run, ones: Any = ones) -> Any:
            params, state = carry
            updates, state = run.tx.update(ones, state, params)
            return (optax.apply_updates(params, updates), state), updates

        _, updates = jax.lax.scan(step, (params, run.state), length=_FEW)
        leaves = jax.tree.leaves(updates)
        moved = abs(sum(float(jnp.sum(leaf)) for leaf in leaves))
        travelled = sum(float(jnp.sum(jnp.abs(leaf))) for leaf in leaves)
        if not moved > expect.RELATIVE_TOLERANCE * travelled:
            expect.fail(
                f"after {_FEW} steps on gradients of 1 the sum of {kind} has changed "
                f"by {moved:.2g}, its entries by {travelled:.2g}; do not remove the "
                "mean from the updates of parameters without hidden layers"
            )


def many_leaves(make: Factory) -> None:
    """Each further leaf adds at most five times as many operations as to Adam."""
    added = _operations_per_leaf(make())
    limit = _TIMES_ADAM * _operations_per_leaf(optax.adam(1e-3))
    if not added <= limit:
        expect.fail(
            f"each further leaf of a shape adds {added:.0f} operations to an update, "
            f"more than {limit:.0f}: the update of a large network takes minutes to "
            "compile. Treat leaves of a shape together, or all in one table"
        )


def _operations_per_leaf(tx: optax.GradientTransformation) -> float:
    few, many = (_operations_of_update(tx, count) for count in (_FEW, _MANY))
    return (many - few) / (_MANY - _FEW)


def _operations_of_update(tx: optax.GradientTransformation, leaves: int) -> int:
    """Return the number of operations of an update; its compile time grows with it."""
    leaf = jax.ShapeDtypeStruct((4, 4), jnp.float32)
    params = {f"actor_{i}": {"kernel": leaf} for i in range(leaves)}
    state = jax.eval_shape(tx.init, params)
    return _operations(jax.make_jaxpr(tx.update)(params, state, params).jaxpr)


def _operations(jaxpr: Any) -> int:
    """Count operations, and those of inner programs wherever they are called."""
    total = len(jaxpr.eqns)
    for eqn in jaxpr.eqns:
        for value in jax.tree.leaves((*eqn.params.values(),)):
            inner = getattr(value, "jaxpr", value)  # of a closed program
            total += _operations(inner) if hasattr(inner, "eqns") else 0
    return total
