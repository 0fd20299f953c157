"""A group of seeds from its first rollout to its rows."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any, NamedTuple

import jax
import numpy as np

from learned_opt_rl.envs import Environment
from learned_opt_rl.evaluation.runs.agents import agent_of
from learned_opt_rl.evaluation.runs.identity import weights_digest
from learned_opt_rl.evaluation.runs.program import Program, State
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.checkpoint import Checkpoint
from learned_opt_rl.rundir.jsonl import Row
from learned_opt_rl.rundir.provenance import provenance

OnRollout = Callable[[int, float], None]
"""``(rollouts done, mean return over the agents that have one)``; NaN if none has."""

_CHUNKS = 100
_DORMANT_POINTS = 200


class Trained(NamedTuple):
    """A group at the end of its run, and the seconds it took."""

    state: State
    seconds: float


class _Moment(NamedTuple):
    """Where a run is, in one object: an interrupt may come between any two lines."""

    state: State
    done: int
    seconds: float


def train(
    program: Program,
    seeds: Sequence[int],
    *,
    on_rollout: OnRollout | None = None,
    checkpoint: Checkpoint | None = None,
) -> Trained:
    """Trains a group, from where a checkpoint has it.

    Args:
        program: Compiled for as many seeds.
        seeds: One agent each.
        on_rollout: Called about a hundred times, and after the last rollout.
        checkpoint: Where to keep the state now and then, and when interrupted.

    Returns:
        The group at the end. The checkpoint stays: rows must be safe before it goes.
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
            now = _Moment(state, until, now.seconds + time.perf_counter() - started)
            if on_rollout:
                on_rollout(until, _mean(state.curve[:, until - 1]))
            if checkpoint and checkpoint.due and until < total:
                _save(checkpoint, now)
    except KeyboardInterrupt:
        if checkpoint and now.done:
            _save(checkpoint, now)
        raise
    return Trained(now.state, now.seconds)


def _first(
    program: Program, seeds: Sequence[int], checkpoint: Checkpoint | None
) -> _Moment:
    kept = checkpoint.load(program.template) if checkpoint else None
    if kept is not None:
        state, done, seconds = kept
        return _Moment(program.restore(state), done, seconds)
    started = time.perf_counter()
    state = jax.block_until_ready(program.start(seeds))
    return _Moment(state, 0, time.perf_counter() - started)


def _save(checkpoint: Checkpoint, now: _Moment) -> None:
    checkpoint.save(now.state, done=now.done, seconds=now.seconds)


def rows(
    program: Program,
    trained: Trained,
    name: str,
    seeds: Sequence[int],
    variant: dict[str, str] | None = None,
) -> list[Row]:
    """What was measured, a JSON-able row per seed; see `runs.run`."""
    config, env = program.config, program.env
    params = jax.device_get(trained.state.runner.params)
    curves = np.asarray(trained.state.curve)
    dormant = np.asarray(trained.state.dormant)
    nan_updates = np.asarray(trained.state.nan_updates)
    steps = len(seeds) * config.num_rollouts * config.batch_size
    shared = {
        "num_agents": len(seeds),
        "compile_seconds": program.compile_seconds,
        "wall_seconds": trained.seconds,
        "steps_per_second": steps / trained.seconds,
        "environment_details": _details(env),
        "variant": variant or {},
        **provenance(),
        "config": asdict(config),
    }
    return [
        {
            "rule": name,
            "weights_sha256": weights_digest(name),
            "environment": env.name,
            "agent": agent_of(config),
            "seed": int(seed),
            "total_timesteps": config.total_timesteps,
            "final_return": jsonl.number(curves[i, -1]),
            "auc": jsonl.number(_mean(curves[i])),
            "diverged": not all(
                np.isfinite(leaf[i]).all() for leaf in jax.tree.leaves(params)
            ),
            "nan_updates": int(nan_updates[i]),
            "curve": [jsonl.number(value) for value in curves[i]],
            "dormant": _thinned(dormant[i]),
            **shared,
        }
        for i, seed in enumerate(seeds)
    ]


def _details(env: Environment) -> dict[str, Any]:
    """What results depend on besides the environment's name, and its optimum."""
    known = {} if env.optimal_return is None else {"optimal_return": env.optimal_return}
    return dict(env.details) | known


def _thinned(values: np.ndarray) -> list[float | None]:
    """At most 200 of them, evenly spaced up to the last; none if none is known."""
    if np.isnan(values).all():
        return []
    every = math.ceil(len(values) / _DORMANT_POINTS)
    return [jsonl.number(value) for value in values[::-1][::every][::-1]]


def _mean(values: Any) -> float:
    """Of those that are finite; NaN if none is."""
    values = np.asarray(values, float)
    known = values[np.isfinite(values)]
    return float(known.mean()) if known.size else math.nan
