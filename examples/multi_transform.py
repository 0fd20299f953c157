"""Two optimisers for one agent: OPEN for its torso and actor, Adam for the rest."""

import argparse

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import Horizon, open_rl

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=300, help="optimiser steps")
steps = parser.parse_args().steps

x = jax.random.normal(jax.random.key(0), (128, 4))
action, value = jnp.argmax(x[:, :3], axis=1), jnp.sum(x**2, axis=1)


def dense(seed, inputs, outputs):
    """A layer's parameters."""
    kernel = jax.random.normal(jax.random.key(seed), (inputs, outputs))
    return {"kernel": kernel / inputs**0.5, "bias": jnp.zeros((1, outputs))}


params = {"torso": dense(1, 4, 32), "actor": dense(2, 32, 3), "critic": dense(3, 32, 1)}


def loss(params):
    """Imitation and regression from shared features."""
    torso, actor, critic = params["torso"], params["actor"], params["critic"]
    h = jax.nn.relu(x @ torso["kernel"] + torso["bias"])
    logits = h @ actor["kernel"] + actor["bias"]
    guess = (h @ critic["kernel"] + critic["bias"])[:, 0]
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, action)
    return cross_entropy.mean() + 0.5 * jnp.mean((guess - value) ** 2)


rule = open_rl.pretrained("minatar", horizon=Horizon(steps))
both = optax.multi_transform(
    {"learned": rule, "adam": optax.adam(1e-2)},
    {"torso": "learned", "actor": "learned", "critic": "adam"},
)
tx = optax.chain(optax.clip_by_global_norm(0.5), both)
state, before = tx.init(params), loss(params)


@jax.jit
def step(params, state):
    """One gradient, one update."""
    updates, state = tx.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state


for _ in range(steps):
    params, state = step(params, state)
print(f"loss before {before:.4f}, after {loss(params):.4f}")
