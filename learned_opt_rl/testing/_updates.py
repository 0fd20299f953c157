"""Checks of what comes out: the update, for any parameters and gradients."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl.testing import _expect as expect
from learned_opt_rl.testing import _probes as probes
from learned_opt_rl.testing._candidate import Factory, Run

_STEPS = 200
_BOUND = 1e3


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


def moves(make: Factory) -> None:
    """Three steps with gradients change some parameter."""
    run = Run(make)
    found, _ = run.steps(3)
    if not any(np.any(np.asarray(leaf)) for leaf in jax.tree.leaves(found)):
        expect.fail("three updates in a row were 0 for every parameter")


def finite_updates(make: Factory) -> None:
    """Zero, tiny and huge gradients give finite updates, in any order."""
    run = Run(make, probes.mixed())
    step = jax.jit(run.tx.update)
    state = run.state
    for size in (0.0, 1e-30, 1e30, 0.0):
        grads = jax.tree.map(lambda g, s=size: g * s, run.grads)
        updates, state = step(grads, state, run.params)
        expect.finite(updates, f"for gradients of size {size:g} the update")


def bounded_run(make: Factory) -> None:
    """A short regression ends with a finite loss and parameters below 1000.

    No more is promised: how fast a rule learns is for its card to report.
    """
    tx = optax.chain(optax.clip_by_global_norm(0.5), make())
    params = {
        "actor": {"Dense_0": {"kernel": jnp.zeros((8, 8)), "bias": jnp.zeros(8)}},
        "critic": {"Dense_0": {"kernel": jnp.zeros((8, 4))}},
    }

    def step(carry: Any, _: None) -> tuple[Any, jax.Array]:
        params, state = carry
        loss, grads = jax.value_and_grad(_regression_loss)(params)
        updates, state = tx.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), loss

    (params, _), losses = jax.jit(
        lambda p: jax.lax.scan(step, (p, tx.init(p)), length=_STEPS)
    )(params)
    expect.finite(losses, f"the loss of {_STEPS} steps")
    largest = max(float(jnp.max(jnp.abs(p))) for p in jax.tree.leaves(params))
    if not largest < _BOUND:
        expect.fail(f"after {_STEPS} steps a parameter has grown to {largest:.3g}")


def _regression_loss(params: Any) -> jax.Array:
    """Mean squared error of both linear networks on 16 well-spread inputs."""
    inputs = jnp.cos(jnp.outer(jnp.arange(16.0), jnp.arange(1.0, 9.0)))
    loss = jnp.zeros(())
    for network in params.values():
        layer = network["Dense_0"]
        outputs = inputs @ layer["kernel"] + layer.get("bias", jnp.zeros(1))[None]
        targets = jnp.sin(jnp.arange(float(outputs.size))).reshape(outputs.shape)
        loss += jnp.mean((outputs - targets) ** 2)
    return loss
