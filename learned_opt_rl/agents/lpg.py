"""An agent that learns by LPG, as one jitted function.

The agent has an actor and a predictor and updates both once per rollout. The rule alone
decides which actions are good and what the predictor predicts.

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

from learned_opt_rl.agents import networks, rollouts
from learned_opt_rl.agents._normalization import Normalizers
from learned_opt_rl.agents.config import LPGConfig as LPGConfig
from learned_opt_rl.agents.networks import Network, init_network
from learned_opt_rl.agents.rollouts import World, form_to_play
from learned_opt_rl.envs.adapter import Environment, EpisodeState
from learned_opt_rl.rules.lpg import EPS, UpdateRule

Params = dict[str, Network]
"""``{"actor": Network, "predictor": Network}``; also ``"baseline"`` if there is one."""


class AgentState(NamedTuple):
    """The state of an LPG agent.

    Attributes:
        params: `Params`.
        opt_state: The optimizer's state.
        step: int32 scalar, updates made.
    """

    params: Any
    opt_state: optax.OptState
    step: jax.Array


class Rollout(NamedTuple):
    """Transitions of B workers over T steps.

    Attributes:
        observation: float32 ``[B, T + 1, features]``, or images for convolutions, or
            ``[B, T + 1, 1 + entries]`` of ``env.tabular``. After an episode ends comes
            the first observation of the next. The last one comes after the last step.
        action: int32 ``[B, T]``.
        reward: float32 ``[B, T]``.
        done: bool ``[B, T]``.
    """

    observation: jax.Array
    action: jax.Array
    reward: jax.Array
    done: jax.Array


class UpdateMetrics(NamedTuple):
    """Metrics of an update, float32 scalars.

    Attributes:
        loss: The agent's loss.
        kl: Mean of D_KL(y || y_hat).
        pi_l2: Mean of pi_hat squared.
        y_l2: Mean squared norm of y_hat.
        policy_entropy: Entropy of the updated actor on this rollout.
        target_entropy: Entropy of the updated predictor; 0 if it is not categorical.
    """

    loss: jax.Array
    kl: jax.Array
    pi_l2: jax.Array
    y_l2: jax.Array
    policy_entropy: jax.Array
    target_entropy: jax.Array


class Runner(NamedTuple):
    """A run between two rollouts.

    Attributes:
        agent: The agent.
        metrics: Metrics of its last update; zeros before the first.
        env_state: The environments' states, each array ``[num_envs, ...]``.
        observation: Current observations, ``[num_envs, *observation_shape]``, or those
            of ``env.tabular`` for a tabular agent.
        key: PRNG key for the rest of the run.
    """

    agent: AgentState
    metrics: UpdateMetrics
    env_state: EpisodeState
    observation: jax.Array
    key: jax.Array

    @property
    def params(self) -> Any:
        """The agent's `Params`."""
        return self.agent.params

    @property
    def opt_state(self) -> optax.OptState:
        """The optimizer's state."""
        return self.agent.opt_state

    @property
    def normalizers(self) -> Normalizers:
        """No statistics: an LPG agent sees raw observations."""
        return Normalizers()

    @property
    def mean_return(self) -> jax.Array:
        """Mean return of each environment's last finished episode; NaN before one."""
        return rollouts.mean_return(self.env_state).value


def init_agent(params: Params, optimizer: optax.GradientTransformation) -> AgentState:
    """Return an agent before its first update."""
    return AgentState(params, optimizer.init(params), jnp.int32(0))


