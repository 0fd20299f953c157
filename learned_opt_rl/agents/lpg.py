"""An agent that learns by LPG, end to end in one jitted function.

An actor and a predictor, one update of both per rollout, and no more: what is a good
action and what is to be predicted, the rule decides.

References:
    Oh et al., "Discovering Reinforcement Learning Algorithms", 2020, section 3.
    Jackson et al., "Discovering General Reinforcement Learning Algorithms with
    Adversarial Environment Design", 2023 (GROOVE).
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.agents._lpg_step import AgentState as AgentState
from learned_opt_rl.agents._lpg_step import Params, init_agent
from learned_opt_rl.agents._lpg_step import Rollout as Rollout
from learned_opt_rl.agents._lpg_step import UpdateMetrics as UpdateMetrics
from learned_opt_rl.agents._lpg_step import agent_update as agent_update
from learned_opt_rl.agents._rollouts import World, collect, mean_return
from learned_opt_rl.agents._training import TrainResult, train_by
from learned_opt_rl.agents.config import LPGConfig as LPGConfig
from learned_opt_rl.agents.networks import init_network, prepare
from learned_opt_rl.envs.adapter import Environment, EpisodeState
from learned_opt_rl.rules.lpg import UpdateRule


class Runner(NamedTuple):
    """A run between two rollouts.

    Attributes:
        agent: The agent.
        metrics: Of its last update; zeros before the first.
        env_state: The environments' states, each array ``[num_envs, ...]``.
        observation: What they show now, ``[num_envs, *observation_shape]``.
        key: For the rest of the run.
    """

    agent: AgentState
    metrics: UpdateMetrics
    env_state: EpisodeState
    observation: jax.Array
    key: jax.Array

    @property
    def params(self) -> Any:
        """``{"actor": ..., "predictor": ...}``."""
        return self.agent.params

    @property
    def opt_state(self) -> optax.OptState:
        """The optimiser's state."""
        return self.agent.opt_state

    @property
    def mean_return(self) -> jax.Array:
        """See `_rollouts.mean_return`."""
        return mean_return(self.env_state)


def init_params(
    key: jax.Array, config: LPGConfig, env: Environment, target_width: int
) -> Params:
    """Draws an actor and a predictor for the environment.

    Args:
        key: A PRNG key.
        config: Uses ``hidden`` and ``conv``.
        env: Gives the sizes of input and actor.
        target_width: Components of a prediction, ``rule.architecture.target_width``.

    Returns:
        ``{"actor": Network, "predictor": Network}``; the tabular agent's have no
        biases.

    Raises:
        ValueError: The convolutions do not fit the observations.
    """
    actor_key, predictor_key = jax.random.split(key)
    shape, bias = env.observation_shape, bool(config.hidden or config.conv)
    return {
        "actor": init_network(
            actor_key, config, shape, env.num_actions, 0.01, bias=bias
        ),
        "predictor": init_network(
            predictor_key, config, shape, target_width, 1.0, bias=bias
        ),
    }


def play(
    config: LPGConfig, env: Environment, runner: Any, key: jax.Array
) -> tuple[tuple[EpisodeState, jax.Array], Rollout]:
    """Plays one rollout.

    Args:
        config: Uses ``num_envs``, ``num_steps`` and what networks depend on.
        env: Where.
        runner: Anything with ``params``, ``env_state`` and ``observation``.
        key: A PRNG key.

    Returns:
        The environments' states and observations after it, and the rollout.
    """
    world = World(runner.env_state, runner.observation)
    world, played = collect(config, env, runner.params["actor"], world, key)
    observations = jnp.concatenate([played.observation, world.observation[None]])
    x = prepare(observations, env.observation_shape, config)
    rollout = Rollout(x, played.action, played.reward, played.done)
    rollout = jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), rollout)
    return (world.env_state, world.observation), rollout


