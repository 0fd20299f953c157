"""Give the rule the true progress of a run whose number of updates is not known.

Updates are counted in the optimizer's state. The count is wrong where epochs stop
early, where the number of minibatches changes, and after the state was reset.
Environment steps are always known, so pass the progress that they make.
"""

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from flax.training.train_state import TrainState

from learned_opt_rl import Horizon, open_rl

TOTAL_STEPS, PER_ROLLOUT, EPOCHS = 3200, 64, 4
x = jax.random.normal(jax.random.key(0), (PER_ROLLOUT, 4))
model = nn.Dense(4, name="actor")
rule = open_rl.pretrained("minatar", horizon=Horizon.ppo(TOTAL_STEPS, 8, 8, EPOCHS, 1))
tx = optax.chain(optax.clip_by_global_norm(0.5), rule)
agent = TrainState.create(
    apply_fn=model.apply, params=model.init(jax.random.key(1), x), tx=tx
)


def loss(params):
    """Return a regression loss."""
    return ((model.apply(params, x) - jnp.tanh(x)) ** 2).mean()


# [early_stop]
@jax.jit
def step(agent, steps_done, epoch):
    """Apply one update at a known point of the run."""
    updates, opt_state = agent.tx.update(
        jax.grad(loss)(agent.params),
        agent.opt_state,
        agent.params,
        training_proportion=jnp.minimum(steps_done / TOTAL_STEPS, 1.0),
        batch_proportion=epoch / (EPOCHS - 1),
    )
    params = optax.apply_updates(agent.params, updates)
    return agent.replace(step=agent.step + 1, params=params, opt_state=opt_state)


# [reset]
def reset_optimizer(agent):
    """Forget momenta and count. Progress is passed, so it does not start again."""
    return agent.replace(opt_state=agent.tx.init(agent.params))


# [resume]
def longer(total_steps):
    """Return the rule for a run that resumes with more steps than were planned."""
    return optax.chain(
        optax.clip_by_global_norm(0.5),
        open_rl.pretrained(
            "minatar", horizon=Horizon.ppo(total_steps, 8, 8, EPOCHS, 1)
        ),
    )


# [end]
before = loss(agent.params)
for steps_done in range(0, TOTAL_STEPS, PER_ROLLOUT):
    stops_early = steps_done % (2 * PER_ROLLOUT) == 0
    for epoch in range(2 if stops_early else EPOCHS):
        agent = step(agent, steps_done, epoch)
    if steps_done == TOTAL_STEPS // 2:
        agent = reset_optimizer(agent)
agent = agent.replace(tx=longer(2 * TOTAL_STEPS))
agent = jax.jit(
    lambda agent: agent.apply_gradients(grads=jax.grad(loss)(agent.params))
)(agent)
print(f"loss before {before:.4f}, after {loss(agent.params):.4f}")
