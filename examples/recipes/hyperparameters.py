"""Change and log a rule's learning rate during a run, and add weight decay."""

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import Horizon, open_rl, pretrained

STEPS = 150
x = jax.random.normal(jax.random.key(0), (32, 4))


def loss(params):
    """Return a regression loss."""
    return ((jnp.tanh(x @ params["actor"]) - x) ** 2).mean()


# [inject]
# By name or by weights; the learning rate may be a number or a schedule.
injected = optax.inject_hyperparams(pretrained)(
    "optim4rl/breakout", learning_rate=optax.linear_schedule(3e-2, 1e-3, STEPS)
)


def learning_rate(state):
    """Return what to log after each update."""
    return state.hyperparams["learning_rate"]


# [decay]
# A rule's update is added as it is, so weights decay with a negative rate after it.
rule = open_rl.pretrained("minatar", horizon=Horizon(STEPS))
clip = optax.clip_by_global_norm(0.5)
decayed = optax.chain(clip, rule, optax.add_decayed_weights(-1e-4))
# [end]


def train(tx):
    """Return the parameters and the state after all steps."""

    def step(_, carry):
        params, state = carry
        updates, state = tx.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    params = {"actor": jnp.zeros((4, 4))}
    return jax.lax.fori_loop(0, STEPS, step, (params, tx.init(params)))


before = loss({"actor": jnp.zeros((4, 4))})
for tx in injected, decayed:
    params, state = train(tx)
    print(f"loss before {before:.4f}, after {loss(params):.4f}")
    if tx is injected:
        print(f"learning rate {learning_rate(state):.4f}")
