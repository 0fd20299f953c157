"""Checks that optax's combinators go around a transformation.

optax holds its own optimisers to some of these in its (unpublished) test suite:
extra keywords, gradient accumulation, ``tree.map_params``.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.testing import _expect as expect
from learned_opt_rl.testing._candidate import Factory, Run


def chain(make: Factory) -> None:
    """In ``optax.chain`` after clipping it sees clipped gradients and its keywords."""
    tx, clip = make(), optax.clip_by_global_norm(0.5)
    run, chained = Run(lambda: tx), Run(lambda: optax.chain(clip, tx))
    found, _ = chained.update(training_proportion=0.5)
    run.grads, _ = clip.update(run.grads, clip.init(run.params))
    expected, _ = run.update(training_proportion=0.5)
    expect.identical(found, expected, "the chained update")


def partition(make: Factory) -> None:
    """In ``optax.partition`` (multi_transform) it moves only its own parameters."""
    labels = {"actor": "learned", "critic": "plain"}
    run = Run(
        lambda: optax.partition({"learned": make(), "plain": optax.sgd(1.0)}, labels)
    )
    updates, state = run.update()
    expect.same_types(updates, run.params, "the update", "the parameters")
    descent = jax.tree.map(jnp.negative, run.grads["critic"])
    expect.identical(updates["critic"], descent, "the update of sgd's parameters")
    expect.same_types(state, run.state, "the updated state", "tx.init")


def masked(make: Factory) -> None:
    """In ``optax.masked`` it leaves the gradients of other parameters alone."""
    run = Run(lambda: optax.masked(make(), {"actor": True, "critic": False}))
    updates, _ = run.update()
    expect.same_types(updates, run.params, "the update", "the parameters")
    expect.identical(updates["critic"], run.grads["critic"], "the masked update")
    nothing = Run(lambda: optax.masked(make(), False))
    untouched, _ = nothing.update()
    expect.identical(untouched, nothing.grads, "the update with all masked")


def multi_steps(make: Factory) -> None:
    """In ``optax.MultiSteps`` it steps once per accumulation, on the mean gradient."""
    tx = make()
    patient = optax.MultiSteps(tx, every_k_schedule=2).gradient_transformation()
    run = Run(lambda: optax.with_extra_args_support(patient))
    step = jax.jit(run.tx.update)
    waiting, state = step(run.grads, run.state, run.params)
    zeros = jax.tree.map(jnp.zeros_like, run.params)
    expect.close(waiting, zeros, "the update while accumulating")
    moving, _ = step(run.grads, state, run.params)
    expect.close(moving, Run(lambda: tx).update()[0], "the accumulated update")


def map_params(make: Factory) -> None:
    """``optax.tree.map_params`` finds its way through the state."""
    run = Run(make)
    mapped = optax.tree.map_params(run.tx, lambda leaf: leaf, run.state)
    expect.identical(mapped, run.state, "the state mapped by the identity")
