"""Train agents with a rule: a group of seeds from its first rollout to its rows."""

import dataclasses
import json
import math
import time
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TextIO

import jax
import numpy as np

from learned_opt_rl import envs
from learned_opt_rl.agents.config import Config
from learned_opt_rl.envs import Environment
from learned_opt_rl.evaluation.runs.program import Program, State
from learned_opt_rl.evaluation.runs.row import Row, agent_of
from learned_opt_rl.evaluation.runs.rules import (
    OptimizerFactory,
    Rule,
    resolve,
    weights_digest,
)
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.checkpoint import Checkpoint
from learned_opt_rl.rundir.progress import Progress, duration
from learned_opt_rl.rundir.provenance import provenance
from learned_opt_rl.warn import warn_user

OnRollout = Callable[[int, float], None]
"""``(rollouts done, mean return over the agents that have one)``; NaN if none has."""

# The host reports a run, and can save it, about once a percent.
_CHUNKS = 100
# More points would not show in a figure of a page's width.
_DORMANT_POINTS = 200


def run(
    rule: str | OptimizerFactory | Rule,
    environment: str | Environment,
    config: Config,
    seeds: int | Sequence[int],
    *,
    name: str | None = None,
    on_rollout: OnRollout | None = None,
    devices: int = 1,
) -> list[Row]:
    """Train one agent per seed with a rule, all seeds at once.

    A seed gives every rule the same initial agent and the same environments, so rules
    can be compared seed by seed.

    Args:
        rule: A name for `rules.resolve`, a function ``key -> optimizer``, or a
            `rules.Rule`.
        environment: A name for `envs.make`, or an environment.
        config: Configuration of the run; its type determines the agent. See
            `agents.preset` for the published ones.
        seeds: One agent each; a number stands for the seeds from 0.
        name: Name of a rule that is given as a function.
        on_rollout: Called about a hundred times, and after the last rollout, for
            example a `RunProgress`.
        devices: Number of devices that share the seeds.

    Returns:
        One row per seed.

    Raises:
        ValueError: A name is unknown, there are no seeds, a rule given as a function
            has no name, or ``devices`` do not divide the seeds.

    Example:
        >>> from learned_opt_rl.agents import PPOConfig
        >>> config = PPOConfig(1024, num_envs=4, num_steps=32, minibatches=4)
        >>> (row,) = run("adam:1e-3", "CartPole-v1", config, seeds=[0])
        >>> row.rule, row.seed, len(row.curve)
        ('adam:1e-3', 0, 8)
    """
    seeds = range(seeds) if isinstance(seeds, int) else seeds
    if not seeds:
        raise ValueError(f"seeds={seeds!r} is empty; give at least one, as in [0]")
    env = envs.make(environment) if isinstance(environment, str) else environment
    chosen = resolve(rule, config, env.name) if isinstance(rule, str) else rule
    chosen = chosen if isinstance(chosen, Rule) else Rule(chosen)
    name = name or (rule if isinstance(rule, str) else None)
    if name is None:
        raise ValueError("name=None: a rule given as a function needs a name")
    program = Program(config, env, chosen, len(seeds), devices)
    trained = train(program, seeds, on_rollout=on_rollout)
    return rows(program, trained, name, weights_digest(name), seeds)


class Trained(NamedTuple):
    """A group of seeds during or after its run.

    One object, because an interrupt may come between any two lines.
    """

    state: State
    done: int  # rollouts done
    seconds: float  # time they took


