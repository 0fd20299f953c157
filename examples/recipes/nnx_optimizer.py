"""Flax nnx: nnx.Optimizer forwards keyword arguments to the learned optimizer."""

import jax
import optax
from flax import nnx

from learned_opt_rl import Horizon, features, open_rl

STEPS = 150
x = jax.random.normal(jax.random.key(0), (128, 4))


class MLP(nnx.Module):
    """A network with one hidden layer."""

    def __init__(self, outputs, rngs):
        """Initialize the parameters."""
        self.linear_0 = nnx.Linear(4, 32, rngs=rngs)
        self.linear_1 = nnx.Linear(32, outputs, rngs=rngs)

    def __call__(self, x):
        """Return the outputs for each row."""
        return self.linear_1(nnx.relu(self.linear_0(x)))


class Agent(nnx.Module):
    """An agent whose attribute names identify the actor and the critic."""

    def __init__(self, rngs):
        """Initialize the parameters."""
        self.actor, self.critic = MLP(3, rngs), MLP(1, rngs)

    def __call__(self, x):
        """Return logits and a value for each row."""
        return self.actor(x), self.critic(x)


def loss(model):
    """Return the sum of two regression losses, and the dormancy of every neuron."""
    (logits, value), dormancy = features.nnx_dormancy(model, x)
    return ((logits - x[:, 1:]) ** 2).mean() + (value**2).mean(), dormancy


# [wiring]
model = Agent(nnx.Rngs(0))
rule = open_rl.pretrained("minatar", horizon=Horizon(STEPS))
tx = optax.chain(optax.clip_by_global_norm(0.5), rule)
optimizer = nnx.Optimizer(model, tx, wrt=nnx.Param)


@nnx.jit
def step(model, optimizer):
    """Apply one gradient update. Dormancy is optional."""
    grads, dormancy = nnx.grad(loss, has_aux=True)(model)
    optimizer.update(model, grads, dormancy=dormancy)


# [end]
before = loss(model)[0]
for _ in range(STEPS):
    step(model, optimizer)
print(f"loss before {before:.4f}, after {loss(model)[0]:.4f}")
