"""Compare our PPO's speed with that of a loop in purejaxrl's style, in one process.

The baseline is what a reader of purejaxrl would have: one Flax module of separate
actor and critic, evaluated at every step, a ``TrainState``, gymnax's ``LogWrapper``,
and a scan over rollouts. It is ours from the description of the algorithm. Both play
the same environment with the same sizes, networks and annealed Adam. Run as::

    python -m bench.purejaxrl --out results/purejaxrl.json

Absolute times depend on the machine and on what else it does; the ratio comes from
repeats that alternate.
"""

import argparse
import pathlib
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import flax.linen as nn
import gymnax
import jax
import jax.numpy as jnp
import optax
from flax.training.train_state import TrainState
from gymnax.wrappers import LegacyStepAPIWrapper, LogWrapper

from bench.overhead import compiled, interleaved, print_table, with_ratios
from learned_opt_rl import envs
from learned_opt_rl.agents import PPOConfig, make_train, preset
from learned_opt_rl.rundir.atomic import write_json
from learned_opt_rl.rundir.provenance import provenance

LEARNING_RATE = 2.5e-4


def main(argv: Sequence[str] | None = None) -> None:
    """Measure every environment, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--out", type=pathlib.Path, help="write the rows here as well")
    add("--environments", nargs="+", default=["CartPole-v1", "Breakout-MinAtar"])
    add("--agents", type=int, nargs="+", default=[1], help="trained side by side")
    add("--steps", type=float, default=2e5, help="of each run and agent")
    add("--repetitions", type=int, default=5)
    arguments = parser.parse_args(argv)
    rows: list[dict[str, Any]] = []
    for environment in arguments.environments:
        for agents in arguments.agents:
            config = preset(environment, arguments.steps)
            rows += measure(environment, config, agents, arguments.repetitions)
    print_table("PPO, environment steps per second", rows)
    if arguments.out:
        asked = {key: str(value) for key, value in vars(arguments).items()}
        report = {**provenance(), "asked": asked, "rows": rows}
        write_json(arguments.out, report, indent=1)


def measure(
    environment: str, config: PPOConfig, agents: int, repetitions: int
) -> list[dict[str, Any]]:
    """Measure environment steps per second of both loops.

    Args:
        environment: A gymnax name.
        config: Of both.
        agents: Trained side by side by ``vmap``. More than one may hang on a CPU with
            few cores: so many QR decompositions, by which Flax draws orthogonal
            kernels, wait for each other there.
        repetitions: Alternating timings of each, of which the median counts.

    Returns:
        One row per loop.
    """
    schedule = optax.linear_schedule(LEARNING_RATE, 0.0, config.num_updates)
    ours = make_train(config, envs.make(environment), optax.adam(schedule, eps=1e-5))
    loops = {
        "purejaxrl's style": baseline(environment, config),
        "learned_opt_rl": lambda key: ours(key).returns,
    }
    keys = jax.random.split(jax.random.key(0), agents)
    runs, rows = {}, {}
    for name, train in loops.items():
        program, seconds = compiled(jax.vmap(train), keys)
        runs[name] = lambda p=program: p(keys)
        rows[name] = {
            "environment": environment,
            "agents": agents,
            "loop": name,
            "compile_seconds": round(seconds, 2),
            "final_return": round(float(program(keys)[:, -1].mean()), 2),
        }
    played = config.num_rollouts * config.batch_size * agents
    for name, seconds in interleaved(runs, repetitions).items():
        rows[name]["steps_per_second"] = round(played / seconds)
    return with_ratios(list(rows.values()), "steps_per_second", "times_purejaxrl")


class ActorCritic(nn.Module):
    """Two networks that share nothing but a scope."""

    num_actions: int
    hidden: tuple[int, ...]
    activation: Callable[[jax.Array], jax.Array]

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Return logits and values of flat observations."""
        actor = critic = x
        for width in self.hidden:
            actor = self.activation(dense(width, 2**0.5)(actor))
        logits = dense(self.num_actions, 0.01)(actor)
        for width in self.hidden:
            critic = self.activation(dense(width, 2**0.5)(critic))
        return logits, dense(1, 1.0)(critic)[..., 0]


def dense(width: int, gain: float) -> nn.Dense:
    """Return a layer with orthogonal kernel and zero bias."""
    return nn.Dense(width, kernel_init=nn.initializers.orthogonal(gain))


class Transition(NamedTuple):
    """Take one step of all environments."""

    done: jax.Array
    action: jax.Array
    value: jax.Array
    reward: jax.Array
    log_prob: jax.Array
    observation: jax.Array


