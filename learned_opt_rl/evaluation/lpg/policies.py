"""Fixed policies of grid worlds: their exact values, and their evaluation by an LPG."""

import dataclasses
import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import checks
from learned_opt_rl.agents.actor_critic import gae
from learned_opt_rl.agents.config import LPGConfig
from learned_opt_rl.agents.lpg import Rollout, agent_update, init_agent, play
from learned_opt_rl.agents.rollouts import World
from learned_opt_rl.envs import gridworld
from learned_opt_rl.envs.adapter import Environment, EpisodeState, Step
from learned_opt_rl.envs.gridworld import Level, Mode, action_values
from learned_opt_rl.rules.lpg import UpdateRule

# Action values closer than this differ by rounding only.
_TIE = 1e-5
# Figure 6 of the paper compares two.
_PREDICTORS = 2


@functools.partial(jax.jit, static_argnames="mode")
def near_optimal_policy(
    level: Level,
    mode: Mode,
    gamma: float | jax.Array = 0.995,
    epsilon: float | jax.Array = 0.1,
) -> jax.Array:
    """Return the epsilon-greedy policy of the exact optimal action values.

    The result is float32 ``[states, num_actions]``, by the index of the tabular
    observation. The values are those at the beginning of an episode, and the policy has
    no clock. The best actions (equal up to 1e-5) share 1 - epsilon; all actions share
    epsilon. A softmax would hardly prefer the way to an object to the way back, because
    a step costs only the share 1 - gamma of a value.
    """
    of_actions = action_values(level, mode)
    value = jax.lax.fori_loop(
        0,
        level.max_steps - 1,
        lambda _, value: jnp.max(of_actions(value, gamma), axis=1),
        jnp.zeros((2**mode.num_slots, mode.num_cells)),
    )
    values = of_actions(value, gamma)
    best = values >= jnp.max(values, axis=1, keepdims=True) - _TIE
    greedy = best / jnp.sum(best, axis=1, keepdims=True)
    policy = (1 - epsilon) * greedy + epsilon / mode.num_actions
    return jnp.moveaxis(policy, 1, -1).reshape(-1, mode.num_actions)


@functools.partial(jax.jit, static_argnames="mode")
def true_values(
    level: Level, mode: Mode, policy: jax.Array, gamma: float | jax.Array
) -> jax.Array:
    """Compute the discounted values of a policy ``[states, num_actions]``.

    The result is float32 ``[states]``, NaN for states that are never visited. Episodes
    begin in every free cell equally often, with all objects present, and end by an
    object or at the level's step limit. Late in an episode a state is worth less,
    because of the limit, but policy and predictions have no clock. So the value of a
    state is the mean over the visits to it, to which a prediction without bootstrapping
    converges. If the limit is far away, this is the solution of the linear system
    v = r + gamma P v.
    """
    _require_policy(policy, mode)
    presences, horizon = 2**mode.num_slots, mode.max_steps
    of_actions = action_values(level, mode)
    probs = policy.reshape(presences, mode.num_cells, -1)
    probs = jnp.moveaxis(probs, -1, 1)

    def backup(value: jax.Array, discount: jax.Array | float) -> jax.Array:
        return jnp.sum(probs * of_actions(value, discount), axis=1)

    # Expectations pull values back in time; their transpose pushes visits forward.
    nothing = jnp.zeros((presences, mode.num_cells))
    forward = jax.vjp(lambda value: backup(value, 1.0), nothing)[1]
    first = (
        nothing.at[all_present(level)].set(level.free / jnp.sum(level.free)),
        jnp.int32(0),
    )

    def play(carry: tuple[jax.Array, jax.Array], _: None):
        visits, time = carry
        visits = jnp.where(time < level.max_steps, visits, 0.0)
        return (forward(visits)[0], time + 1), visits

    _, visits = jax.lax.scan(play, first, length=horizon)

    def earlier(carry: tuple[jax.Array, jax.Array], x: tuple[jax.Array, jax.Array]):
        value, total = carry
        visits, time = x
        value = jnp.where(time < level.max_steps, backup(value, gamma), 0.0)
        return (value, total + visits * value), None

    inputs = visits, jnp.arange(horizon)
    (_, total), _ = jax.lax.scan(earlier, (nothing, nothing), inputs, reverse=True)
    number = jnp.sum(visits, axis=0)
    # Products of many small probabilities may round to 0.
    known = number > 1e-20
    return jnp.where(known, total / jnp.where(known, number, 1.0), jnp.nan).reshape(-1)


def all_present(level: Level) -> jax.Array:
    """Return the number of the presence in which every object is present."""
    return 2**level.num_objects - 1


def _require_policy(policy: jax.Array, mode: Mode) -> None:
    shape = 2**mode.num_slots * mode.num_cells, mode.num_actions
    if jnp.shape(policy) != shape:
        raise ValueError(
            f"policy has shape {jnp.shape(policy)}, but mode {mode.name!r} has "
            f"{shape[0]} states and {shape[1]} actions: it must be {shape}"
        )