def init_params(
    key: jax.Array, config: LPGConfig, env: Environment, target_width: int
) -> Params:
    """Draw an actor, a predictor and maybe a baseline; tables have no biases.

    A prediction has ``target_width`` components, ``rule.architecture.target_width``.

    Raises:
        ValueError: The convolutions do not fit the observations.
    """
    actor_key, predictor_key = jax.random.split(key)
    shape, bias = env.observation_shape, {"bias": bool(config.hidden or config.conv)}
    actor = init_network(actor_key, config, shape, env.num_actions, 0.01, **bias)
    predictor = init_network(predictor_key, config, shape, target_width, 1.0, **bias)
    params = {"actor": actor, "predictor": predictor}
    if config.baseline:
        # With and without it, the other networks are the same. Folding in 0 or 1 would
        # give the keys of the split.
        baseline_key = jax.random.fold_in(key, 2)
        params["baseline"] = init_network(baseline_key, config, shape, 1, 1.0, **bias)
    return params


def agent_update(
    config: LPGConfig,
    rule: UpdateRule,
    optimizer: optax.GradientTransformation,
    agent: AgentState,
    rollout: Rollout,
    *,
    lifetime: jax.Array | int | None = None,
    discard: bool = False,
) -> tuple[AgentState, UpdateMetrics]:
    """Move an agent one step down the rule's loss; differentiable in the rule.

    Args:
        config: Uses ``alpha_y``, ``gamma``, ``max_grad_norm``, ``baseline`` and the
            fields of networks.
        rule: The update rule. A meta-gradient reaches its weights.
        optimizer: Any optax transformation of the agent's ``params``.
        agent: Before the update.
        rollout: The agent's rollout.
        lifetime: Updates in the agent's life, for rules that take it as an input and
            for ``discard``.
        discard: Keep the agent unchanged once ``lifetime`` updates are made; metrics
            are still computed.

    Raises:
        ValueError: ``discard`` without ``lifetime``; or as ``UpdateRule.loss``.

    References:
        Oh et al. 2020, equation 2.
    """
    if discard and lifetime is None:
        raise ValueError("discard=True needs lifetime=, the number of updates to keep")
    time: dict[str, Any] = dict(gamma=config.gamma, step=agent.step, lifetime=lifetime)

    def loss(params: Params) -> Any:
        extra: dict[str, Any] = {}
        if config.baseline:
            x = rollout.observation[:, :-1]
            extra["baseline"] = _outputs(params["baseline"], x, config)[..., 0]
        inputs = rule_inputs(config, rule, rollout, params)
        return rule.loss(*inputs, alpha_y=config.alpha_y, **extra, **time)

    (total, parts), grads = jax.value_and_grad(loss, has_aux=True)(agent.params)
    if config.max_grad_norm is not None:
        bound = config.max_grad_norm
        grads = {k: rollouts.clip_by_norm(g, bound) for k, g in grads.items()}
    updates, opt_state = optimizer.update(grads, agent.opt_state, agent.params)
    params: Any = optax.apply_updates(agent.params, updates)
    updated = AgentState(params, opt_state, agent.step + 1)
    if discard and lifetime is not None:
        alive = agent.step < lifetime
        updated = jax.tree.map(lambda n, o: jnp.where(alive, n, o), updated, agent)
    target_entropy = jnp.float32(0)
    if rule.architecture.prediction == "categorical":
        x = rollout.observation[:, :-1]
        y = _outputs(updated.params["predictor"], x, config)
        target_entropy = _entropy(rule.predict(y))
    return updated, UpdateMetrics(
        loss=total,
        kl=jnp.mean(parts.kl),
        pi_l2=parts.pi_l2,
        y_l2=parts.y_l2,
        policy_entropy=_entropy(policy(updated.params, rollout, config)),
        target_entropy=target_entropy,
    )


def rule_inputs(
    config: LPGConfig, rule: UpdateRule, rollout: Rollout, params: Params
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]:
    """Return what a rule reads of a rollout, the first arguments of its ``loss``."""
    probs = networks.select(policy(params, rollout, config), rollout.action)
    y = rule.predict(_outputs(params["predictor"], rollout.observation, config))
    return rollout.reward, rollout.done, probs, y[:, :-1], y[:, 1:]


def policy(params: Params, rollout: Rollout, config: LPGConfig) -> jax.Array:
    """Return the probabilities of all actions, ``[B, T, A]``."""
    x = rollout.observation[:, :-1]
    return jax.nn.softmax(_outputs(params["actor"], x, config))