def baseline(environment: str, config: PPOConfig) -> Callable[[jax.Array], jax.Array]:
    """Return PPO in purejaxrl's style: ``train(key) -> returns`` per rollout."""
    bare, env_params = gymnax.make(environment)
    logged: Any = LogWrapper(bare)
    env: Any = LegacyStepAPIWrapper(logged)
    reset = jax.vmap(env.reset, (0, None))
    step = jax.vmap(env.step, (0, 0, 0, None))
    activation = {"relu": nn.relu, "tanh": nn.tanh}[config.activation]
    actions = env.action_space(env_params).n
    network: Any = ActorCritic(actions, config.hidden, activation)

    def flat(observation: jax.Array) -> jax.Array:
        return observation.reshape(config.num_envs, -1).astype(jnp.float32)

    def env_step(runner: Any, _: None) -> tuple[Any, Any]:
        state, env_state, observation, key = runner
        key, action_key, step_key = jax.random.split(key, 3)
        logits, value = network.apply(state.params, observation)
        action = jax.random.categorical(action_key, logits)
        following, env_state, reward, done, info = step(
            jax.random.split(step_key, config.num_envs), env_state, action, env_params
        )
        log_prob = log_prob_of(logits, action)
        played = Transition(done, action, value, reward, log_prob, observation)
        runner = state, env_state, flat(following), key
        return runner, (played, info["returned_episode_returns"].mean())

    def minibatch_step(state: TrainState, batch: Any) -> tuple[TrainState, None]:
        grads = jax.grad(loss)(state.params, network, batch, config)
        return state.apply_gradients(grads=grads), None

    def epoch(carry: Any, _: None) -> tuple[Any, None]:
        state, batch, key = carry
        key, order_key = jax.random.split(key)
        order = jax.random.permutation(order_key, config.batch_size)
        shuffled = jax.tree.map(lambda x: jnp.take(x, order, axis=0), batch)
        minibatches = jax.tree.map(
            lambda x: x.reshape(config.minibatches, -1, *x.shape[1:]), shuffled
        )
        state, _ = jax.lax.scan(minibatch_step, state, minibatches)
        return (state, batch, key), None

    def update(runner: Any, _: None) -> tuple[Any, jax.Array]:
        runner, (played, returns) = jax.lax.scan(
            env_step, runner, None, config.num_steps
        )
        state, env_state, observation, key = runner
        _, last_value = network.apply(state.params, observation)
        advantages, targets = advantages_of(played, last_value, config)
        batch = jax.tree.map(
            lambda x: x.reshape(config.batch_size, *x.shape[2:]),
            (played, advantages, targets),
        )
        carry, _ = jax.lax.scan(epoch, (state, batch, key), None, config.epochs)
        return (carry[0], env_state, observation, carry[2]), returns[-1]

    def train(key: jax.Array) -> jax.Array:
        key, init_key, reset_key = jax.random.split(key, 3)
        keys = jax.random.split(reset_key, config.num_envs)
        observation, env_state = reset(keys, env_params)
        params = network.init(init_key, flat(observation))
        schedule = optax.linear_schedule(LEARNING_RATE, 0.0, config.num_updates)
        tx = optax.chain(
            optax.clip_by_global_norm(config.max_grad_norm),
            optax.adam(schedule, eps=1e-5),
        )
        state = TrainState.create(apply_fn=network.apply, params=params, tx=tx)
        runner = state, env_state, flat(observation), key
        return jax.lax.scan(update, runner, None, config.num_rollouts)[1]

    return train


def advantages_of(
    played: Transition, last_value: jax.Array, config: PPOConfig
) -> tuple[jax.Array, jax.Array]:
    """Return generalized advantages and value targets, ``[num_steps, num_envs]``."""

    def backwards(carry: Any, played: Transition) -> tuple[Any, jax.Array]:
        advantage, next_value = carry
        alive = 1 - played.done
        delta = played.reward + config.gamma * next_value * alive - played.value
        advantage = delta + config.gamma * config.gae_lambda * alive * advantage
        return (advantage, played.value), advantage

    carry = (jnp.zeros_like(last_value), last_value)
    _, advantages = jax.lax.scan(backwards, carry, played, reverse=True, unroll=16)
    return advantages, advantages + played.value


def loss(params: Any, network: Any, batch: Any, config: PPOConfig) -> jax.Array:
    """Return PPO's clipped loss on a minibatch."""
    played, advantages, targets = batch
    logits, value = network.apply(params, played.observation)
    near = played.value + (value - played.value).clip(-config.clip_eps, config.clip_eps)
    errors = jnp.maximum((value - targets) ** 2, (near - targets) ** 2)
    ratio = jnp.exp(log_prob_of(logits, played.action) - played.log_prob)
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    bounded = ratio.clip(1 - config.clip_eps, 1 + config.clip_eps)
    policy_loss = -jnp.minimum(ratio * advantages, bounded * advantages).mean()
    log_probs = jax.nn.log_softmax(logits)
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    value_loss = 0.5 * errors.mean()
    return policy_loss + config.vf_coef * value_loss - config.ent_coef * entropy


def log_prob_of(logits: jax.Array, action: jax.Array) -> jax.Array:
    """Return log-probabilities of actions."""
    chosen = jnp.take_along_axis(jax.nn.log_softmax(logits), action[..., None], axis=-1)
    return chosen[..., 0]


if __name__ == "__main__":
    main()
