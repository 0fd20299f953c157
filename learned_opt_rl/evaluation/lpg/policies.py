"""Policy evaluation by an LPG: the predictor learns, the policy stays fixed."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.agents.actor_critic import gae
from learned_opt_rl.agents.config import LPGConfig
from learned_opt_rl.agents.lpg import Rollout, agent_update, init_agent, play
from learned_opt_rl.checks import positive_int
from learned_opt_rl.envs import gridworld
from learned_opt_rl.envs.adapter import Environment, EpisodeState, Step
from learned_opt_rl.envs.gridworld import Level, Mode
from learned_opt_rl.evaluation.lpg import values
from learned_opt_rl.rules.lpg import UpdateRule


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """Configuration of a policy evaluation.

    Attributes:
        updates: Updates of the predictor, each on a fresh rollout.
        every: Updates between two records of the predictions.
        gamma: Discount of the policy, of TD, and of rules that have it as an input.
        epsilon: Share of random actions of the epsilon-greedy policy.
        learning_rate: Learning rate of the predictor's SGD. The paper's tabular agents
            have 20 to 80, GROOVE's have 4.
        alpha_y: Weight of the prediction's loss.
        max_grad_norm: Bound on the gradient norm; None for no bound.
        td_lambda: Decay of TD(lambda), the baseline of the predictions.
        td_rate: Step size of TD(lambda) per state, towards the mean target.
        num_envs: Episodes played in parallel.
        num_steps: Steps of each episode per update.

    Raises:
        ValueError: A value is out of range, or ``every`` does not divide ``updates``.

    References:
        Oh et al. 2020, table 3. The paper does not state the number of updates of its
        evaluations.

    Example:
        >>> EvaluationConfig(updates=100).num_records
        11
    """

    updates: int = 500
    every: int = 10
    gamma: float = 0.995
    epsilon: float = 0.1
    learning_rate: float = 40.0
    alpha_y: float = 0.5
    max_grad_norm: float | None = 0.5
    td_lambda: float = 0.95
    td_rate: float = 0.1
    num_envs: int = 64
    num_steps: int = 20

    def __post_init__(self) -> None:
        """Check the values."""
        for name in ("updates", "every", "num_envs", "num_steps"):
            positive_int(name, getattr(self, name))
        if self.updates % self.every:
            raise ValueError(
                f"every={self.every} must divide updates={self.updates}; choose one of "
                "its divisors"
            )
        for name in ("epsilon", "td_rate"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(
                    f"{name}={getattr(self, name)!r} must be above 0 and at most 1"
                )
        if not 0 <= self.td_lambda <= 1:
            raise ValueError(f"td_lambda={self.td_lambda!r} must be from 0 to 1")
        if not 0 < self.learning_rate < float("inf"):
            raise ValueError(
                f"learning_rate={self.learning_rate!r} must be a positive number"
            )
        _ = self.agent  # Its configuration checks the rest.

    @property
    def num_records(self) -> int:
        """Number of records of the predictions, the first before any update."""
        return self.updates // self.every + 1

    @property
    def agent(self) -> LPGConfig:
        """Configuration of the tabular agent."""
        return LPGConfig(
            self.updates * self.num_envs * self.num_steps,
            num_envs=self.num_envs,
            num_steps=self.num_steps,
            gamma=self.gamma,
            alpha_y=self.alpha_y,
            max_grad_norm=self.max_grad_norm,
            hidden=(),
        )


class Evaluation(NamedTuple):
    """Predictions for a fixed policy during their training, with all objects present.

    Attributes:
        y: float32 ``[records, predictors, cells, m]``, the predictions.
        td: float32 ``[records, cells]``, values by TD(lambda) from the same rollouts.
    """

    y: jax.Array
    td: jax.Array


class _Player(NamedTuple):
    """The fields that `play` needs, without anything that learns."""

    params: Any
    env_state: EpisodeState
    observation: jax.Array


def evaluate_policy(
    rule: UpdateRule,
    level: Level,
    mode: Mode,
    policy: jax.Array,
    key: jax.Array,
    config: EvaluationConfig | None = None,
    *,
    predictors: int = 1,
) -> Evaluation:
    """Evaluate a fixed policy by a rule that updates only the predictor.

    The predictor is a table without a clock; its first predictions are the softmax of
    standard normal logits. Each episode begins in a random free cell, so that there is
    something to predict everywhere; the paper does not state where its episodes begin.

    Args:
        rule: Any LPG.
        level: The level; `vmap` over levels and keys.
        mode: Mode of the level, with tabular observations.
        policy: float ``[states, num_actions]``, probabilities, for example from
            `near_optimal_policy`.
        key: A PRNG key.
        config: Configuration of the evaluation.
        predictors: Number of predictors, with different initial values, that learn
            from the same rollouts.

    Raises:
        ValueError: The mode is not tabular, or the policy has another shape.
        WeightsError: The rule's weights do not fit its architecture.

    References:
        Oh et al. 2020, section 4.2, figure 4.

    Example:
        >>> import jax
        >>> from learned_opt_rl.envs.gridworld import get_mode, sample_level
        >>> from learned_opt_rl.rules import lpg
        >>> architecture, key = lpg.Architecture(width=8), jax.random.key(0)
        >>> rule = lpg.UpdateRule(lpg.init(key, architecture), architecture)
        >>> mode = get_mode("debug")
        >>> level, policy = sample_level(key, mode), jax.numpy.full((64, 5), 1 / 5)
        >>> config = EvaluationConfig(updates=4, every=2, num_envs=8)
        >>> def run(level, key):
        ...     return evaluate_policy(rule, level, mode, policy, key, config)
        >>> found = jax.eval_shape(run, level, key)  # jax.jit(run)(level, key) runs it
        >>> found.y.shape, found.td.shape
        ((3, 1, 16, 8), (3, 16))
    """
    values.require_tabular(mode)
    values.require_policy(policy, mode)
    config = EvaluationConfig() if config is None else config
    agent_config, env = config.agent, _starting_anywhere(level, mode)
    optimizer = optax.multi_transform(
        {"actor": optax.set_to_zero(), "predictor": optax.sgd(config.learning_rate)},
        {"actor": "actor", "predictor": "predictor"},
    )
    states, shape = policy.shape[0], (2**mode.num_slots, mode.num_cells)
    width = rule.architecture.target_width
    init_key, reset_key, key = jax.random.split(key, 3)
    logits = jax.random.normal(init_key, (predictors, states + 1, width))
    # The floor keeps the logarithm of a probability of 0 finite.
    actor = _table(jnp.log(jnp.maximum(policy, 1e-30)))
    agents = jax.vmap(
        lambda logits: init_agent(
            {"actor": actor, "predictor": _kernel(logits)}, optimizer
        )
    )(logits)
    observation, env_state = env.reset_many(reset_key, config.num_envs)
    player = _Player({"actor": actor}, env_state, observation)

    def update(carry: Any, key: jax.Array) -> Any:
        player, agents, td = carry
        (env_state, observation), rollout = play(agent_config, env, player, key)
        player = player._replace(env_state=env_state, observation=observation)
        agents = jax.vmap(
            lambda agent: agent_update(
                agent_config, rule, optimizer, agent, rollout, lifetime=config.updates
            )[0]
        )(agents)
        return (player, agents, _td_update(td, rollout, config)), None

    def shown(agents: Any, td: jax.Array) -> Evaluation:
        logits = agents.params["predictor"]["Dense_0"]["kernel"][:, :-1]
        logits = logits.reshape(predictors, *shape, width)
        there = values.all_present(level)
        y = jax.nn.softmax(jnp.take(logits, there, axis=1))
        return Evaluation(y, td.reshape(shape)[there])

    def record(carry: Any, keys: jax.Array) -> Any:
        carry, _ = jax.lax.scan(update, carry, keys)
        return carry, shown(*carry[1:])

    td = jnp.zeros(states)
    keys = jax.random.split(key, (config.num_records - 1, config.every))
    _, records = jax.lax.scan(record, (player, agents, td), keys)
    first = shown(agents, td)
    return jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), first, records)


def _td_update(td: jax.Array, rollout: Rollout, config: EvaluationConfig) -> jax.Array:
    """Move the value of each visited state towards its mean TD(lambda) target."""
    index = jnp.argmax(rollout.observation[..., :-1], axis=-1).T
    value = td[index]
    errors = gae(
        rollout.reward.T,
        rollout.done.T,
        value[:-1],
        value[-1],
        config.gamma,
        config.td_lambda,
    )
    number = jnp.zeros_like(td).at[index[:-1]].add(1.0)
    total = jnp.zeros_like(td).at[index[:-1]].add(errors)
    return td + config.td_rate * total / jnp.maximum(number, 1.0)


def _table(logits: jax.Array) -> Any:
    return _kernel(jnp.concatenate([logits, jnp.zeros((1, logits.shape[1]))]))


def _kernel(kernel: jax.Array) -> Any:
    return {"Dense_0": {"kernel": kernel}}


def _starting_anywhere(level: Level, mode: Mode) -> Environment:
    """Return the level with episodes from every free cell and without its clock."""
    env = gridworld.environment(mode, level=level)

    def moved(key: jax.Array) -> Level:
        where = jnp.where(level.free, 0.0, -jnp.inf)
        return level._replace(start=jax.random.categorical(key, where).astype("int32"))

    def hide(observation: jax.Array) -> jax.Array:
        return observation.at[-1].set(0.0)

    def reset(key: jax.Array) -> tuple[jax.Array, EpisodeState]:
        level_key, key = jax.random.split(key)
        observation, state = gridworld.environment(mode, level=moved(level_key)).reset(
            key
        )
        return hide(observation), state

    def step(key: jax.Array, state: EpisodeState, action: Any) -> Step:
        level_key, key = jax.random.split(key)
        # The start matters when an episode ends: the next one's is drawn every step.
        inner = state.env._replace(level=moved(level_key))
        stepped = env.step(key, state._replace(env=inner), action)
        return stepped._replace(observation=hide(stepped.observation))

    return dataclasses.replace(env, reset=reset, step=step, batched_reset=None)
