"""What all agents share: rollouts, clipping, and a whole run as one pure function."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.agents import _normalization as normalization
from learned_opt_rl.agents.config import RunConfig
from learned_opt_rl.agents.networks import Network, looks_up, policy, prepare, tabular
from learned_opt_rl.envs.adapter import Environment, EpisodeState


class World(NamedTuple):
    """The environments of an agent between two steps."""

    env_state: EpisodeState
    observation: jax.Array  # Raw, [num_envs, *observation_shape].
    normalizers: normalization.Normalizers = normalization.Normalizers()


class Played(NamedTuple):
    """A rollout; every array is ``[num_steps, num_envs, ...]``.

    Observations and rewards are normalized where the run normalizes them. The last two
    fields are those of `envs.Step`, and ``None`` unless the agent bootstraps from them.
    """

    observation: jax.Array
    action: jax.Array
    log_prob: jax.Array
    reward: jax.Array
    done: jax.Array
    truncated: jax.Array | None = None
    final_observation: jax.Array | None = None


class MeanReturn(NamedTuple):
    """Mean return of each environment's last finished episode, without a NaN.

    A NaN in the output of a jitted function is an error under ``jax_debug_nans``, so
    programs carry these two and callers read `value`.

    Attributes:
        finished: int32, environments that have finished an episode.
        mean: float32, the mean over those; 0 if none has finished one.
    """

    finished: jax.Array
    mean: jax.Array

    @property
    def value(self) -> jax.Array:
        """The mean, NaN where no environment has finished an episode.

        Where rewards are negative, 0 would look like the best return.
        """
        with jax.debug_nans(False):
            return jnp.where(self.finished > 0, self.mean, jnp.float32(jnp.nan))


class TrainResult(NamedTuple):
    """The result of a run. `agents.act` plays it.

    Attributes:
        params: The agent at the end, ``{"actor": ..., "critic": ...}``, or
            ``{"actor": ..., "predictor": ...}`` for an LPG agent.
        opt_state: The optimizer's state at the end.
        curve: The mean return at the end of each rollout, ``[num_rollouts]``.
        normalizers: Statistics of the normalization at the end. `agents.act` needs them
            for an agent that was trained on normalized observations. They hold no
            arrays if the run does not normalize.
    """

    params: Any
    opt_state: optax.OptState
    curve: MeanReturn
    normalizers: normalization.Normalizers = normalization.Normalizers()

    @property
    def returns(self) -> jax.Array:
        """float32 ``[num_rollouts]``, the learning curve; NaN before an episode."""
        return self.curve.value

    @property
    def final_return(self) -> jax.Array:
        """float32 scalar, the last of `returns`; NaN if no episode was finished."""
        return jax.tree.map(lambda x: x[..., -1], self.curve).value


def form_to_play(config: RunConfig, env: Environment) -> Environment:
    """Return ``env.tabular`` for an agent without layers if it exists, else ``env``.

    Such an agent looks the rows of its tables up. Its parameters are those for ``env``.
    """
    rows = env.tabular if tabular(config) else None
    return rows if rows and looks_up(rows.observation_shape[0]) else env


def collect(
    config: RunConfig, env: Environment, actor: Network, world: World, key: jax.Array
) -> tuple[World, Played]:
    """Play one rollout; return the world after it and the rollout."""
    bootstraps = config.truncation == "bootstrap"

    def step(world: World, key: jax.Array) -> Any:
        action_key, env_key = jax.random.split(key)
        observation = shown(world)
        x = prepare(observation, env.observation_shape, config)
        acting, _ = policy(actor, x, config)
        action = acting.sample(action_key)
        log_prob = acting.log_prob(action)
        stepped = env.step_many(env_key, world.env_state, env.to_actions(action))
        normalizers, reward = normalization.see(
            world.normalizers,
            config.gamma,
            stepped.observation,
            stepped.reward,
            stepped.done,
        )
        played = Played(observation, action, log_prob, reward, stepped.done)
        if bootstraps and stepped.final_observation is not None:
            final = normalization.normalize(normalizers, stepped.final_observation)
            played = played._replace(
                truncated=stepped.truncated, final_observation=final
            )
        return World(stepped.state, stepped.observation, normalizers), played

    return jax.lax.scan(step, world, jax.random.split(key, config.num_steps))


def act(
    result: Any,
    config: RunConfig,
    env: Environment,
    observation: jax.Array,
    key: jax.Array | None = None,
) -> jax.Array:
    """Choose actions as a trained agent does: normalize, evaluate the actor, choose.

    Args:
        result: A `TrainResult` or a ``Runner``, for their ``params`` and
            ``normalizers``.
        config: The run's configuration.
        env: The run's environment.
        observation: Raw observations, ``[*env.observation_shape]`` with any leading
            axes.
        key: A PRNG key to draw actions, as in training. Without it, the most probable
            action of each observation.

    Returns:
        int32 actions, or float32 ``[..., num_actions]`` within the bounds, as
        ``env.step`` takes them.

    Raises:
        ValueError: The observations do not end in ``env.observation_shape``.

    Example:
        >>> import jax, optax
        >>> from learned_opt_rl import agents, envs
        >>> env = envs.make("CartPole-v1")
        >>> config = agents.PPOConfig(64, num_envs=4, num_steps=8)
        >>> train = agents.make_train(config, env, optax.adam(1e-3))
        >>> observation, state = env.reset(jax.random.key(1))
        >>> int(act(train(jax.random.key(0)), config, env, observation)) in (0, 1)
        True
    """
    shape, rank = env.observation_shape, len(env.observation_shape)
    observation = jnp.asarray(observation)
    if observation.shape[observation.ndim - rank :] != shape:
        raise ValueError(
            f"observation of shape {observation.shape} does not end in the shape "
            f"{shape} of environment {env.name!r}"
        )
    seen = normalization.normalize(result.normalizers, observation)
    acting, _ = policy(result.params["actor"], prepare(seen, shape, config), config)
    return env.to_actions(acting.mode() if key is None else acting.sample(key))


def mean_return(state: EpisodeState) -> MeanReturn:
    """Return the mean return of each environment's last finished episode, ``[...]``.

    The arrays of the state are ``[..., num_envs]``.
    """
    finished = state.last_length > 0
    number = finished.sum(-1, dtype=jnp.int32)
    total = jnp.where(finished, state.last_return, 0.0).sum(-1)
    return MeanReturn(number, total / jnp.maximum(number, 1))


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


def all_finite(tree: Any) -> jax.Array:
    """Return whether every number in a tree of arrays is finite, a bool scalar."""
    return jnp.stack([jnp.isfinite(x).all() for x in jax.tree.leaves(tree)]).all()


def train_by(
    loop: tuple[Callable[[jax.Array], Any], Callable[[Any], Any]], num_rollouts: int
) -> Callable[[jax.Array], TrainResult]:
    """Build ``train(key)`` from an agent's ``start`` and ``iterate``."""
    start, iterate = loop

    def step(runner: Any, _: None) -> tuple[Any, MeanReturn]:
        runner = iterate(runner)
        return runner, mean_return(runner.env_state)

    def train(key: jax.Array) -> TrainResult:
        runner, curve = jax.lax.scan(step, start(key), length=num_rollouts)
        return TrainResult(runner.params, runner.opt_state, curve, runner.normalizers)

    return train
