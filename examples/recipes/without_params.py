"""For loops that do not pass the parameters to ``update``, as Brax's and Stoix's.

OPEN reads the parameters. Where the loop cannot be changed, the optimiser's state can
hold a copy of them, to which each update is applied as the loop does: this has to be
the outermost transformation, and costs the memory of the copy.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import Horizon, open_rl


# [wrapper]
class RememberedParams(NamedTuple):
    """The loop's parameters, and the state of the optimiser proper."""

    params: Any
    inner: Any


def remember_params(tx):
    """The transformation ``tx``, which then needs no ``params`` in ``update``."""
    tx = optax.with_extra_args_support(tx)

    def init(params):
        return RememberedParams(jax.tree.map(jnp.copy, params), tx.init(params))

    def update(updates, state, params=None, **extra):
        params = state.params if params is None else params
        updates, inner = tx.update(updates, state.inner, params, **extra)
        return updates, RememberedParams(optax.apply_updates(params, updates), inner)

    return optax.GradientTransformationExtraArgs(init, update)


# [wiring]
rule = open_rl.pretrained("minatar", horizon=Horizon(150))
tx = remember_params(optax.chain(optax.clip_by_global_norm(0.5), rule))
# [end]


def loss(params):
    """Squared error of a linear value function."""
    return ((x @ params["critic"]["w"] - y) ** 2).mean()


@jax.jit
def step(params, *, optimizer_state):
    """Brax's ``gradient_update_fn``, in short."""
    updates, optimizer_state = tx.update(jax.grad(loss)(params), optimizer_state)
    return optax.apply_updates(params, updates), optimizer_state


x = jax.random.normal(jax.random.key(0), (64, 4))
y = x @ jnp.array([0.3, -0.2, 0.1, 0.0])
params = {"critic": {"w": jnp.zeros(4)}}
state, before = tx.init(params), loss(params)
for _ in range(150):
    params, state = step(params, optimizer_state=state)
print(f"loss before {before:.4f}, after {loss(params):.4f}")
