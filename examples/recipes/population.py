"""Train a population whose members take over from each other but explore apart."""

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import Horizon, open_rl, reseed

MEMBERS, ROUNDS, STEPS = 4, 3, 40
x = jax.random.normal(jax.random.key(0), (32, 4))
rule = open_rl.pretrained("minatar", horizon=Horizon(ROUNDS * STEPS))
tx = optax.chain(optax.clip_by_global_norm(0.5), rule)


def loss(params):
    """Return a regression loss."""
    return ((jnp.tanh(x @ params["actor"]) - x) ** 2).mean()


def train(params, state):
    """Take some steps."""

    def step(carry, _):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, state), length=STEPS)[0]


# [exploit]
def exploit(params, state, losses, key):
    """Let the worst member take over from the best, and give all members new noise."""
    source = jnp.arange(MEMBERS).at[losses.argmax()].set(losses.argmin())
    params, state = jax.tree.map(lambda leaf: leaf[source], (params, state))
    return params, reseed(state, key)  # one key for all, or one for each member


# [end]
keys = jax.random.split(jax.random.key(1), MEMBERS)
params = jax.vmap(lambda key: {"actor": jax.random.normal(key, (4, 4))})(keys)
state = jax.vmap(tx.init)(params)
before = jax.vmap(loss)(params).mean()
train_all = jax.jit(jax.vmap(train))
for turn in range(ROUNDS):
    params, state = train_all(params, state)
    losses = jax.vmap(loss)(params)
    params, state = exploit(params, state, losses, jax.random.key(turn))
print(f"loss before {before:.4f}, after {losses.mean():.4f}")
