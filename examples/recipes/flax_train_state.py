"""Flax's TrainState, without and with dormancy.

``TrainState.apply_gradients`` calls ``tx.update(grads, opt_state, params)``, which is
enough for a learned optimizer. It cannot forward other arguments. To pass dormancy,
write out the three lines of ``apply_gradients``.
"""

import jax
import optax
from flax import linen as nn
from flax.training.train_state import TrainState

from learned_opt_rl import Horizon, features, open_rl

STEPS = 150
x = jax.random.normal(jax.random.key(0), (128, 4))


class ActorCritic(nn.Module):
    """Two networks with the network's name in the name of each layer."""

    @nn.compact
    def __call__(self, x):
        """Return logits and a value for each row."""
        h = nn.relu(nn.Dense(32, name="actor_0")(x))
        logits = nn.Dense(3, name="actor_1")(h)
        h = nn.relu(nn.Dense(32, name="critic_0")(x))
        return logits, nn.Dense(1, name="critic_1")(h)


def loss(params):
    """Return the sum of two regression losses, and the dormancy of every neuron."""
    (logits, value), dormancy = features.linen_dormancy(model, params, x)
    return ((logits - x[:, 1:]) ** 2).mean() + (value**2).mean(), dormancy


model = ActorCritic()
# [plain]
rule = open_rl.pretrained("minatar", horizon=Horizon(STEPS))
tx = optax.chain(optax.clip_by_global_norm(0.5), rule)
params = model.init(jax.random.key(1), x)
agent = TrainState.create(apply_fn=model.apply, params=params, tx=tx)


def plain_step(agent):
    """Apply one update, as with any optimizer."""
    grads, _ = jax.grad(loss, has_aux=True)(agent.params)
    return agent.apply_gradients(grads=grads)


# [dormancy]
def dormancy_step(agent):
    """Apply one update like apply_gradients, with dormancy."""
    grads, dormancy = jax.grad(loss, has_aux=True)(agent.params)
    updates, opt_state = agent.tx.update(
        grads, agent.opt_state, agent.params, dormancy=dormancy
    )
    params = optax.apply_updates(agent.params, updates)
    return agent.replace(step=agent.step + 1, params=params, opt_state=opt_state)


# [end]
for step in plain_step, dormancy_step:
    trained = jax.lax.fori_loop(0, STEPS, lambda _, a, step=step: step(a), agent)
    before, after = loss(params)[0], loss(trained.params)[0]
    print(f"{step.__name__}: loss before {before:.4f}, after {after:.4f}")
