"""Whole lifetimes of LPG agents, in which evolution and distillation run a rule.

They are those of `training.meta_gradients.pool`: a level of its own for each agent, and
as many updates as the environment's mode gives it.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt_rl import agents, checks
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.agents.lpg import Rollout
from learned_opt_rl.rules.lpg import UpdateRule
from learned_opt_rl.training.learned import Learned
from learned_opt_rl.training.meta_gradients import pool
from learned_opt_rl.training.meta_gradients.config import MetaGradientConfig
from learned_opt_rl.training.meta_gradients.pool import Lifetime
from learned_opt_rl.training.meta_gradients.tasks import Task, task

_AGENT = (
    *("workers", "rollout", "agent", "agent_rates", "agent_alpha_y", "baseline"),
    *("predictor_rate", "max_grad_norm", "gammas"),
)

AgentSettings = dataclasses.make_dataclass(
    "AgentSettings",
    [
        (field.name, field.type, dataclasses.field(default=field.default))
        for field in dataclasses.fields(MetaGradientConfig)
        if field.name in _AGENT
    ],
    frozen=True,
)
"""The settings of agents, which have the names of `MetaGradientConfig`."""


class LifeConfig(MetaGradientConfig):
    """A whole life of one agent, as a `PPOConfig` is a whole run.

    ``lifetime`` is the number of updates; with ``None`` the environment's mode gives or
    draws it.
    """

    @property
    def task(self) -> Task:
        """The environment and its levels."""
        return task(self.environments[0])

    @property
    def num_updates(self) -> int:
        """The most updates of an agent."""
        return self.lifetime or self.task.lifetime[1]

    @property
    def num_rollouts(self) -> int:
        """The most rollouts, with those of the episode after the last update."""
        return self.num_updates + math.ceil(self.task.longest_episode / self.rollout)

    @property
    def batch_size(self) -> int:
        """Environment steps of a rollout."""
        return self.workers * self.rollout


def agent_run(
    learned: Learned, environment: str, steps: int | None, settings: Mapping[str, Any]
) -> PPOConfig | LifeConfig:
    """Return the run of an agent that learns by a rule.

    Args:
        learned: The family of the rule and its sizes.
        environment: The environment.
        steps: Environment steps; ``None`` for the environment's own lifetimes, which
            only agents of an update rule have.
        settings: Settings that differ from `agents.preset`, or for an update rule from
            `AgentSettings`.

    Raises:
        ValueError: A setting is unknown or out of range, or there are too few steps.
    """
    if not learned.is_update_rule:
        return agents.preset(environment, steps, **settings)
    for name, value in settings.items():
        if name not in _AGENT:
            raise ValueError(
                f"agent.{name}={value!r} is not a setting of the agents of "
                f"{learned.algorithm}; {checks.suggest(name, _AGENT)}"
            )
    one: dict[str, Any] = dict(lifetimes=1, minibatch=1, updates=1, **settings)
    sizes, names = dict(learned.sizes), (environment,)
    made = LifeConfig(architecture=sizes, environments=names, **one)
    if steps is None:
        return made
    if steps < made.batch_size:
        raise ValueError(
            f"a life of {steps} steps is less than one rollout of workers * rollout = "
            f"{made.batch_size} steps; give more steps or a smaller rollout"
        )
    return dataclasses.replace(made, lifetime=steps // made.batch_size)


def begin(config: LifeConfig, key: jax.Array) -> Lifetime:
    """Return a new agent in a level of its own; the key draws everything.

    Of several learning rates or ``alpha_y`` the agent has the middle one.
    """
    begin_key, gamma_key = jax.random.split(key)
    rate, alpha_y = config.arms(config.environments[0])[0]
    gamma = jax.random.choice(gamma_key, jnp.asarray(config.gammas, jnp.float32))
    numbers = map(jnp.float32, (rate, alpha_y, gamma, 0.0))
    hyper = pool.Hyper(jnp.int32(0), *numbers)
    return pool.begin(config, config.task, begin_key, hyper)


def advance(
    config: LifeConfig, rule: UpdateRule, lifetime: Lifetime
) -> tuple[Lifetime, Rollout]:
    """Let an agent play a rollout and learn from it; return the rollout, too."""
    life, play = lifetime.life, pool.player(config, config.task)
    world, rollout = play(life.agent.params, life.world)
    lifetime = lifetime._replace(life=life._replace(world=world))
    return pool.learn(config, config.task, rule, lifetime, rollout), rollout


def live(config: LifeConfig, rule: UpdateRule, key: jax.Array) -> tuple[Any, jax.Array]:
    """Let an agent learn for a whole life, then play new episodes; a pure function.

    Return its parameters, and the mean undiscounted return of a new episode of each
    worker.
    """

    def update(_: Any, lifetime: Lifetime) -> Lifetime:
        return advance(config, rule, lifetime)[0]

    first = begin(config, key)
    lifetime = jax.lax.fori_loop(0, first.life.lifetime, update, first)
    # The first states are those of new episodes in the agent's level.
    world = first.life.world._replace(key=lifetime.life.world.key)
    params = lifetime.life.agent.params
    return params, _judged(config, params, world)


def _judged(config: LifeConfig, params: Any, world: Any) -> jax.Array:
    """Return the mean return of each worker's first episode from here on."""
    play = pool.player(config, config.task)

    def more(carry: tuple[jax.Array, jax.Array, Any]) -> Any:
        runs, total, world = carry
        world, rollout = play(params, world)
        ended = jnp.cumsum(rollout.done, axis=1) - rollout.done > 0
        counts = runs[:, None] & ~ended
        total += jnp.sum(rollout.reward * counts, axis=1)
        return runs & ~rollout.done.any(axis=1), total, world

    start = jnp.ones(config.workers, bool), jnp.zeros(config.workers), world
    _, total, _ = jax.lax.while_loop(lambda carry: carry[0].any(), more, start)
    return total.mean()
