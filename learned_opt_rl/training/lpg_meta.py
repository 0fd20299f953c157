"""LPG's meta-gradient: how good is the agent after K updates by the rule?

Pure functions of rollouts, however they come about: `meta_loss` asks for each from a
function, which plays in environments or hands out given ones. To be vmapped over
lifetimes, and differentiated in the rule.

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

from learned_opt_rl.agents._gradients import clip_by_norm
from learned_opt_rl.agents._lpg_step import AgentState, Rollout, UpdateMetrics, policy
from learned_opt_rl.agents._lpg_step import agent_update as agent_update
from learned_opt_rl.agents._policies import select
from learned_opt_rl.agents.config import LPGConfig
from learned_opt_rl.agents.networks import Network, apply_network
from learned_opt_rl.agents.ppo import gae
from learned_opt_rl.rules.lpg import EPS, UpdateRule

Play = Callable[[Any, Any], tuple[Any, Rollout]]
"""``(agent's params, world) -> (world, rollout)``; a world is any pytree."""


@dataclasses.dataclass(frozen=True)
class MetaConfig:
    """Hyper-parameters of the meta-gradient; the defaults are GROOVE's.

    Attributes:
        agent: The agents'.
        updates: K, agent updates per meta-gradient.
        gamma: Discount of the advantages, and so of the meta-objective.
        gae_lambda: Decay of generalised advantage estimation.
        policy_entropy: Bonus for the actor's entropy, b0.
        target_entropy: Bonus for the predictor's entropy, b1.
        policy_l2: Penalty on pi_hat squared, b2.
        target_l2: Penalty on y_hat squared, b3.
        discard: Whether agents stay as they are at the end of their lifetimes.
        through_inputs: See `agent_update`.
        compat: Repeat two defects of GROOVE, to compare with it: the value critic
            never learns, and each step is credited with its worker's mean advantage.

    Raises:
        ValueError: If ``updates`` is not a positive whole number.
    """

    agent: LPGConfig
    updates: int = 5
    gamma: float = 0.99
    gae_lambda: float = 0.95
    policy_entropy: float = 5e-2
    target_entropy: float = 1e-3
    policy_l2: float = 5e-3
    target_l2: float = 1e-3
    discard: bool = True
    through_inputs: bool = False
    compat: bool = False

    def __post_init__(self) -> None:
        """Checks the number of updates."""
        if not isinstance(self.updates, int) or self.updates < 1:
            raise ValueError(f"updates={self.updates!r} must be a positive integer")


class Optimizers(NamedTuple):
    """The agents' optimisers; of `guarded_adam` rather than ``optax.adam``.

    Attributes:
        agent: Of ``{"actor": ..., "predictor": ...}``.
        value: Of the value critic.
    """

    agent: optax.GradientTransformation
    value: optax.GradientTransformation


class ValueState(NamedTuple):
    """The value critic, which serves the meta-gradient alone.

    Attributes:
        params: A network with one output.
        opt_state: Its optimiser's state.
    """

    params: Network
    opt_state: optax.OptState


class Life(NamedTuple):
    """One lifetime between two meta-gradients.

    Attributes:
        agent: The agent.
        value: Its value critic.
        lifetime: int32 scalar, updates the agent will make in all.
        world: What the function that plays needs.
    """

    agent: AgentState
    value: ValueState
    lifetime: jax.Array
    world: Any


class MetaMetrics(NamedTuple):
    """What a meta-gradient reports; float32 scalars.

    Attributes:
        loss: What the rule descends.
        policy_loss: The part without regularisers.
        value_loss: Of the value critic on the last rollout.
        update: Metrics of the agent's updates, means over K.
    """

    loss: jax.Array
    policy_loss: jax.Array
    value_loss: jax.Array
    update: UpdateMetrics


def value_update(
    config: MetaConfig,
    optimizer: optax.GradientTransformation,
    value: ValueState,
    rollout: Rollout,
) -> tuple[ValueState, jax.Array]:
    """Moves the value critic towards the returns of a rollout.

    Args:
        config: Discount and decay; of the agent, clipping and activation.
        optimizer: Any optax transformation.
        value: The critic.
        rollout: What the agent played.

    Returns:
        The critic after the update (in ``compat`` as it was), and its loss before.
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
    """Generalised advantages of a rollout, float32 ``[B, T]``."""
    value = _values(config, params, rollout).T
    reward, done = rollout.reward.T, rollout.done.T
    return gae(reward, done, value[:-1], value[-1], config.gamma, config.gae_lambda).T


def meta_loss(
    rule: UpdateRule,
    config: MetaConfig,
    optimizers: Optimizers,
    life: Life,
    play: Play,
) -> tuple[jax.Array, tuple[Life, MetaMetrics]]:
    """Trains an agent for K updates and judges it on one more rollout.

    Args:
        rule: The learned rule; differentiate in it.
        config: Coefficients.
        optimizers: The agent's and the value critic's.
        life: Where the lifetime stands.
        play: Gives a rollout of the agent whose parameters it gets. Called K + 1
            times; no gradient passes through it.

    Returns:
        The loss to descend in the rule, and as auxiliary output the lifetime
        afterwards, to go on from without a gradient, and metrics.

    Example:
        >>> import functools, jax
        >>> def gradient(rule, lives, config, optimizers, play):
        ...     def mean_loss(rule):
        ...         one = functools.partial(meta_loss, rule, config, optimizers)
        ...         losses, aux = jax.vmap(lambda life: one(life, play))(lives)
        ...         return losses.mean(), aux
        ...
        ...     return jax.grad(mean_loss, has_aux=True)(rule)
    """

    def update(carry: tuple[AgentState, Any], _: None) -> Any:
        agent, world = carry
        world, rollout = _detached(play, agent, world)
        agent, metrics = agent_update(
            config.agent,
            rule,
            optimizers.agent,
            agent,
            rollout,
            lifetime=life.lifetime,
            discard=config.discard,
            through_inputs=config.through_inputs,
        )
        return (agent, world), (rollout, metrics)

    def learn_value(value: ValueState, rollout: Rollout) -> tuple[ValueState, Any]:
        return value_update(config, optimizers.value, value, rollout)

    start = (life.agent, life.world)
    (agent, world), (rollouts, metrics) = jax.lax.scan(
        update, start, length=config.updates
    )
    world, judged = _detached(play, agent, world)
    value, _ = jax.lax.scan(learn_value, life.value, rollouts)
    policy_loss = _policy_loss(config, agent, judged, value.params)
    value, value_loss = learn_value(value, judged)
    mean = jax.tree.map(jnp.mean, metrics)
    loss = policy_loss + _regularisers(config, mean)
    after = jax.lax.stop_gradient(Life(agent, value, life.lifetime, world))
    return loss, (after, MetaMetrics(loss, policy_loss, value_loss, mean))


def _detached(play: Play, agent: AgentState, world: Any) -> tuple[Any, Rollout]:
    return jax.lax.stop_gradient(play(jax.lax.stop_gradient(agent.params), world))


def _policy_loss(
    config: MetaConfig, agent: AgentState, rollout: Rollout, value: Network
) -> jax.Array:
    """REINFORCE with normalised advantages: how the rule could have done better."""
    advantage = advantages(config, value, rollout)
    advantage = (advantage - advantage.mean()) / (advantage.std() + EPS)
    probs = select(policy(agent.params, rollout, config.agent), rollout.action)
    log_prob, advantage = jnp.log(probs + EPS), jax.lax.stop_gradient(advantage)
    if config.compat:
        return -jnp.mean(log_prob.mean(1) * advantage.mean(1))
    return -jnp.mean(log_prob * advantage)


def _regularisers(config: MetaConfig, metrics: UpdateMetrics) -> jax.Array:
    return (
        config.policy_l2 * metrics.pi_l2
        - config.policy_entropy * metrics.policy_entropy
        + config.target_l2 * metrics.y_l2
        - config.target_entropy * metrics.target_entropy
    )


def _values(config: MetaConfig, params: Network, rollout: Rollout) -> jax.Array:
    """Values of all T + 1 observations, ``[B, T + 1]``."""
    return apply_network(params, rollout.observation, config.agent)[0][..., 0]
