"""Checks of a drift: a function of ratio and advantage for a policy loss."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.rules import drifts, losses
from learned_opt_rl.testing import _expect as expect

MakeDrift = Callable[..., Any]
"""Options -> a drift ``(ratio, advantage) -> drift``."""


def gives_values(make: MakeDrift) -> None:
    """A drift gives one float32 per sample, for batches of any shape."""
    drift = make()
    for shape in ((), (5,), (2, 3)):
        ratio, advantage = 1.5 * jnp.ones(shape), jnp.ones(shape)
        expect.same_types(drift(ratio, advantage), ratio, "the drift", "the ratio")


def elementwise(make: MakeDrift) -> None:
    """A sample's drift does not depend on the other samples."""
    drift = make()
    ratio, advantage = _samples()
    some = np.random.default_rng(0).permutation(ratio.size)[:8]
    among_others = drift(ratio, advantage)[some]
    expect.close(drift(ratio[some], advantage[some]), among_others, "apart, the drift")


def mirror_conditions(make: MakeDrift) -> None:
    """A drift is non-negative and finite, and 0 where the ratio is 1."""
    report = drifts.check(make())
    broken = [f for f in report.failures if f.problem != "not flat at r = 1"]
    if broken:
        expect.fail("; ".join(map(str, broken)))


def transforms(make: MakeDrift) -> None:
    """``jit`` and ``vmap`` give the values of a plain call."""
    drift = make()
    ratio, advantage = _samples()
    plain = drift(ratio, advantage)
    expect.close(jax.jit(drift)(ratio, advantage), plain, "the jitted drift")
    expect.close(jax.vmap(drift)(ratio, advantage), plain, "the vmapped drift")


def policy_gradient(make: MakeDrift) -> None:
    """Loss and gradient are finite, for ratios up to 1e3 and down to those that are 0.

    A log-ratio of -110 is what an action leaves that a policy has all but dropped; in
    float32 the ratio is then 0, and a logarithm of it would make every gradient NaN.
    """
    drift = make()
    usual = jnp.linspace(-6.9, 6.9, 41)
    log_ratio = jnp.concatenate([usual, jnp.array([-85.0, -110.0, -110.0])])
    advantage = jnp.append(jnp.linspace(-4.0, 4.0, 41), jnp.array([1.0, 1.0, -1.0]))

    def loss(log_ratio: jax.Array) -> jax.Array:
        return losses.policy_loss(jnp.exp(log_ratio), advantage, drift)

    found = jax.value_and_grad(loss)(log_ratio)
    expect.finite(found, "the policy loss and its gradient")


def flat_at_one(make: MakeDrift) -> None:
    """At a ratio of exactly 1 the derivative is 0: the first step is a plain one."""
    drift = make()
    advantage = jnp.linspace(-4.0, 4.0, 9)
    slope = jax.grad(lambda ratio: drift(ratio, advantage).sum())(jnp.ones(9))
    if np.any(np.abs(slope) > 1e-6):
        expect.fail(f"its derivative at ratio 1 is {slope}, for advantages {advantage}")


def _samples() -> tuple[jax.Array, jax.Array]:
    generator = np.random.default_rng(1)
    ratio = np.exp(generator.uniform(-1, 1, 64)).astype(np.float32)
    return jnp.asarray(ratio), jnp.asarray(generator.normal(size=64), jnp.float32)
