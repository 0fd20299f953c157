"""LPG's meta-gradient: the derivative of an agent's return after K updates.

`meta_loss` trains an agent for K updates by the rule and judges it on one more rollout.
It is a pure function: a callback plays the rollouts in environments, or returns stored
ones. Use ``vmap`` over lifetimes and ``grad`` with respect to the rule.

References:
    Oh et al., "Discovering Reinforcement Learning Algorithms", 2020, equation 4.
    Xu et al., "Meta-Gradient Reinforcement Learning", 2018.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import checks
from learned_opt_rl.agents import lpg as lpg_agent
from learned_opt_rl.agents.config import LPGConfig
from learned_opt_rl.agents.lpg import AgentState, Rollout, UpdateMetrics
from learned_opt_rl.agents.networks import Network, apply_network, select
from learned_opt_rl.agents.ppo import gae
from learned_opt_rl.agents.rollouts import clip_by_norm
from learned_opt_rl.rules.lpg import EPS, UpdateRule

Play = Callable[[Any, Any], tuple[Any, Rollout]]
"""``(agent's params, world) -> (world, rollout)``; a world is any pytree."""

ADAM_EPS_ROOT = 1e-20
"""``eps_root`` for ``optax.adam`` inside a meta-gradient.

Without it, the meta-gradient is NaN as soon as one gradient is always zero (a dead
unit, an input that is never active), because the derivative of the square root at 0 is
infinite. Its root is 1 % of Adam's ``eps=1e-8``, so the updates stay Adam's.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Objective:
    """Hyperparameters of the meta-objective, as in `config.MetaGradientConfig`."""

    updates: int = 5  # agent updates per meta-gradient, K
    gae_lambda: float = 0.95  # decay of the advantages
    target_entropy: float = 1e-3  # weight of the predictor's entropy bonus, b1
    policy_l2: float = 5e-3  # weight of the penalty on pi_hat squared, b2
    target_l2: float = 1e-3  # weight of the penalty on y_hat squared, b3
    rematerialize: bool = False  # compute activations again in the backward pass
    compat: bool = False  # see `MetaConfig`
    advantage_decay: float | None = None  # of running averages; None for none


@dataclasses.dataclass(frozen=True)
class MetaConfig(Objective):
    """Hyperparameters of the meta-gradient; the defaults are GROOVE's.

    With ``compat``, two defects of GROOVE are reproduced for comparison: the value
    critic never learns, and each step is credited with its worker's mean advantage.
    """

    agent: LPGConfig
    gamma: float = 0.99  # discount of the advantages, and so of the meta-objective
    policy_entropy: float = 5e-2  # b0, weight of the actor's entropy bonus

    def __post_init__(self) -> None:
        checks.positive_int("updates", self.updates)


class Optimizers(NamedTuple):
    """The agents' optimizers. Give ``optax.adam`` an ``eps_root``: `ADAM_EPS_ROOT`."""

    agent: optax.GradientTransformation  # of {"actor": ..., "predictor": ...}
    value: optax.GradientTransformation


class ValueState(NamedTuple):
    """The value critic, which only the meta-gradient uses."""

    params: Network  # with one output
    opt_state: optax.OptState


class Life(NamedTuple):
    """One lifetime between two meta-gradients."""

    agent: AgentState
    value: ValueState
    lifetime: jax.Array  # int32 scalar, the total number of updates of the agent
    world: Any  # state of the callback that plays
    # State of optax.ema over the means of the life's advantages and of their squares,
    # if the configuration has an ``advantage_decay``.
    averages: Any = ()


class MetaMetrics(NamedTuple):
    """Metrics of a meta-gradient; float32 scalars."""

    loss: jax.Array  # the meta-objective, which the rule descends
    policy_loss: jax.Array  # the loss without regularizers
    value_loss: jax.Array  # the value critic's loss on the last rollout
    update: UpdateMetrics  # of the agent's updates, means over K


def value_update(
    config: MetaConfig,
    optimizer: optax.GradientTransformation,
    value: ValueState,
    rollout: Rollout,
) -> tuple[ValueState, jax.Array]:
    """Move the value critic toward the returns of a rollout.

    Return the critic after the update (unchanged in ``compat``), and its loss before.
    """
    target = advantages(config, value.params, rollout)
    target += _values(config, value.params, rollout)[:, :-1]

    def loss(params: Network) -> jax.Array:
        return jnp.mean((target - _values(config, params, rollout)[:, :-1]) ** 2)

    total, grads = jax.value_and_grad(loss)(value.params)
    if config.compat:
        return value, total
    if config.agent.max_grad_norm is not None:
        grads = clip_by_norm(grads, config.agent.max_grad_norm)
    updates, opt_state = optimizer.update(grads, value.opt_state, value.params)
    params: Any = optax.apply_updates(value.params, updates)
    return ValueState(params, opt_state), total


def advantages(config: MetaConfig, params: Network, rollout: Rollout) -> jax.Array:
    """Return the generalized advantages of a rollout, float32 ``[B, T]``."""
    value = _values(config, params, rollout).T
    reward, done = rollout.reward.T, rollout.done.T
    return gae(reward, done, value[:-1], value[-1], config.gamma, config.gae_lambda).T


def meta_loss(
    rule: UpdateRule,
    config: MetaConfig,
    optimizers: Optimizers,
    life: Life,
    play: Play,
    judge: Play | None = None,
) -> tuple[jax.Array, tuple[Life, MetaMetrics]]:
    """Train an agent for K updates and judge it on one more rollout.

    Differentiate with respect to ``rule``. ``play`` is called K + 1 times, or ``judge``
    plays the last rollout, for example a longer one. No gradient passes through them.
    The auxiliary output is the lifetime after the updates, detached from the gradient,
    and the metrics.
    """

    def learn(rule: UpdateRule, agent: AgentState, rollout: Rollout) -> Any:
        return lpg_agent.agent_update(
            config.agent,
            rule,
            optimizers.agent,
            agent,
            rollout,
            lifetime=life.lifetime,
            discard=True,
        )

    if config.rematerialize:
        learn = jax.checkpoint(learn, prevent_cse=False)  # a scan prevents it, too

    def update(carry: tuple[AgentState, Any], _: None) -> Any:
        agent, world = carry
        world, rollout = _detached(play, agent, world)
        agent, metrics = learn(rule, agent, rollout)
        return (agent, world), (rollout, metrics)

    def learn_value(carry: Any, rollout: Rollout) -> Any:
        (value, averages), means = carry, None
        if config.advantage_decay is not None:
            seen = advantages(config, value.params, rollout)
            means = seen.mean(), jnp.mean(seen**2)
            ema = optax.ema(config.advantage_decay)
            means, averages = ema.update(means, averages)
        value, loss = value_update(config, optimizers.value, value, rollout)
        return (value, averages), (loss, means)

    (agent, world), (rollouts, metrics) = jax.lax.scan(
        update, (life.agent, life.world), length=config.updates
    )
    world, judged = _detached(judge or play, agent, world)
    critic, _ = jax.lax.scan(learn_value, (life.value, life.averages), rollouts)
    before = critic[0].params
    (value, averages), (value_loss, means) = learn_value(critic, judged)
    policy_loss = _policy_loss(config, agent, judged, before, means)
    mean = jax.tree.map(jnp.mean, metrics)
    loss = policy_loss + _regularizers(config, mean)
    after = Life(agent, value, life.lifetime, world, averages)
    metrics = MetaMetrics(loss, policy_loss, value_loss, mean)
    return loss, (jax.lax.stop_gradient(after), metrics)


def _detached(play: Play, agent: AgentState, world: Any) -> tuple[Any, Rollout]:
    return jax.lax.stop_gradient(play(jax.lax.stop_gradient(agent.params), world))


def _policy_loss(
    config: MetaConfig,
    agent: AgentState,
    rollout: Rollout,
    value: Network,
    means: tuple[jax.Array, jax.Array] | None,
) -> jax.Array:
    """REINFORCE on the judged rollout, with normalized advantages.

    ``means`` holds running averages of the advantages and of their squares; None uses
    this rollout's.
    """
    advantage = _normalized(advantages(config, value, rollout), means)
    policy = lpg_agent.policy(agent.params, rollout, config.agent)
    log_prob = jnp.log(select(policy, rollout.action) + EPS)
    advantage = jax.lax.stop_gradient(advantage)
    if config.compat:
        return -jnp.mean(log_prob.mean(1) * advantage.mean(1))
    return -jnp.mean(log_prob * advantage)


def _normalized(
    advantage: jax.Array, means: tuple[jax.Array, jax.Array] | None
) -> jax.Array:
    if means is None:
        return (advantage - advantage.mean()) / (advantage.std() + EPS)
    mean, square = means
    # As the ``MovingAverage`` of Oh et al., "Discovering state-of-the-art reinforcement
    # learning algorithms", 2025, with its constants.
    deviation = jnp.sqrt(jnp.maximum(square - mean**2, 0) + 1e-12) + 1e-6
    return (advantage - mean) / deviation


def _regularizers(config: MetaConfig, metrics: UpdateMetrics) -> jax.Array:
    return (
        config.policy_l2 * metrics.pi_l2
        - config.policy_entropy * metrics.policy_entropy
        + config.target_l2 * metrics.y_l2
        - config.target_entropy * metrics.target_entropy
    )


def _values(config: MetaConfig, params: Network, rollout: Rollout) -> jax.Array:
    """Values of all T + 1 observations, ``[B, T + 1]``."""
    return apply_network(params, rollout.observation, config.agent)[0][..., 0]
