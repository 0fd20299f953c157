"""Checks of an update rule: what makes an agent's targets, as LPG does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.testing import _expect as expect

MakeUpdateRule = Callable[..., Any]
"""Options -> an update rule, which has ``targets`` and ``loss``."""

_BATCH, _STEPS = 3, 6
_SCALARS = {"gamma": 0.99, "step": 3, "lifetime": 10}


def gives_targets(make: MakeUpdateRule) -> None:
    """``targets`` gives finite policy targets ``[B, T]`` and distributions per step."""
    rule = make()
    pi_hat, y_hat = rule.targets(*_rollout(rule), **_SCALARS)
    like = jnp.zeros((_BATCH, _STEPS))
    expect.same_types(pi_hat, like, "pi_hat", "the rewards")
    expect.finite((pi_hat, y_hat), "the targets")
    expect.close(jnp.sum(y_hat, -1), like + 1, "the sum of y_hat")


def episodes_are_apart(make: MakeUpdateRule) -> None:
    """What happens after an episode's end does not change the targets before it."""
    rule = make()
    rewards, dones, *rest = _rollout(rule)
    dones = dones.at[:, 2].set(True)
    plain = rule.targets(rewards, dones, *rest, **_SCALARS)
    later = rule.targets(rewards.at[:, 3:].add(5.0), dones, *rest, **_SCALARS)
    before = jax.tree.map(lambda x: x[:, :3], (plain, later))
    expect.close(before[1], before[0], "with other rewards later, the targets")


def workers_are_apart(make: MakeUpdateRule) -> None:
    """A worker's targets do not depend on the other workers."""
    rule = make()
    rollout = _rollout(rule)
    together = rule.targets(*rollout, **_SCALARS)
    alone = rule.targets(*(x[:1] for x in rollout), **_SCALARS)
    first = jax.tree.map(lambda x: x[:1], together)
    expect.close(alone, first, "alone, the first worker's targets")


def agent_gradient(make: MakeUpdateRule) -> None:
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
