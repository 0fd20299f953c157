"""LPG rules and rollouts for tests, among them one that is written by hand."""

import math

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl.rules import lpg

SMALL = {"width": 6, "embedding": 4, "target_width": 3}


def rule(**changes):
    """A small rule whose every weight is visible: biases are random as well."""
    architecture = lpg.Architecture(**{**SMALL, **changes})
    weights = lpg.init(jax.random.key(0), architecture)
    leaves, structure = jax.tree.flatten(weights)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    moved = [
        x + 0.3 * jax.random.normal(key, x.shape)
        for x, key in zip(leaves, keys, strict=True)
    ]
    return lpg.UpdateRule(jax.tree.unflatten(structure, moved), architecture)


def rollout(workers=3, steps=5, m=SMALL["target_width"]):
    """rewards, dones, probs, y, y_next."""
    rng = np.random.default_rng(0)
    dones = rng.random((workers, steps)) < 0.3
    dones[0, :], dones[1, :] = False, True
    rewards = rng.normal(size=(workers, steps)).astype(np.float32)
    probs = rng.uniform(0.1, 0.9, size=(workers, steps)).astype(np.float32)
    y, y_next = rng.dirichlet(np.ones(m), size=(2, workers, steps)).astype(np.float32)
    return rewards, dones, probs, y, y_next


def reinforce(discount, policy_sign="descend", scale=0.1):
    """REINFORCE with discounted returns, as weights of an LPG.

    A GRU whose update gate always is the discount sums discounted rewards; two units
    hold their positive and negative part. Rewards r are seen as tanh(scale * r).
    """
    architecture = lpg.Architecture(
        width=2, embedding=1, target_width=4, policy_sign=policy_sign
    )
    shapes = lpg.init(jax.random.key(0), architecture)
    weights = jax.tree.map(jnp.zeros_like, shapes)
    gru = weights["gru"]
    gru["iz"]["bias"] += math.log(discount / (1 - discount))
    gru["in"]["kernel"] = gru["in"]["kernel"].at[0].set(jnp.array([scale, -scale]))
    gain = 1 / (scale * (1 - discount))
    ascended = jnp.array([[gain], [-gain]])
    weights["policy"]["kernel"] = ascended if policy_sign == "ascend" else -ascended
    return lpg.UpdateRule(weights, architecture)


def evaluator(discount):
    """An LPG by which predictions come to tell the discounted return.

    Its y_hat is the softmax of (return, 0, 0, 0): the log-odds are the return.
    """
    rule = reinforce(discount)
    up = -rule.weights["policy"]["kernel"]
    target = dict(rule.weights["target"])
    target["kernel"] = jnp.concatenate([up, jnp.zeros((2, 3))], axis=1)
    return lpg.UpdateRule({**rule.weights, "target": target}, rule.architecture)
