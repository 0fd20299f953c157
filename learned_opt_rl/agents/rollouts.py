"""What all agents share: rollouts, clipping, and a whole run as one pure function."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.agents import _normalization as normalization
from learned_opt_rl.agents.config import RunConfig
from learned_opt_rl.agents.networks import Network, policy, prepare
from learned_opt_rl.envs.adapter import Environment, EpisodeState


class World(NamedTuple):
    """The environments of an agent between two steps."""

    env_state: EpisodeState
    observation: jax.Array  # Raw, [num_envs, *observation_shape].
    normalizers: normalization.Normalizers = normalization.Normalizers()


class Played(NamedTuple):
    """A rollout; every array is ``[num_steps, num_envs, ...]``.

    Observations and rewards are normalized where the run normalizes them.
    """

    observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    reward: jax.Array
    done: jax.Array


class TrainResult(NamedTuple):
    """The result of a run.

    Attributes:
        params: The agent at the end, ``{"actor": ..., "critic": ...}``, or
            ``{"actor": ..., "predictor": ...}`` for an LPG agent.
        opt_state: The optimizer's state at the end.
        returns: float32 ``[num_rollouts]``, the learning curve: `mean_return` at the
            end of each rollout.
        final_return: float32 scalar, the last of them; NaN if no episode was finished.
    """

    params: Any
    opt_state: optax.OptState
    returns: jax.Array
    final_return: jax.Array


def collect(
    config: RunConfig, env: Environment, actor: Network, world: World, key: jax.Array
) -> tuple[World, Played]:
    """Play one rollout; return the world after it and the rollout."""

    def step(world: World, key: jax.Array) -> Any:
        action_key, env_key = jax.random.split(key)
        observation = shown(world)
        x = prepare(observation, env.observation_shape, config)
        acting, _ = policy(actor, x, config)
        action = acting.sample(action_key)
        log_prob = acting.log_prob(action)
        stepped = env.step_many(env_key, world.env_state, action)
        normalizers, reward = normalization.see(
            world.normalizers,
            config.gamma,
            stepped.observation,
            stepped.reward,
            stepped.done,
        )
        played = Played(observation, action, log_prob, reward, stepped.done)
        return World(stepped.state, stepped.observation, normalizers), played

    return jax.lax.scan(step, world, jax.random.split(key, config.num_steps))


def mean_return(state: EpisodeState) -> jax.Array:
    """Return the mean return of each environment's last finished episode, ``[...]``.

    The arrays of the state are ``[..., num_envs]``. The result is NaN while no
    environment has finished an episode: where rewards are negative, 0 would look like
    the best return.
    """
    finished = state.last_length > 0
    number = finished.sum(-1)
    total = jnp.where(finished, state.last_return, 0.0).sum(-1)
    return jnp.where(number > 0, total / jnp.maximum(number, 1), jnp.nan)


def shown(world: World) -> jax.Array:
    """Return the current observations as the agent sees them."""
    return normalization.normalize(world.normalizers, world.observation)


def clip_by_norm(tree: Any, max_norm: float) -> Any:
    """Scale a tree of arrays down to a global norm of at most ``max_norm``."""
    squared = jnp.asarray(optax.tree.norm(tree, squared=True))
    # Meta-gradients pass through this root. At an all-zero gradient (a dead unit, an
    # input that was never active) its derivative is infinite. Times zero that is NaN,
    # and the NaN would reach every weight; so the derivative is 0 here.
    positive = squared > 0
    norm = jnp.where(positive, jnp.sqrt(jnp.where(positive, squared, 1.0)), 0.0)
    scale = max_norm / jnp.maximum(norm, max_norm)
    return jax.tree.map(lambda x: x * scale, tree)


def train_by(
    loop: tuple[Callable[[jax.Array], Any], Callable[[Any], Any]], num_rollouts: int
) -> Callable[[jax.Array], TrainResult]:
    """Build ``train(key)`` from an agent's ``start`` and ``iterate``."""
    start, iterate = loop

    def step(runner: Any, _: None) -> tuple[Any, jax.Array]:
        runner = iterate(runner)
        return runner, runner.mean_return

    def train(key: jax.Array) -> TrainResult:
        runner, returns = jax.lax.scan(step, start(key), length=num_rollouts)
        return TrainResult(runner.params, runner.opt_state, returns, returns[-1])

    return train
