"""Train a linear model with a learned optimizer in place of Adam."""

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import Horizon, open_rl

x = jax.random.normal(jax.random.key(0), (64, 4))
y = x @ jnp.array([1.0, -2.0, 0.5, 0.0])
params = {"critic": {"w": jnp.zeros(4), "b": jnp.zeros(())}}  # a critic gets no noise


def loss(params):
    """Return the squared error of a linear value function."""
    return jnp.mean((x @ params["critic"]["w"] + params["critic"]["b"] - y) ** 2)


rule = open_rl.pretrained("minatar", horizon=Horizon(total_updates=2000))
tx = optax.chain(optax.clip_by_global_norm(0.5), rule)
state, before = tx.init(params), loss(params)


@jax.jit
def step(params, state):
    """Take one optimizer step."""
    updates, state = tx.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state


for _ in range(2000):
    params, state = step(params, state)
print(f"loss before {before:.4f}, after {loss(params):.4f}")
