"""Support loops that do not pass the parameters to ``update``, such as Brax's.

OPEN reads the parameters. If you cannot change the loop, keep a copy of the parameters
in the optimizer's state and apply every update to the copy as well. The wrapper must be
the outermost transformation, and the copy costs memory.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import Horizon, open_rl


# [wrapper]
class RememberedParams(NamedTuple):
    """A copy of the parameters, and the state of the inner optimizer."""

    params: Any
    inner: Any


def remember_params(tx):
    """Wrap ``tx`` so that ``update`` does not need ``params``."""
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
    """Return the squared error of a linear value function."""
    return ((x @ params["critic"]["w"] - y) ** 2).mean()


@jax.jit
def step(params, *, optimizer_state):
    """Apply one update, like a short version of Brax's ``gradient_update_fn``."""
    updates, optimizer_state = tx.update(jax.grad(loss)(params), optimizer_state)
    return optax.apply_updates(params, updates), optimizer_state


x = jax.random.normal(jax.random.key(0), (64, 4))
y = x @ jnp.array([0.3, -0.2, 0.1, 0.0])
params = {"critic": {"w": jnp.zeros(4)}}
state, before = tx.init(params), loss(params)
for _ in range(150):
    params, state = step(params, optimizer_state=state)
print(f"loss before {before:.4f}, after {loss(params):.4f}")
