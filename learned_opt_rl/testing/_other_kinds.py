"""Checks of the other kinds: drifts, and update rules such as LPG."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.rules import drifts, losses
from learned_opt_rl.testing import _expect as expect

Make = Callable[..., Any]
"""Options -> a drift ``(ratio, advantage) -> drift``, or an update rule."""

_BATCH, _STEPS = 3, 6
_SCALARS = {"gamma": 0.99, "step": 3, "lifetime": 10}


def gives_values(make: Make) -> None:
    """A drift gives one float32 per sample, for batches of any shape."""
    drift = make()
    for shape in ((), (5,), (2, 3)):
        ratio, advantage = 1.5 * jnp.ones(shape), jnp.ones(shape)
        expect.same_types(drift(ratio, advantage), ratio, "the drift", "the ratio")


def elementwise(make: Make) -> None:
    """A sample's drift does not depend on the other samples."""
    drift = make()
    ratio, advantage = _samples()
    some = np.random.default_rng(0).permutation(ratio.size)[:8]
    among_others = drift(ratio, advantage)[some]
    expect.close(drift(ratio[some], advantage[some]), among_others, "apart, the drift")


def mirror_conditions(make: Make) -> None:
    """A drift is non-negative and finite, and 0 where the ratio is 1."""
    report = drifts.check(make())
    broken = [f for f in report.failures if f.problem != "not flat at r = 1"]
    if broken:
        expect.fail("; ".join(map(str, broken)))


def transforms(make: Make) -> None:
    """``jit`` and ``vmap`` give the values of a plain call."""
    drift = make()
    ratio, advantage = _samples()
    plain = drift(ratio, advantage)
    expect.close(jax.jit(drift)(ratio, advantage), plain, "the jitted drift")
    expect.close(jax.vmap(drift)(ratio, advantage), plain, "the vmapped drift")


def policy_gradient(make: Make) -> None:
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


def flat_at_one(make: Make) -> None:
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


def gives_targets(make: Make) -> None:
    """``targets`` gives finite policy targets ``[B, T]`` and predictions per step.

    Categorical predictions sum to 1.
    """
    rule = make()
    rewards, dones, probs, y, y_next = _rollout(rule)
    pi_hat, y_hat = rule.targets(rewards, dones, probs, y, y_next, **_SCALARS)
    like = jnp.zeros((_BATCH, _STEPS))
    expect.same_types(pi_hat, like, "pi_hat", "the rewards")
    expect.finite((pi_hat, y_hat), "the targets")
    expect.same_types(y_hat, y, "y_hat", "the predictions")
    if rule.architecture.prediction == "categorical":
        expect.close(jnp.sum(y_hat, -1), like + 1, "the sum of y_hat")


def episodes_are_apart(make: Make) -> None:
    """What happens after an episode's end does not change the targets before it."""
    rule = make()
    rewards, dones, *rest = _rollout(rule)
    dones = dones.at[:, 2].set(True)
    plain = rule.targets(rewards, dones, *rest, **_SCALARS)
    later = rule.targets(rewards.at[:, 3:].add(5.0), dones, *rest, **_SCALARS)
    before = jax.tree.map(lambda x: x[:, :3], (plain, later))
    expect.close(before[1], before[0], "with other rewards later, the targets")


def workers_are_apart(make: Make) -> None:
    """A worker's targets do not depend on the other workers."""
    rule = make()
    rollout = _rollout(rule)
    together = rule.targets(*rollout, **_SCALARS)
    alone = rule.targets(*(x[:1] for x in rollout), **_SCALARS)
    first = jax.tree.map(lambda x: x[:1], together)
    expect.close(alone, first, "alone, the first worker's targets")


def agent_gradient(make: Make) -> None:
    """The loss has a finite gradient by the agent's outputs, and not all of it is 0."""
    rule = make()
    rewards, dones, probs, y, y_next = _rollout(rule)

    def loss(probs: jax.Array, y: jax.Array) -> jax.Array:
        return rule.loss(rewards, dones, probs, y, y_next, **_SCALARS)[0]

    gradients = jax.jit(jax.grad(loss, argnums=(0, 1)))(probs, y)
    expect.finite(gradients, "the gradient by the agent's outputs")
    if not all(np.any(np.asarray(g)) for g in gradients):
        expect.fail("the gradient by the probabilities or by the predictions is 0")


def _rollout(rule: Any) -> tuple[jax.Array, ...]:
    width = rule.architecture.target_width
    keys = jax.random.split(jax.random.key(0), 4)
    shape = (_BATCH, _STEPS)
    return (
        jax.random.normal(keys[0], shape),
        jnp.zeros(shape, bool),
        jax.random.uniform(keys[1], shape, minval=0.1, maxval=0.9),
        jax.nn.softmax(jax.random.normal(keys[2], (*shape, width))),
        jax.nn.softmax(jax.random.normal(keys[3], (*shape, width))),
    )
