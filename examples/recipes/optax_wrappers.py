"""Use a learned optimizer inside optax's wrappers, with notes on each wrapper."""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from learned_opt_rl import Horizon, features, open_rl

STEPS = 150
x = jax.random.normal(jax.random.key(0), (128, 4))


class ActorCritic(nn.Module):
    """Two heads on one torso."""

    @nn.compact
    def __call__(self, x):
        """Return logits and a value for each row."""
        h = nn.relu(nn.Dense(32, name="torso")(x))
        return nn.Dense(3, name="actor")(h), nn.Dense(1, name="critic")(h)


def loss(params):
    """Return the sum of two regression losses, and the dormancy of every neuron."""
    (logits, value), dormancy = features.linen_dormancy(model, params, x)
    return ((logits - x[:, 1:]) ** 2).mean() + (value**2).mean(), dormancy


def learned(steps=STEPS):
    """Return the rule that the examples below wrap."""
    rule = open_rl.pretrained("minatar", horizon=Horizon(steps))
    return optax.chain(optax.clip_by_global_norm(0.5), rule)


# [multi_transform]
# Use Adam for the critic. The masks apply to dormancy only with the last option.
labels = {"params": {"torso": "learned", "actor": "learned", "critic": "adam"}}
multi_transform = optax.multi_transform(
    {"learned": learned(), "adam": optax.adam(1e-2)},
    labels,
    mask_compatible_extra_args=True,
)
# [masked]
# Freeze the torso. Masked updates pass through unchanged, so set them to zero.
frozen = {"params": {"torso": True, "actor": False, "critic": False}}
trained = jax.tree.map(lambda is_frozen: not is_frozen, frozen)
masked = optax.chain(
    optax.masked(learned(), trained, mask_compatible_extra_args=True),
    optax.masked(optax.set_to_zero(), frozen),
)
# [MultiSteps]
# The gradients of 3 calls make one update, so divide the horizon by 3. For PPO, use
# Horizon.ppo(..., minibatches=minibatches // 3).
multi_steps = optax.MultiSteps(learned(STEPS // 3), every_k_schedule=3)
# [inject_hyperparams]
# OPEN has no learning rate to inject, so scale its update by a factor.
scale = optax.inject_hyperparams(optax.scale)(step_size=optax.linear_schedule(2, 1, 99))
injected = optax.chain(learned(), scale)
# [apply_if_finite]
# Without this wrapper, one NaN in a gradient stays in the momenta forever.
if_finite = optax.apply_if_finite(learned(), max_consecutive_errors=5)
# [end]
model = ActorCritic()
params = model.init(jax.random.key(1), x)


def train(tx, has_nan):
    """Train for all steps. With ``has_nan``, one gradient is NaN."""

    def step(carry, i):
        params, state = carry
        grads, dormancy = jax.grad(loss, has_aux=True)(params)
        bad = jnp.where(has_nan & (i == 9), jnp.nan, 0.0)
        grads = jax.tree.map(lambda g: g + bad, grads)
        updates, state = tx.update(grads, state, params, dormancy=dormancy)
        return (optax.apply_updates(params, updates), state), None

    start = params, tx.init(params)
    return jax.lax.scan(step, start, jnp.arange(STEPS))[0][0]


for name in "multi_transform", "masked", "multi_steps", "injected", "if_finite":
    after = train(globals()[name], has_nan=name == "if_finite")
    print(f"{name}: loss before {loss(params)[0]:.4f}, after {loss(after)[0]:.4f}")