def make_loop(
    config: LPGConfig,
    env: Environment,
    rule: UpdateRule,
    optimizer: optax.GradientTransformation,
) -> tuple[Callable[[jax.Array], Runner], Callable[[Runner], Runner]]:
    """Builds a run's two pieces, for those who want to hold the loop themselves.

    Args:
        config: The run.
        env: Where it is played.
        rule: What the agent learns by.
        optimizer: See `make_train`.

    Returns:
        ``start(key) -> Runner`` and ``iterate(runner) -> Runner``, one rollout and
        the update on it; both pure, to be jitted and vmapped.

    Raises:
        ValueError: The environment's actions are continuous: a rule is told the
            probability of an action, and a density is none.

    Example:
        >>> import jax, optax
        >>> from learned_opt_rl import envs
        >>> from learned_opt_rl.rules import lpg
        >>> architecture = lpg.Architecture(width=8)
        >>> weights = lpg.init(jax.random.key(0), architecture)
        >>> rule = lpg.UpdateRule(weights, architecture)
        >>> config = LPGConfig(1024, num_envs=4, hidden=(16,))
        >>> env = envs.make("CartPole-v1")
        >>> start, iterate = make_loop(config, env, rule, optax.adam(1e-3))
        >>> runner = jax.jit(iterate)(start(jax.random.key(0)))
        >>> runner.agent.step.item()
        1
    """
    if env.continuous:
        raise ValueError(
            f"environment {env.name!r} has continuous actions, which LPG agents do not "
            "play (a rule takes probabilities); use agents.ppo or agents.a2c"
        )
    target_width = rule.architecture.target_width
    lifetime = config.num_updates if config.lifetime is None else config.lifetime

    def start(key: jax.Array) -> Runner:
        param_key, reset_key, key = jax.random.split(key, 3)
        params = init_params(param_key, config, env, target_width)
        observation, env_state = env.reset_many(reset_key, config.num_envs)
        metrics = UpdateMetrics(*[jnp.float32(0) for _ in UpdateMetrics._fields])
        agent = init_agent(params, optimizer)
        return Runner(agent, metrics, env_state, observation, key)

    def iterate(runner: Runner) -> Runner:
        key, rollout_key = jax.random.split(runner.key)
        (env_state, observation), rollout = play(config, env, runner, rollout_key)
        agent, metrics = agent_update(
            config,
            rule,
            optimizer,
            runner.agent,
            rollout,
            lifetime=lifetime,
            discard=config.lifetime is not None,
        )
        return Runner(agent, metrics, env_state, observation, key)

    return start, iterate


def make_train(
    config: LPGConfig,
    env: Environment,
    rule: UpdateRule,
    optimizer: optax.GradientTransformation,
) -> Callable[[jax.Array], TrainResult]:
    """Builds a whole training run as one pure function of a key.

    Args:
        config: The run.
        env: Where it is played.
        rule: What the agent learns by.
        optimizer: Any optax transformation. Its ``update`` gets the gradients, already
            clipped, and the parameters, each ``{"actor": ..., "predictor": ...}``.
            Published ones: ``agents.lpg_optimizer``.

    Returns:
        ``train(key) -> TrainResult``, to be jitted, and vmapped over keys for seeds.

    Example:
        >>> import jax, optax
        >>> from learned_opt_rl import envs
        >>> from learned_opt_rl.rules import lpg
        >>> architecture = lpg.Architecture(width=8)
        >>> weights = lpg.init(jax.random.key(0), architecture)
        >>> rule = lpg.UpdateRule(weights, architecture)
        >>> config = LPGConfig(800, num_envs=4, hidden=(16,))
        >>> train = make_train(config, envs.make("CartPole-v1"), rule, optax.adam(1e-3))
        >>> jax.jit(train)(jax.random.key(0)).returns.shape
        (10,)
    """
    return train_by(make_loop(config, env, rule, optimizer), config.num_updates)
