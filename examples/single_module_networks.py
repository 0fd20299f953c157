"""An actor-critic in one Flax module, as in purejaxrl, in an ordinary TrainState.

Its layers are Dense_0 to Dense_5, and only ``networks=`` tells which are the actor's.
"""

import argparse

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.training.train_state import TrainState

from learned_opt_rl import Horizon, features, open_rl

NETWORKS = {"actor": "Dense_[0-2]/", "critic": "Dense_[3-5]/"}


class ActorCritic(nn.Module):
    """Two networks that share nothing but a scope."""

    @nn.compact
    def __call__(self, x):
        """Logits of the actions and the value of each observation."""
        h = nn.tanh(nn.Dense(32)(nn.tanh(nn.Dense(32)(x))))
        logits = nn.Dense(3)(h)
        h = nn.tanh(nn.Dense(32)(nn.tanh(nn.Dense(32)(x))))
        return logits, nn.Dense(1)(h)[:, 0]


parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--steps", type=int, default=300, help="optimiser steps")
steps = parser.parse_args().steps

x = jax.random.normal(jax.random.key(0), (128, 4))
action, value = jnp.argmax(x[:, :3], axis=1), jnp.sum(x**2, axis=1)
model = ActorCritic()
rule = open_rl.pretrained("minatar", horizon=Horizon(steps), networks=NETWORKS)
agent = TrainState.create(
    apply_fn=model.apply,
    params=model.init(jax.random.key(1), x),
    tx=optax.chain(optax.clip_by_global_norm(0.5), rule),
)


def loss(params):
    """Imitation and regression."""
    logits, guess = model.apply(params, x)
    cross_entropy = optax.softmax_cross_entropy_with_integer_labels(logits, action)
    return cross_entropy.mean() + 0.5 * jnp.mean((guess - value) ** 2)


before = loss(agent.params)
step = jax.jit(lambda agent: agent.apply_gradients(grads=jax.grad(loss)(agent.params)))
for _ in range(steps):
    agent = step(agent)
for role in features.leaf_roles(agent.params, NETWORKS):
    print(f"{role.path:24} {role.network:7} {role.position:.1f}")
print(f"loss before {before:.4f}, after {loss(agent.params):.4f}")
