"""Weights and parameters that several tests of OPEN share.

They are cached, with the transforms made of them: compilation is what takes time.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl import Horizon, open_rl

# Smaller than any published network: these tests are about everything else.
RECURRENT = open_rl.Architecture(carry=3, width=4)
FEED_FORWARD = open_rl.Architecture(carry=None, width=4)
HORIZON = Horizon(24, epochs=3, minibatches=2)


@functools.cache
def weights(architecture=RECURRENT, seed=0):
    """Random weights without a zero among them, so that each has an effect."""
    tree = open_rl.init(jax.random.key(seed), architecture)
    leaves, structure = jax.tree.flatten(tree)
    keys = jax.random.split(jax.random.key(seed + 1), len(leaves))
    noisy = [
        w + 0.3 * jax.random.normal(k, w.shape)
        for w, k in zip(leaves, keys, strict=True)
    ]
    return jax.tree.unflatten(structure, noisy)


def constant_weights(*outputs):
    """Weights whose three outputs are these numbers, whatever the inputs."""
    last = {"kernel": jnp.zeros((4, 3)), "bias": jnp.array(outputs, jnp.float32)}
    return {"mlp": {**weights(FEED_FORWARD)["mlp"], "dense_2": last}}


@functools.cache
def agent(seed=0, dtype=jnp.float32):
    """Parameters of a small actor and critic."""
    keys = iter(jax.random.split(jax.random.key(seed), 8))

    def dense(n, m):
        kernel = jax.random.normal(next(keys), (n, m), dtype)
        return {"kernel": kernel, "bias": jax.random.normal(next(keys), (m,), dtype)}

    return {
        "actor": {
            "Dense_0": dense(3, 4),
            "Dense_1": dense(4, 2),
            "log_std": jnp.ones(2, dtype),
        },
        "critic": {"Dense_0": dense(3, 2)},
    }


def gradients(params, seed=10):
    """Random gradients for ``params``, the same for the same seed."""
    leaves, structure = jax.tree.flatten(params)
    keys = jax.random.split(jax.random.key(seed), len(leaves))
    return jax.tree.unflatten(
        structure,
        [
            jax.random.normal(k, p.shape, p.dtype)
            for p, k in zip(leaves, keys, strict=True)
        ],
    )


@functools.cache  # the same transform is compiled once
def transform(architecture=RECURRENT, **options):
    return open_rl.optimizer(weights(architecture), HORIZON, **options)


def run(tx, params, steps=2, **extra):
    """Updates and state after some steps on fixed gradients and parameters."""
    state, update = tx.init(params), jax.jit(tx.update)
    updates = None
    for i in range(steps):
        updates, state = update(gradients(params, seed=i), state, params, **extra)
    return updates, state


def part(state, name):
    """The field of an optimizer's state, wherever in a chain it is."""
    return optax.tree.get(state, name)


def flat(tree):
    return np.concatenate([np.ravel(leaf) for leaf in jax.tree.leaves(tree)])


def assert_equal(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(np.testing.assert_array_equal, found, expected)


def assert_close(found, expected, atol=1e-7, rtol=1e-5):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    jax.tree.map(
        lambda f, e: np.testing.assert_allclose(f, e, rtol=rtol, atol=atol),
        found,
        expected,
    )
