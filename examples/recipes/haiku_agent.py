"""Haiku: pass parameters and dormancy as one dict per module."""

import haiku as hk
import jax
import optax

from learned_opt_rl import Horizon, features, open_rl

STEPS = 150
x = jax.random.normal(jax.random.key(0), (128, 4))


def forward(x):
    """Return the activations of each layer under the name of its module."""
    seen = {"actor_0": jax.nn.relu(hk.Linear(32, name="actor_0")(x))}
    seen["actor_1"] = hk.Linear(3, name="actor_1")(seen["actor_0"])
    seen["critic_0"] = jax.nn.relu(hk.Linear(32, name="critic_0")(x))
    seen["critic_1"] = hk.Linear(1, name="critic_1")(seen["critic_0"])
    return seen


def loss(params):
    """Return the sum of two regression losses, and the activations."""
    seen = network.apply(params, x)
    logits, value = seen["actor_1"], seen["critic_1"]
    return ((logits - x[:, 1:]) ** 2).mean() + (value**2).mean(), seen


# [wiring]
network = hk.without_apply_rng(hk.transform(forward))
params = network.init(jax.random.key(1), x)
rule = open_rl.pretrained("minatar", horizon=Horizon(STEPS))
tx = optax.chain(optax.clip_by_global_norm(0.5), rule)
state = tx.init(params)


@jax.jit
def step(params, state):
    """Apply one update. A module's w and b share one dormancy value per neuron."""
    grads, seen = jax.grad(loss, has_aux=True)(params)
    dormancy = jax.tree.map(features.dormancy, seen)  # optional
    updates, state = tx.update(grads, state, params, dormancy=dormancy)
    return optax.apply_updates(params, updates), state


# [end]
before = loss(params)[0]
for _ in range(STEPS):
    params, state = step(params, state)
print(f"loss before {before:.4f}, after {loss(params)[0]:.4f}")
