"""Actor and critic with an optimiser each, as in Stoix's systems.

One difference from one optimiser for both, as OPEN was trained: from the update of all
it is given it removes the mean, which is here the mean over each network, and there
over both together.
"""

from typing import Any, NamedTuple

import jax
import optax
from flax import linen as nn

from learned_opt_rl import Horizon, open_rl

STEPS = 150
x = jax.random.normal(jax.random.key(0), (128, 4))


class ActorCritic(NamedTuple):
    """Whatever each of the two has."""

    actor: Any
    critic: Any


class Network(nn.Module):
    """A torso and a head, named as Stoix names them."""

    head: str
    outputs: int

    @nn.compact
    def __call__(self, x):
        """The outputs for each row."""
        h = nn.relu(nn.Dense(32, name="torso")(x))
        return nn.Dense(self.outputs, name=self.head)(h)


# [wiring]
def optimiser(network, *layers):
    """Says which network this is, and its layers in order: heads sort before torsos."""
    rule = open_rl.pretrained(
        "minatar", horizon=Horizon(STEPS), networks={network: layers}
    )
    return optax.chain(optax.clip_by_global_norm(0.5), rule)


optim = ActorCritic(
    actor=optimiser("actor", "torso", "action_head"),
    critic=optimiser("critic", "torso", "critic_head"),
)


@jax.jit
def step(params, opt_states):
    """One gradient and one update of each; Stoix leaves out ``params[i]``: add it."""
    grads, new = jax.grad(loss)(params), []
    for i, tx in enumerate(optim):
        updates, opt_state = tx.update(grads[i], opt_states[i], params[i])
        new.append((optax.apply_updates(params[i], updates), opt_state))
    return ActorCritic(new[0][0], new[1][0]), ActorCritic(new[0][1], new[1][1])


# [end]
def loss(params):
    """Two regressions."""
    logits, value = actor.apply(params.actor, x), critic.apply(params.critic, x)
    return ((logits - x[:, 1:]) ** 2).mean() + (value**2).mean()


actor, critic = Network("action_head", 3), Network("critic_head", 1)
key = jax.random.key(1)
params = ActorCritic(actor.init(key, x), critic.init(key, x))
opt_states = ActorCritic(*(tx.init(p) for tx, p in zip(optim, params, strict=True)))
before = loss(params)
for _ in range(STEPS):
    params, opt_states = step(params, opt_states)
print(f"loss before {before:.4f}, after {loss(params):.4f}")