def train(
    program: Program,
    seeds: Sequence[int],
    *,
    on_rollout: OnRollout | None = None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Train a group of seeds, from its checkpoint if there is one.

    ``on_rollout`` is called about a hundred times, and after the last rollout. The
    state is saved now and then, and when interrupted. A checkpoint that cannot be
    written is only a warning. It is not removed: rows must be on the disk first.
    """
    total = program.config.num_rollouts
    watched = on_rollout is not None or checkpoint is not None
    every = max(1, total // _CHUNKS) if watched else total
    now = _first(program, seeds, checkpoint)
    try:
        while now.done < total:
            started = time.perf_counter()
            until = min(now.done + every, total)
            state = program.advance(seeds, now.state, now.done, until)
            jax.block_until_ready(state)
            now = Trained(state, until, now.seconds + time.perf_counter() - started)
            if on_rollout:
                on_rollout(until, _mean(state.curve[:, until - 1]))
            if checkpoint and checkpoint.due and until < total:
                _save(checkpoint, now)
    except KeyboardInterrupt:
        if checkpoint and now.done:
            _save(checkpoint, now)
        raise
    return now


def rows(
    program: Program,
    trained: Trained,
    name: str,
    weights_sha256: str | None,
    seeds: Sequence[int],
    variant: dict[str, str] | None = None,
) -> list[Row]:
    """Return the row of each seed of a group."""
    config, env = program.config, program.env
    params = jax.device_get(trained.state.runner.params)
    curves = np.asarray(trained.state.curve)
    dormant = np.asarray(trained.state.dormant)
    nan_updates = np.asarray(trained.state.runner.opt_state.nan_updates)
    steps = len(seeds) * config.num_rollouts * config.batch_size
    known = provenance()
    # As it is read again: tuples are lists in JSON.
    settings = json.loads(json.dumps(dataclasses.asdict(config)))
    return [
        Row(
            rule=name,
            weights_sha256=weights_sha256,
            environment=env.name,
            agent=agent_of(config),
            seed=int(seed),
            total_timesteps=config.total_timesteps,
            final_return=jsonl.number(curves[i, -1]),
            auc=jsonl.number(_mean(curves[i])),
            diverged=not all(
                np.isfinite(leaf[i]).all() for leaf in jax.tree.leaves(params)
            ),
            nan_updates=int(nan_updates[i]),
            curve=jsonl.numbers(curves[i]),
            dormant=_thinned(dormant[i]),
            num_agents=len(seeds),
            compile_seconds=program.compile_seconds,
            wall_seconds=trained.seconds,
            steps_per_second=steps / trained.seconds,
            environment_details=details(env),
            variant=variant or {},
            **known,
            config=settings,
        )
        for i, seed in enumerate(seeds)
    ]


class RunProgress(Progress):
    """Show the progress of a run; pass it to `run` as ``on_rollout``."""

    def __init__(
        self,
        label: str,
        config: Config,
        num_agents: int = 1,
        stream: TextIO | None = None,
    ) -> None:
        super().__init__(label, config.num_rollouts, stream, percent=True)
        self._steps_per_rollout = config.batch_size * num_agents
        self._first: tuple[int, float] | None = None

    def __call__(self, rollouts: int, mean_return: float) -> None:
        """Show the number of rollouts done and the mean return of the agents.

        A mean that is not finite, as before the first episode ends, is shown as ``--``.
        """
        now = time.perf_counter()
        # The clock starts at the first report: compilation is not progress.
        self._first = self._first or (rollouts, now)
        steps = (rollouts - self._first[0]) * self._steps_per_rollout
        speed = steps / max(now - self._first[1], 1e-9)
        returned = f"{mean_return:.2f}" if math.isfinite(mean_return) else "--"
        shown = f"  {speed:,.0f} steps/s" if speed else ""
        self.show(rollouts, f"return {returned}{shown}")


class Overall:
    """Count the runs of a comparison and estimate when the last of them ends."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total, self._stream = total, stream
        self._over = self._ended = 0
        self._started = time.perf_counter()

    def label(self, name: str) -> str:
        """Return the name of a run with its place among all runs."""
        return f"[{self._over + 1}/{self._total}] {name}"

    def ended(self, where: str = "") -> None:
        """Count a run that is done, and write a line."""
        self._over, self._ended = self._over + 1, self._ended + 1
        per_run = (time.perf_counter() - self._started) / self._ended
        left = self._total - self._over
        when = f", about {duration(per_run * left)} left" if left else ""
        self._stream.write(f"{self._over} of {self._total} runs done{where}{when}\n")
        self._stream.flush()

    def failed(self, runs: int) -> None:
        """Count runs that will not be done; they take no time."""
        self._over += runs


def _first(
    program: Program, seeds: Sequence[int], checkpoint: Checkpoint | None
) -> Trained:
    kept = checkpoint.load(program.template) if checkpoint else None
    if kept is not None:
        state, done, seconds = kept
        return Trained(program.restore(state), done, seconds)
    started = time.perf_counter()
    state = jax.block_until_ready(program.start(seeds))
    return Trained(state, 0, time.perf_counter() - started)


def _save(checkpoint: Checkpoint, now: Trained) -> None:
    try:
        checkpoint.save(now.state, done=now.done, seconds=now.seconds)
    except OSError as error:  # A run can continue without checkpoints.
        warn_user(
            f"{checkpoint.path} cannot be written ({error}); the run continues without "
            "this checkpoint",
        )


def details(env: Environment) -> dict[str, Any]:
    """Return the facts about an environment that rows record."""
    known = {} if env.optimal_return is None else {"optimal_return": env.optimal_return}
    return dict(env.details) | known


def _thinned(values: np.ndarray) -> list[float | None]:
    """Return at most 200 of the values, evenly spaced up to the last."""
    if not np.isfinite(values).any():
        return []
    every = math.ceil(len(values) / _DORMANT_POINTS)
    return jsonl.numbers(values[::-1][::every][::-1])


def _mean(values: Any) -> float:
    """Return the mean of the finite values, NaN if there are none."""
    values = np.asarray(values, float)
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan
