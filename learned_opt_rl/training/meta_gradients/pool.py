"""Lifetimes that learn side by side: how one begins, and what a meta-step does to it.

The arrays of a pool are ``[lifetimes, ...]``; the lifetimes of an environment share a
pool. A `Lifetime` holds its hyperparameters, so one program serves all of them.
"""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import agents
from learned_opt_rl.agents import lpg as lpg_agent
from learned_opt_rl.agents import rollouts
from learned_opt_rl.agents.config import LPGConfig
from learned_opt_rl.agents.lpg import Rollout
from learned_opt_rl.agents.networks import init_network
from learned_opt_rl.agents.rollouts import MeanReturn, form_to_play
from learned_opt_rl.envs.adapter import EpisodeState
from learned_opt_rl.rules import lpg
from learned_opt_rl.rules.lpg import UpdateRule
from learned_opt_rl.training.meta_gradients import objective
from learned_opt_rl.training.meta_gradients.config import MetaGradientConfig
from learned_opt_rl.training.meta_gradients.objective import Life, Optimizers, Play
from learned_opt_rl.training.meta_gradients.tasks import Task

ENTROPY_ZERO = 1e-5
"""A policy whose mean entropy is below this never explores again, so its life ends.

The paper says 0. A deterministic policy's computed entropy is not: it has 2e-7 for each
other action, from the 1e-8 added to probabilities.
"""


_TINY = 1e-20  # A norm below this is 0 for all purposes.


class Hyper(NamedTuple):
    """Hyperparameters of a lifetime, float32 scalars; ``arm`` is int32."""

    arm: jax.Array  # of the bandit
    agent_rate: jax.Array
    alpha_y: jax.Array
    gamma: jax.Array
    policy_entropy: jax.Array


class World(NamedTuple):
    """The workers of an agent, and the key of its actions; see `lpg_agent.play`."""

    env_state: EpisodeState
    observation: jax.Array
    key: jax.Array


class Lifetime(NamedTuple):
    """An agent between two meta-steps."""

    life: Life
    hyper: Hyper
    optimal_return: jax.Array  # float32 scalar, of its level; see `Task.estimated`
    skipped: jax.Array  # int32 scalar, updates that it was aged by
    adam: Any = ()  # the state of its own Adam, with lifetime_gradients="adam"


class Outcome(NamedTuple):
    """What a meta-step did to a lifetime; arrays ``[lifetimes]`` after `advance`."""

    metrics: objective.MetaMetrics
    finished: jax.Array  # bool, whether all its updates are made
    collapsed: jax.Array  # bool, whether its policy's entropy is zero
    broken: jax.Array  # bool, whether anything in it is not finite
    returned: MeanReturn


def begin(
    config: MetaGradientConfig, task: Task, key: jax.Array, hyper: Hyper
) -> Lifetime:
    """Return a new lifetime with a level of its own; its optimal return is still 0."""
    agent_key, value_key, reset_key, life_key, play_key = jax.random.split(key, 5)
    env, agent = task.env, config.agent_config(task.env.name)
    updates = config.lifetime
    updates = jnp.int32(task.draw_lifetime(life_key) if updates is None else updates)
    made = optimizers(config, task, hyper, updates)
    width = config.rule_architecture.target_width
    params = lpg_agent.init_params(agent_key, agent, env, width)
    # In a table, a bias would share one value across all states.
    bias = bool(agent.hidden or agent.conv)
    value = init_network(value_key, agent, env.observation_shape, 1, 1.0, bias=bias)
    played = form_to_play(agent, env)
    observation, env_state = played.reset_many(reset_key, config.workers)
    averages: Any = ()
    if config.advantage_decay is not None:
        ema = optax.ema(config.advantage_decay)
        averages = ema.init((jnp.float32(0), jnp.float32(0)))
    agent_state = lpg_agent.init_agent(params, made.agent)
    critic = objective.ValueState(value, made.value.init(value))
    world = World(env_state, observation, play_key)
    life = Life(agent_state, critic, updates, world, averages)
    adam: Any = ()
    if config.lifetime_gradients == "adam":
        # Only the shapes of these weights matter, so the compiler omits their draw.
        weights = lpg.init(jax.random.key(0), config.rule_architecture)
        adam = optax.scale_by_adam().init(weights)
    return Lifetime(life, hyper, jnp.float32(0), jnp.int32(0), adam)


def aged(pool: Lifetime) -> Lifetime:
    """Return a pool whose lives have all ages, though nothing was learned.

    Annealed learning rates begin whole: an aged agent has as much to learn.
    """
    life = pool.life
    (count,) = life.lifetime.shape
    step = jnp.int32(jnp.arange(count) / count * life.lifetime)
    life = life._replace(agent=life.agent._replace(step=step))
    return pool._replace(life=life, skipped=step)


def player(config: MetaGradientConfig, task: Task, steps: int | None = None) -> Play:
    """Return what plays an agent's rollouts, of other ``steps`` than T if given."""
    agent = config.agent_config(task.env.name)
    if steps is not None:
        total = steps * agent.num_envs
        agent = dataclasses.replace(agent, num_steps=steps, total_timesteps=total)
    env = form_to_play(agent, task.env)

    def play(params: Any, world: World) -> tuple[World, Rollout]:
        key, rollout_key = jax.random.split(world.key)
        envs = rollouts.World(world.env_state, world.observation)
        envs, rollout = lpg_agent.play(agent, env, params, envs, rollout_key)
        return World(envs.env_state, envs.observation, key), rollout

    return play


def learn(
    config: MetaGradientConfig,
    task: Task,
    rule: UpdateRule,
    lifetime: Lifetime,
    rollout: Rollout,
) -> Lifetime:
    """Let an agent learn from one rollout; its value critic stays as it is."""
    life = lifetime.life
    agent, _ = lpg_agent.agent_update(
        agent_config(config, task, lifetime.hyper),
        rule,
        optimizers(config, task, lifetime.hyper, life.lifetime).agent,
        life.agent,
        rollout,
        lifetime=life.lifetime,
        discard=True,
    )
    return lifetime._replace(life=life._replace(agent=agent))


def differentiate(
    config: MetaGradientConfig,
    task: Task,
    play: Play,
    rule: UpdateRule,
    lifetime: Lifetime,
) -> tuple[UpdateRule, Lifetime, Outcome]:
    """Let one agent learn for a meta-step; return the gradient in the rule, too."""
    hyper, life = lifetime.hyper, lifetime.life
    fields = [field.name for field in dataclasses.fields(objective.Objective)]
    shared: Any = {name: getattr(config, name) for name in fields}
    shared |= {"gamma": hyper.gamma, "policy_entropy": hyper.policy_entropy}
    meta = objective.MetaConfig(agent=agent_config(config, task, hyper), **shared)
    made = optimizers(config, task, hyper, life.lifetime)
    judge = None
    if config.validation_rollout is not None:
        judge = player(config, task, config.validation_rollout)

    def loss(rule: UpdateRule) -> Any:
        return objective.meta_loss(rule, meta, made, life, play, judge)

    gradient, (life, metrics) = jax.grad(loss, has_aux=True)(rule)
    outcome = Outcome(
        metrics=metrics,
        finished=life.agent.step >= life.lifetime,
        collapsed=metrics.update.policy_entropy < ENTROPY_ZERO,
        # The norm, since a gradient may be finite and its square not, which would harm
        # the rule's Adam for good.
        broken=~rollouts.all_finite(
            (optax.tree.norm(gradient), life.agent.params, life.value.params, metrics)
        ),
        returned=rollouts.mean_return(life.world.env_state),
    )
    gradient, adam = _normalized(config, gradient, lifetime.adam)
    return gradient, lifetime._replace(life=life, adam=adam), outcome


def _normalized(config: MetaGradientConfig, gradient: UpdateRule, adam: Any) -> Any:
    """Return what a lifetime adds to the meta-gradient, and its Adam's next state."""
    how = config.lifetime_gradients
    if how == "norm":
        norm = optax.tree.norm(gradient)
        return jax.tree.map(lambda x: x / jnp.maximum(norm, _TINY), gradient), adam
    if how in ("clip", "adam") and config.clip is not None:
        gradient = rollouts.clip_by_norm(gradient, config.clip)
    if how != "adam":
        return gradient, adam
    weights, adam = optax.scale_by_adam().update(gradient.weights, adam)
    return dataclasses.replace(gradient, weights=weights), adam


def advance(
    config: MetaGradientConfig,
    task: Task,
    play: Play,
    rule: UpdateRule,
    pool: Lifetime,
) -> tuple[UpdateRule, Lifetime, Outcome]:
    """Let the agents of a pool learn for a meta-step, one mini-batch after the other.

    Also return the sum of gradients in the rule of each mini-batch, ``[groups, ...]``,
    without those of lifetimes in which anything is not finite, so that one of them
    cannot harm the rule.
    """
    one = jax.vmap(lambda life: differentiate(config, task, play, rule, life))

    def minibatch(lives: Lifetime) -> Any:
        gradients, lives, outcomes = one(lives)

        def total(x: jax.Array) -> jax.Array:
            mask = (~outcomes.broken).reshape(-1, *(1,) * (x.ndim - 1))
            return jnp.where(mask, x, 0.0).sum(0)

        return jax.tree.map(total, gradients), lives, outcomes

    split = jax.tree.map(lambda x: x.reshape(-1, config.minibatch, *x.shape[1:]), pool)
    totals, *found = jax.lax.map(minibatch, split)
    pool, outcomes = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), found)
    return totals, pool, outcomes


def agent_config(config: MetaGradientConfig, task: Task, hyper: Hyper) -> LPGConfig:
    """Return an agent's configuration, with the lifetime's own discount and alpha_y."""
    traced: Any = {"alpha_y": hyper.alpha_y, "gamma": hyper.gamma}
    return dataclasses.replace(config.agent_config(task.env.name), **traced)


def optimizers(
    config: MetaGradientConfig, task: Task, hyper: Hyper, updates: jax.Array | int
) -> Optimizers:
    """Return the optimizers of a lifetime of ``updates`` updates, at its own rate."""

    def over(steps: jax.Array | int) -> dict[str, optax.GradientTransformation]:
        return agents.lpg_optimizers(
            task.env.name,
            steps,
            column=config.agent,
            learning_rate=hyper.agent_rate,
            table_predictor_rate=config.predictor_rate,
            eps_root=objective.ADAM_EPS_ROOT,
        )

    if config.value_rate is not None:
        value = optax.adam(config.value_rate)
    else:
        meta_steps = -(-updates // config.updates)  # rounded up
        # In each, the critic also learns from the rollout that judges the agent.
        value = over(updates + meta_steps)["predictor"]
    return Optimizers(agents.by_network(over(updates)), value)
