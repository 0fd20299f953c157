"""One update of an LPG agent on a given rollout; differentiable in the rule."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.agents._gradients import clip_by_norm
from learned_opt_rl.agents._policies import select
from learned_opt_rl.agents.config import LPGConfig
from learned_opt_rl.agents.networks import Network, apply_network
from learned_opt_rl.rules.lpg import EPS, UpdateRule

Params = dict[str, Network]
"""``{"actor": Network, "predictor": Network}``."""


class AgentState(NamedTuple):
    """An LPG agent.

    Attributes:
        params: ``{"actor": ..., "predictor": ...}``.
        opt_state: The optimiser's state.
        step: int32 scalar, updates made.
    """

    params: Any
    opt_state: optax.OptState
    step: jax.Array


class Rollout(NamedTuple):
    """B workers' transitions of T steps.

    Attributes:
        observation: float32 ``[B, T + 1, features]``, or images for convolutions;
            after the end of an episode the next one's first. The last is where the
            rollout stopped.
        action: int32 ``[B, T]``.
        reward: float32 ``[B, T]``.
        done: bool ``[B, T]``.
    """

    observation: jax.Array
    action: jax.Array
    reward: jax.Array
    done: jax.Array


class UpdateMetrics(NamedTuple):
    """What an update reports; float32 scalars.

    Attributes:
        loss: The agent's loss.
        kl: Mean of D_KL(y || y_hat).
        pi_l2: Mean of pi_hat squared.
        y_l2: Mean squared norm of y_hat.
        policy_entropy: Of the updated actor, on this rollout.
        target_entropy: Of the updated predictor, on this rollout.
    """

    loss: jax.Array
    kl: jax.Array
    pi_l2: jax.Array
    y_l2: jax.Array
    policy_entropy: jax.Array
    target_entropy: jax.Array


def init_agent(params: Params, optimizer: optax.GradientTransformation) -> AgentState:
    """An agent before its first update."""
    return AgentState(params, optimizer.init(params), jnp.int32(0))


def agent_update(
    config: LPGConfig,
    rule: UpdateRule,
    optimizer: optax.GradientTransformation,
    agent: AgentState,
    rollout: Rollout,
    *,
    lifetime: jax.Array | int | None = None,
    discard: bool = False,
    through_inputs: bool = False,
) -> tuple[AgentState, UpdateMetrics]:
    """Moves an agent one step down the rule's loss.

    Args:
        config: Uses ``alpha_y``, ``gamma``, ``max_grad_norm`` and what networks
            depend on.
        rule: The update rule; a meta-gradient passes to it.
        optimizer: Any optax transformation of ``{"actor", "predictor"}``.
        agent: Before the update.
        rollout: What it played.
        lifetime: Updates in the agent's life, for rules that see it and for
            ``discard``.
        discard: Keep the agent as it is once ``lifetime`` updates are made. Metrics
            are computed all the same.
        through_inputs: Let a meta-gradient pass by the probabilities and predictions
            as inputs of the rule. The update is the same.

    Returns:
        The agent after the update, and metrics.

    Raises:
        ValueError: ``discard`` without ``lifetime``; or as ``UpdateRule.loss``.

    References:
        Oh et al. 2020, equation 2.
    """
    if discard and lifetime is None:
        raise ValueError("discard=True needs lifetime=, the number of updates to keep")
    told: dict[str, Any] = dict(gamma=config.gamma, step=agent.step, lifetime=lifetime)

    def inputs(params: Params) -> tuple[jax.Array, ...]:
        probs = select(policy(params, rollout, config), rollout.action)
        y = _softmax(params["predictor"], rollout.observation, config)
        return rollout.reward, rollout.done, probs, y[:, :-1], y[:, 1:]

    targets = None
    if through_inputs:
        reward, done, probs, y, y_next = inputs(agent.params)
        targets = rule.targets(reward, done, probs + EPS, y, y_next, **told)

    def loss(params: Params) -> Any:
        return rule.loss(
            *inputs(params), alpha_y=config.alpha_y, targets=targets, **told
        )

    (total, parts), grads = jax.value_and_grad(loss, has_aux=True)(agent.params)
    if config.max_grad_norm is not None:
        grads = {k: clip_by_norm(g, config.max_grad_norm) for k, g in grads.items()}
    updates, opt_state = optimizer.update(grads, agent.opt_state, agent.params)
    params: Any = optax.apply_updates(agent.params, updates)
    updated = AgentState(params, opt_state, agent.step + 1)
    if discard and lifetime is not None:
        alive = agent.step < lifetime
        updated = jax.tree.map(lambda n, o: jnp.where(alive, n, o), updated, agent)
    return updated, UpdateMetrics(
        loss=total,
        kl=jnp.mean(parts.kl),
        pi_l2=parts.pi_l2,
        y_l2=parts.y_l2,
        policy_entropy=_entropy(policy(updated.params, rollout, config)),
        target_entropy=_entropy(
            _softmax(updated.params["predictor"], rollout.observation[:, :-1], config)
        ),
    )


def policy(params: Params, rollout: Rollout, config: LPGConfig) -> jax.Array:
    """Probabilities of all actions, ``[B, T, A]``."""
    return _softmax(params["actor"], rollout.observation[:, :-1], config)


def _softmax(params: Network, x: jax.Array, config: LPGConfig) -> jax.Array:
    return jax.nn.softmax(apply_network(params, x, config)[0])


def _entropy(probs: jax.Array) -> jax.Array:
    probs = probs + EPS
    return -jnp.mean(jnp.sum(probs * jnp.log(probs), axis=-1))
