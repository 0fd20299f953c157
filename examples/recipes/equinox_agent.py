"""Equinox: filter the model for the optimizer, and handle its [out, in] kernels."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import Horizon, features, open_rl

STEPS = 150
x = jax.random.normal(jax.random.key(0), (128, 4))


class Agent(eqx.Module):
    """An agent whose field names identify the actor and the critic."""

    actor: eqx.nn.MLP
    critic: eqx.nn.MLP


def loss(agent):
    """Return the sum of two regression losses, and the dormancy of every neuron."""
    seen = activations(agent.actor), activations(agent.critic)
    (_, logits), (_, value) = seen
    return ((logits - x[:, 1:]) ** 2).mean() + (value**2).mean(), dormancy(agent, seen)


# [dormancy]
def activations(network):
    """Return the activations of every layer of a network."""
    hidden = jax.nn.relu(jax.vmap(network.layers[0])(x))
    return hidden, jax.vmap(network.layers[1])(hidden)


def layer_dormancy(layer, activation):
    """Broadcast one value per neuron along the first axis of each parameter."""
    level = features.dormancy(activation)
    return jax.tree.map(lambda p: jnp.broadcast_to(level, p.shape[::-1]).T, layer)


def dormancy(agent, seen):
    """Return the dormancy of all layers as a tree like the agent's parameters."""
    params = eqx.filter(agent, eqx.is_inexact_array)
    levels = map(layer_dormancy, layers(params), [*seen[0], *seen[1]])
    return eqx.tree_at(layers, params, list(levels))


def layers(agent):
    """Return all layers in the order of ``seen``."""
    return [*agent.actor.layers, *agent.critic.layers]


# [wiring]
rule = open_rl.pretrained("minatar", horizon=Horizon(STEPS))
tx = optax.chain(optax.clip_by_global_norm(0.5), rule)
agent = Agent(
    actor=eqx.nn.MLP(4, 3, 32, 1, key=jax.random.key(1)),
    critic=eqx.nn.MLP(4, 1, 32, 1, key=jax.random.key(2)),
)
state = tx.init(eqx.filter(agent, eqx.is_inexact_array))


@eqx.filter_jit
def step(agent, state):
    """Apply one gradient update. Dormancy is optional."""
    grads, dormancy = eqx.filter_grad(loss, has_aux=True)(agent)
    params = eqx.filter(agent, eqx.is_inexact_array)
    updates, state = tx.update(grads, state, params, dormancy=dormancy)
    return eqx.apply_updates(agent, updates), state


# [end]
before = loss(agent)[0]
for _ in range(STEPS):
    agent, state = step(agent, state)
print(f"loss before {before:.4f}, after {loss(agent)[0]:.4f}")
