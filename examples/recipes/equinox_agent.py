"""Equinox: filter the model for the optimiser, and mind its [out, in] kernels."""

import equinox as eqx
import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import Horizon, features, open_rl

STEPS = 150
x = jax.random.normal(jax.random.key(0), (128, 4))


class Agent(eqx.Module):
    """The names of its fields tell actor from critic."""

    actor: eqx.nn.MLP
    critic: eqx.nn.MLP


def loss(agent):
    """Two regressions, and the dormancy of every neuron besides."""
    seen = activations(agent.actor), activations(agent.critic)
    (_, logits), (_, value) = seen
    return ((logits - x[:, 1:]) ** 2).mean() + (value**2).mean(), dormancy(agent, seen)


# [dormancy]
def activations(network):
    """What every layer of a network says of the data."""
    hidden = jax.nn.relu(jax.vmap(network.layers[0])(x))
    return hidden, jax.vmap(network.layers[1])(hidden)


def layer_dormancy(layer, activation):
    """A value per neuron, which is the first axis of an Equinox parameter."""
    level = features.dormancy(activation)
    return jax.tree.map(lambda p: jnp.broadcast_to(level, p.shape[::-1]).T, layer)


def dormancy(agent, seen):
    """The dormancy of all layers, as a tree like the agent's parameters."""
    params = eqx.filter(agent, eqx.is_inexact_array)
    levels = map(layer_dormancy, layers(params), [*seen[0], *seen[1]])
    return eqx.tree_at(layers, params, list(levels))


def layers(agent):
    """All layers, in the order of ``seen``."""
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
    """One gradient, one update; dormancy may be left out."""
    grads, dormancy = eqx.filter_grad(loss, has_aux=True)(agent)
    params = eqx.filter(agent, eqx.is_inexact_array)
    updates, state = tx.update(grads, state, params, dormancy=dormancy)
    return eqx.apply_updates(agent, updates), state


# [end]
before = loss(agent)[0]
for _ in range(STEPS):
    agent, state = step(agent, state)
print(f"loss before {before:.4f}, after {loss(agent)[0]:.4f}")
