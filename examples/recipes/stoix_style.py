"""Separate optimizers for actor and critic, as in Stoix's systems.

OPEN was trained as one optimizer for both networks and subtracts the mean of its update
over both. Here, each optimizer subtracts the mean over its own network.
"""

from typing import Any, NamedTuple

import jax
import optax
from flax import linen as nn

from learned_opt_rl import Horizon, open_rl

STEPS = 150
x = jax.random.normal(jax.random.key(0), (128, 4))


class ActorCritic(NamedTuple):
    """A pair of values, one for the actor and one for the critic."""

    actor: Any
    critic: Any


class Network(nn.Module):
    """A network of a torso and a head, with Stoix's names."""

    head: str
    outputs: int

    @nn.compact
    def __call__(self, x):
        """Return the outputs for each row."""
        h = nn.relu(nn.Dense(32, name="torso")(x))
        return nn.Dense(self.outputs, name=self.head)(h)


# [wiring]
def optimizer(network):
    """Build a rule for one network, whose name the paths it sees do not contain."""
    rule = open_rl.pretrained("minatar", horizon=Horizon(STEPS), networks={network: ""})
    return optax.chain(optax.clip_by_global_norm(0.5), rule)


optim = ActorCritic(
    actor=optimizer("actor"),
    critic=optimizer("critic"),
)


@jax.jit
def step(params, opt_states):
    """Update both networks. Stoix omits ``params[i]``, so add this argument."""
    grads, new = jax.grad(loss)(params), []
    for i, tx in enumerate(optim):
        updates, opt_state = tx.update(grads[i], opt_states[i], params[i])
        new.append((optax.apply_updates(params[i], updates), opt_state))
    return ActorCritic(new[0][0], new[1][0]), ActorCritic(new[0][1], new[1][1])


# [end]
def loss(params):
    """Return the sum of two regression losses."""
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
