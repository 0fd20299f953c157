"""Checks that jax's own transformations go through an update."""

from __future__ import annotations

import unittest
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from learned_opt_rl.testing import _expect as expect
from learned_opt_rl.testing import _probes as probes
from learned_opt_rl.testing._candidate import Factory, Run


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
    expect.close(scanned, _stack(looped), "the scanned updates")


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

    together = jax.jit(jax.vmap(first_update))(_stack(grads), _stack(agents))
    alone = [first_update(g, p) for g, p in zip(grads, agents, strict=True)]
    expect.close(together, _stack(alone), "the updates of agents side by side")


def grad(make: Factory) -> None:
    """``jax.grad`` of the updates by the gradients is finite."""
    run = Run(make)

    def total(grads: Any) -> jax.Array:
        updates, _ = run.tx.update(grads, run.state, run.params)
        return sum((u.sum() for u in jax.tree.leaves(updates)), jnp.zeros(()))

    expect.finite(jax.jit(jax.grad(total))(run.grads), "the derivative by grads")


def sharding(make: Factory) -> None:
    """Parameters split over two devices get the updates they have on one."""
    devices = jax.devices()
    if len(devices) < 2:
        raise unittest.SkipTest(
            "needs two devices; on a CPU set "
            "XLA_FLAGS=--xla_force_host_platform_device_count=2"
        )
    run = Run(make)
    mesh = Mesh(np.array(devices[:2]), ("device",))

    def split(leaf: jax.Array) -> jax.Array:
        spec = PartitionSpec(*(None,) * (leaf.ndim - 1), "device")
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    @jax.jit
    def two_steps(grads: Any, params: Any) -> Any:
        def step(state: Any, _: None) -> tuple[Any, Any]:
            updates, state = run.tx.update(grads, state, params)
            return state, updates

        return jax.lax.scan(step, run.tx.init(params), length=2)[1]

    placed = jax.tree.map(split, (run.grads, run.params))
    first, state = run.update()
    second, _ = run.tx.update(run.grads, state, run.params)
    expect.close(two_steps(*placed), _stack([first, second]), "the sharded updates")


def _stack(trees: list[Any]) -> Any:
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
