"""Whole lifetimes of LPG agents, in which evolution and distillation run a rule.

They are those of `training.meta_gradients.pool`: a level of its own for each agent, and
as many updates as the environment's mode gives it.
"""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, NamedTuple, get_type_hints

import jax
import jax.numpy as jnp

from learned_opt_rl import agents, checks
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.agents.lpg import Rollout
from learned_opt_rl.agents.rollouts import MeanReturn, mean_return
from learned_opt_rl.rules.lpg import UpdateRule
from learned_opt_rl.training.learned import Learned
from learned_opt_rl.training.meta_gradients import pool
from learned_opt_rl.training.meta_gradients.config import MetaGradientConfig
from learned_opt_rl.training.meta_gradients.pool import Lifetime
from learned_opt_rl.training.meta_gradients.tasks import task

_AGENT = (
    *("workers", "rollout", "agent", "agent_rates", "agent_alpha_y", "baseline"),
    *("predictor_rate", "max_grad_norm", "gammas"),
)
_HINTS = get_type_hints(MetaGradientConfig)

AgentSettings = dataclasses.make_dataclass(
    "AgentSettings",
    [
        (field.name, _HINTS[field.name], dataclasses.field(default=field.default))
        for field in dataclasses.fields(MetaGradientConfig)
        if field.name in _AGENT
    ],
    frozen=True,
)
"""The settings of agents, which have the names of `MetaGradientConfig`."""


@dataclasses.dataclass(frozen=True)
class LifeConfig:
    """A whole life of one agent, as a `PPOConfig` is a whole run.

    Attributes:
        environment: The environment.
        settings: The agent and the rule. ``settings.lifetime`` is the number of
            updates; with ``None`` the environment's mode gives or draws it.
    """

    environment: str
    settings: MetaGradientConfig

    @property
    def num_updates(self) -> int:
        """The most updates of an agent."""
        return self.settings.lifetime or task(self.environment).lifetime[1]

    @property
    def num_rollouts(self) -> int:
        """The most rollouts, those after the last update included."""
        return self.num_updates + self.num_judged

    @property
    def num_judged(self) -> int:
        """The most rollouts after the last update, in which an episode ends."""
        longest = task(self.environment).longest_episode
        return math.ceil(longest / self.settings.rollout)

    @property
    def batch_size(self) -> int:
        """Environment steps of a rollout."""
        return self.settings.workers * self.settings.rollout


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
    fixed: dict[str, Any] = dict(lifetimes=1, minibatch=1, updates=1, **settings)
    made = MetaGradientConfig(
        architecture=dict(learned.sizes), environments=(environment,), **fixed
    )
    if steps is None:
        return LifeConfig(environment, made)
    lifetime = steps // (made.workers * made.rollout)
    if lifetime < 1:
        raise ValueError(
            f"a life of {steps} steps is less than one rollout of workers * rollout = "
            f"{made.workers * made.rollout} steps; give more steps or a smaller rollout"
        )
    return LifeConfig(environment, dataclasses.replace(made, lifetime=lifetime))


def begin(config: LifeConfig, key: jax.Array) -> Lifetime:
    """Return a new agent in a level of its own; the key draws everything.

    Of several learning rates or ``alpha_y`` the agent has the middle one.
    """
    settings = config.settings
    begin_key, gamma_key = jax.random.split(key)
    rate, alpha_y = settings.arms(config.environment)[0]
    gamma = jax.random.choice(gamma_key, jnp.asarray(settings.gammas, jnp.float32))
    numbers = map(jnp.float32, (rate, alpha_y, gamma, 0.0))
    hyper = pool.Hyper(jnp.int32(0), *numbers)
    return pool.begin(settings, task(config.environment), begin_key, hyper)


def advance(
    config: LifeConfig, rule: UpdateRule, lifetime: Lifetime
) -> tuple[Lifetime, Rollout]:
    """Let an agent play a rollout and learn from it; return the rollout, too."""
    played, rollout = _played(config, lifetime)
    where = task(config.environment)
    return pool.learn(config.settings, where, rule, played, rollout), rollout


class Lived(NamedTuple):
    """The end of a life.

    Attributes:
        params: The agent's parameters.
        returned: Mean return of the episodes that end after the last update, in which
            the agent plays on.
    """

    params: Any
    returned: MeanReturn


def live(config: LifeConfig, rule: UpdateRule, key: jax.Array) -> Lived:
    """Let an agent learn for its whole life and judge it; a pure function."""

    def update(_: Any, lifetime: Lifetime) -> Lifetime:
        return advance(config, rule, lifetime)[0]

    first = begin(config, key)
    lifetime = jax.lax.fori_loop(0, first.life.lifetime, update, first)
    return Lived(lifetime.life.agent.params, _judge(config, lifetime))


def _judge(config: LifeConfig, lifetime: Lifetime) -> MeanReturn:
    """Let the agent play until an episode of every worker has ended."""

    def waits(carry: tuple[jax.Array, Lifetime]) -> jax.Array:
        count, lifetime = carry
        lengths = lifetime.life.world.env_state.last_length
        return (count < config.num_judged) & (lengths == 0).any()

    def play(carry: tuple[jax.Array, Lifetime]) -> tuple[jax.Array, Lifetime]:
        return carry[0] + 1, _played(config, carry[1])[0]

    world = lifetime.life.world
    state = world.env_state
    forgotten = state._replace(last_length=jnp.zeros_like(state.last_length))
    start = _with_world(lifetime, world._replace(env_state=forgotten))
    _, end = jax.lax.while_loop(waits, play, (jnp.int32(0), start))
    return mean_return(end.life.world.env_state)


def _played(config: LifeConfig, lifetime: Lifetime) -> tuple[Lifetime, Rollout]:
    play = pool.player(config.settings, task(config.environment))
    world, rollout = play(lifetime.life.agent.params, lifetime.life.world)
    return _with_world(lifetime, world), rollout


def _with_world(lifetime: Lifetime, world: Any) -> Lifetime:
    return lifetime._replace(life=lifetime.life._replace(world=world))