def play(
    config: LPGConfig, env: Environment, params: Params, world: World, key: jax.Array
) -> tuple[World, Rollout]:
    """Play one rollout by ``params["actor"]``; return the world after it, too."""
    world, played = rollouts.collect(config, env, params["actor"], world, key)
    observations = jnp.concatenate([played.observation, world.observation[None]])
    x = networks.prepare(observations, env.observation_shape, config)
    rollout = Rollout(x, played.action, played.reward, played.done)
    # A rule reads each worker's steps as a sequence, so workers come first.
    return world, jax.tree.map(lambda x: jnp.moveaxis(x, 0, 1), rollout)


def make_loop(
    config: LPGConfig,
    env: Environment,
    rule: UpdateRule,
    optimizer: optax.GradientTransformation,
) -> tuple[Callable[[jax.Array], Runner], Callable[[Runner], Runner]]:
    """Build the two functions of a run, for a loop of your own.

    The arguments are those of `make_train`.

    Returns:
        ``start(key) -> Runner`` and ``iterate(runner) -> Runner``. The latter plays one
        rollout and updates the agent. Both are pure: jit and vmap them.

    Raises:
        ValueError: The environment's actions are continuous. A rule takes the
            probability of an action, and continuous actions only have a density.
    """
    if env.continuous:
        raise ValueError(
            f"environment {env.name!r} has continuous actions, which LPG agents do not "
            "play (a rule takes probabilities); use agents.ppo or agents.a2c"
        )
    target_width = rule.architecture.target_width
    played = form_to_play(config, env)
    # Rules with lifetime inputs need a number even where the agent never stops.
    lifetime = config.num_updates if config.lifetime is None else config.lifetime

    def start(key: jax.Array) -> Runner:
        param_key, reset_key, key = jax.random.split(key, 3)
        params = init_params(param_key, config, env, target_width)
        observation, env_state = played.reset_many(reset_key, config.num_envs)
        metrics = UpdateMetrics(*[jnp.float32(0) for _ in UpdateMetrics._fields])
        agent = init_agent(params, optimizer)
        return Runner(agent, metrics, env_state, observation, key)

    def iterate(runner: Runner) -> Runner:
        key, rollout_key = jax.random.split(runner.key)
        world = World(runner.env_state, runner.observation)
        world, rollout = play(config, played, runner.params, world, rollout_key)
        agent, metrics = agent_update(
            config,
            rule,
            optimizer,
            runner.agent,
            rollout,
            lifetime=lifetime,
            discard=config.lifetime is not None,
        )
        return Runner(agent, metrics, world.env_state, world.observation, key)

    return start, iterate


def make_train(
    config: LPGConfig,
    env: Environment,
    rule: UpdateRule,
    optimizer: optax.GradientTransformation,
) -> Callable[[jax.Array], rollouts.TrainResult]:
    """Build a whole training run as one pure function of a key.

    Args:
        config: The run.
        env: The environment.
        rule: The update rule.
        optimizer: Any optax transformation. Its ``update`` gets the clipped gradients
            and the parameters, each ``{"actor": ..., "predictor": ...}``, with a
            ``"baseline"`` if the agent has one. ``agents.lpg_optimizer`` has the
            published ones.

    Returns:
        ``train(key) -> TrainResult``. Jit it, and vmap it over keys for several seeds.

    Raises:
        ValueError: As `make_loop`.

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
    return rollouts.train_by(
        make_loop(config, env, rule, optimizer), config.num_updates
    )


def _outputs(params: Network, x: jax.Array, config: LPGConfig) -> jax.Array:
    return networks.apply_network(params, x, config)[0]


def _entropy(probs: jax.Array) -> jax.Array:
    probs = probs + EPS
    return -jnp.mean(jnp.sum(probs * jnp.log(probs), axis=-1))
