"""Policy evaluation by an LPG: the predictor learns, the policy stays as it is."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl.agents.actor_critic import gae
from learned_opt_rl.agents.config import LPGConfig
from learned_opt_rl.agents.lpg import Rollout, agent_update, init_agent, play
from learned_opt_rl.envs import gridworld
from learned_opt_rl.envs.adapter import Environment, EpisodeState, Step
from learned_opt_rl.envs.gridworld import Level, Mode
from learned_opt_rl.evaluation.lpg import values as values
from learned_opt_rl.rules.lpg import UpdateRule


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """How a policy is evaluated.

    Attributes:
        updates: Of the predictor, each on a fresh rollout.
        every: Updates between two records of the predictions.
        gamma: Discount of the policy and of TD, and for rules that take it as an
            input.
        epsilon: Of the epsilon-greedy policy.
        learning_rate: Of the predictor's SGD. The paper's tabular agents have 20 to
            80, GROOVE's 4.
        alpha_y: Weight of the prediction's loss.
        max_grad_norm: Bound on the gradient norm; ``None`` for no bound.
        td_lambda: Decay of TD(lambda), which the predictions are compared with.
        td_rate: Its step size per state, from the value towards the mean target.
        num_envs: Episodes played in parallel.
        num_steps: Steps of each per update.

    Raises:
        ValueError: If a value is out of range, or ``every`` does not divide
            ``updates``.

    References:
        Oh et al. 2020, table 3. It does not give the number of updates of its
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
        """Checks the values."""
        for name in ("updates", "every", "num_envs", "num_steps"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"{name}={value!r} must be a whole number, 1 or more")
        if self.updates % self.every:
            raise ValueError(
                f"every={self.every} must divide updates={self.updates}; its divisors "
                "are the choices"
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
        _ = self.agent  # which checks the rest

    @property
    def num_records(self) -> int:
        """Records of the predictions, the first before any update."""
        return self.updates // self.every + 1

    @property
    def agent(self) -> LPGConfig:
        """The tabular agent."""
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
    """How predictions of a policy's future came to be; all objects present.

    Attributes:
        y: float32 ``[records, predictors, cells, m]``, the predictions.
        td: float32 ``[records, cells]``, values by TD(lambda) on the same rollouts.
    """

    y: jax.Array
    td: jax.Array


class _Player(NamedTuple):
    """What `play` needs, and nothing that learns."""

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
    """Lets a rule evaluate a fixed policy: only the predictor is updated.

    The predictions are a table without a clock, the softmax of standard normal logits
    at first. Each episode begins in a free cell drawn at random, so that there is
    something to predict everywhere; the paper does not say where its episodes begin.

    Args:
        rule: Any LPG.
        level: The level; `vmap` over levels and keys.
        mode: Its mode, with tabular observations.
        policy: float ``[states, num_actions]``, probabilities, as of
            `near_optimal_policy`.
        key: A PRNG key.
        config: The evaluation; the defaults if not given.
        predictors: How many predictors, of different initial values, learn from the
            same rollouts.

    Returns:
        The records.

    Raises:
        ValueError: If the mode is not tabular, or the policy not of that shape.
        WeightsError: If the rule's weights are not of its architecture.

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
    """Moves the value of each visited state towards its mean TD(lambda) target."""
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
    """The tabular network that has these logits at every time."""
    return _kernel(jnp.concatenate([logits, jnp.zeros((1, logits.shape[1]))]))


def _kernel(kernel: jax.Array) -> Any:
    return {"Dense_0": {"kernel": kernel}}


def _starting_anywhere(level: Level, mode: Mode) -> Environment:
    """The level with episodes from every free cell, shown without the clock."""
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
