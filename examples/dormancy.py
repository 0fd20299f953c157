"""Dormancy from the forward pass that the loss of a Flax agent makes anyway."""

import argparse

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from learned_opt_rl import Horizon, features, open_rl


class ActorCritic(nn.Module):
    """Two networks whose layers say by name which of them they belong to."""

    @nn.compact
    def __call__(self, x):
        """Logits of the actions, and the value, of each observation."""
        h = nn.relu(nn.Dense(32, name="actor_0")(x))
        logits = nn.Dense(3, name="actor_1")(h)
        h = nn.relu(nn.Dense(32, name="critic_0")(x))
        return logits, nn.Dense(1, name="critic_1")(h)[:, 0]


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=300, help="optimiser steps")
steps = parser.parse_args().steps

x = jax.random.normal(jax.random.key(0), (128, 4))
action, value = jnp.argmax(x[:, :3], axis=1), jnp.sum(x**2, axis=1)
model = ActorCritic()
params = model.init(jax.random.key(1), x)


def loss(params):
    """Imitation and regression, and the dormancy of every neuron besides."""
    (logits, guess), dormancy = features.linen_dormancy(model, params, x)
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, action)
    return cross_entropy.mean() + jnp.mean((guess - value) ** 2), dormancy


rule = open_rl.pretrained("minatar", horizon=Horizon(steps))
tx = optax.chain(optax.clip_by_global_norm(0.5), rule)
state, before = tx.init(params), loss(params)[0]


@jax.jit
def step(params, state):
    """One gradient, one update; the chain hands dormancy on to the learned rule."""
    grads, dormancy = jax.grad(loss, has_aux=True)(params)
    updates, state = tx.update(grads, state, params, dormancy=dormancy)
    return optax.apply_updates(params, updates), state


for _ in range(steps):
    params, state = step(params, state)
after, dormancy = loss(params)
asleep = jnp.mean(dormancy["params"]["actor_0"]["bias"] < 0.1)
print(f"loss before {before:.4f}, after {after:.4f}, actor {asleep:.0%} dormant")
