"""The smallest loop around a learned optimiser: it goes where Adam went."""

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import Horizon, open_rl

STEPS = 300

x = jnp.linspace(-2, 2, 64)[:, None]
keys = jax.random.split(jax.random.key(0))
# A value function: parameters of a critic are told by its name, and get no noise.
params = {
    "critic": {
        "Dense_0": {"w": jax.random.normal(keys[0], (1, 32)), "b": jnp.zeros((1, 32))},
        "Dense_1": {"w": 0.1 * jax.random.normal(keys[1], (32, 1)), "b": jnp.zeros(())},
    }
}


def loss(params):
    """Squared error of a small network on a sine wave."""
    hidden, out = params["critic"]["Dense_0"], params["critic"]["Dense_1"]
    y = jax.nn.relu(x @ hidden["w"] + hidden["b"]) @ out["w"] + out["b"]
    return jnp.mean((y - jnp.sin(3 * x)) ** 2)


tx = optax.chain(
    optax.clip_by_global_norm(0.5),
    open_rl.pretrained("minatar", horizon=Horizon(STEPS)),
)
state, before = tx.init(params), loss(params)


@jax.jit
def step(params, state):
    """One gradient, one update."""
    updates, state = tx.update(jax.grad(loss)(params), state, params)
    return optax.apply_updates(params, updates), state


for _ in range(STEPS):
    params, state = step(params, state)
print(f"loss before {before:.4f}, after {loss(params):.4f}")