@dataclasses.dataclass(frozen=True)
class EvaluationConfig:
    """Configuration of a policy evaluation.

    The learning rate is that of the predictor's SGD: the paper's tabular agents have 20
    to 80, GROOVE's have 4. The paper (Oh et al. 2020, table 3) does not state the
    number of updates of its evaluations.
    """

    updates: int = 500  # of the predictor, each on a fresh rollout
    every: int = 10  # updates between two records of the predictions; divides them
    gamma: float = 0.995  # of the policy, of TD, and of rules that have it as an input
    epsilon: float = 0.1  # share of random actions of the policy
    learning_rate: float = 40.0
    alpha_y: float = 0.5  # weight of the prediction's loss
    max_grad_norm: float | None = 0.5  # None for no bound
    td_lambda: float = 0.95  # of TD(lambda), the baseline of the predictions
    td_rate: float = 0.1  # step size of TD(lambda) per state, towards the mean target
    num_envs: int = 64  # episodes played in parallel
    num_steps: int = 20  # of each episode per update

    def __post_init__(self) -> None:
        for name in ("updates", "every"):
            checks.positive_int(name, getattr(self, name))
        if self.updates % self.every:
            raise ValueError(
                f"every={self.every} must divide updates={self.updates}; choose one of "
                "its divisors"
            )
        fix = "give for example 0.1"
        for name in ("epsilon", "td_rate"):
            checks.finite(name, getattr(self, name), fix, above=0, most=1)
        fix = "give for example 0.95"
        checks.finite("td_lambda", self.td_lambda, fix, least=0, most=1)
        fix = "give for example 40"
        checks.finite("learning_rate", self.learning_rate, fix, above=0)
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
    """Predictions during their training, of the states with all objects present."""

    y: jax.Array  # float32 [records, 2, cells, m], of both predictors
    # float32 [records, cells], values by TD(lambda) from the same rollouts
    td: jax.Array


def evaluate_policy(
    rule: UpdateRule,
    level: Level,
    mode: Mode,
    policy: jax.Array,
    key: jax.Array,
    config: EvaluationConfig,
) -> Evaluation:
    """Evaluate a policy ``[states, num_actions]`` by a rule that updates predictors.

    The policy stays fixed. The predictors are tables without a clock; their first
    predictions are the softmax of standard normal logits, drawn for each. They learn
    from the same rollouts. Each episode begins in a random free cell, so that there is
    something to predict everywhere; the paper does not state where its episodes begin.

    References:
        Oh et al. 2020, section 4.2, figure 4.
    """
    _require_policy(policy, mode)
    agent_config, env = config.agent, _starting_anywhere(level, mode)
    optimizer = optax.multi_transform(
        {"actor": optax.set_to_zero(), "predictor": optax.sgd(config.learning_rate)},
        {"actor": "actor", "predictor": "predictor"},
    )
    states, shape = policy.shape[0], (2**mode.num_slots, mode.num_cells)
    width = rule.architecture.target_width
    init_key, reset_key, key = jax.random.split(key, 3)
    logits = jax.random.normal(init_key, (_PREDICTORS, states + 1, width))
    # The floor keeps the logarithm of a probability of 0 finite.
    log_probs = jnp.log(jnp.maximum(policy, 1e-30))
    # The last input of a table is the clock, whose weights are 0.
    actor = _kernel(jnp.pad(log_probs, ((0, 1), (0, 0))))
    agents = jax.vmap(
        lambda logits: init_agent(
            {"actor": actor, "predictor": _kernel(logits)}, optimizer
        )
    )(logits)
    observation, env_state = env.reset_many(reset_key, config.num_envs)
    world = World(env_state, observation)

    def update(carry: Any, key: jax.Array) -> Any:
        world, agents, td = carry
        world, rollout = play(agent_config, env, {"actor": actor}, world, key)
        agents = jax.vmap(
            lambda agent: agent_update(
                agent_config, rule, optimizer, agent, rollout, lifetime=config.updates
            )[0]
        )(agents)
        return (world, agents, _td_update(td, rollout, config)), None

    def shown(agents: Any, td: jax.Array) -> Evaluation:
        logits = agents.params["predictor"]["Dense_0"]["kernel"][:, :-1]
        logits = logits.reshape(_PREDICTORS, *shape, width)
        there = all_present(level)
        y = rule.predict(jnp.take(logits, there, axis=1))
        return Evaluation(y, td.reshape(shape)[there])

    def record(carry: Any, keys: jax.Array) -> Any:
        carry, _ = jax.lax.scan(update, carry, keys)
        return carry, shown(*carry[1:])

    td = jnp.zeros(states)
    keys = jax.random.split(key, (config.num_records - 1, config.every))
    _, records = jax.lax.scan(record, (world, agents, td), keys)
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
