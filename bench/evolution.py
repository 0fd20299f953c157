"""Measure the parts of meta-training, and a population against single runs.

    python -m bench.evolution --out results/evolution.json

The parts are separate programs that alternate: the whole run; the run with SGD in place
of the learned rule; the environment with its policy; and the rule's updates alone, as
many as in the run. The rest is the difference between the whole and its parts, mostly
because the rule and the gradients evict each other from the cache. A population is
measured in one process per number of devices, against as many single runs at once. On a
shared machine, compare processor time.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from bench.overhead import print_table
from learned_opt_rl.agents import actor_critic, ppo
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.agents.networks import prepare
from learned_opt_rl.envs import Environment
from learned_opt_rl.evaluation.runs.rules import Rule
from learned_opt_rl.rundir.atomic import write_json
from learned_opt_rl.rundir.provenance import provenance
from learned_opt_rl.training.evolution import EvolutionConfig, preset
from learned_opt_rl.training.evolution.fitness import (
    Evaluator,
    RunFn,
    Task,
    make_run,
    member_keys,
    tasks,
)

PPOTask = tuple[PPOConfig, Environment]
Clocks = dict[str, float]
"""Seconds of wall clock and of the processor."""


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print tables and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--presets", nargs="+", default=["open-breakout", "lpo-minatar"])
    add("--population", type=int, default=8)
    add("--steps", type=int, default=65_536, help="steps of each run and environment")
    add("--devices", type=int, nargs="+", default=[1, 2], help="numbers of CPU devices")
    add("--block", type=int)
    add("--repetitions", type=int, default=3)
    add("--out", type=pathlib.Path)
    add("--only", type=int, metavar="DEVICES", help=argparse.SUPPRESS)
    options = parser.parse_args(argv)
    if options.only is not None:
        print(json.dumps(_here(options, options.only)))
        return
    arguments = sys.argv[1:] if argv is None else [*argv]
    found = [_in_a_process(arguments, devices) for devices in options.devices]
    parts = [row for report in found for row in report["parts"]]
    populations = [row for report in found for row in report["populations"]]
    print_table("parts of a run", parts)
    print_table("a population against single runs", populations)
    if options.out:
        asked = {key: str(value) for key, value in vars(options).items()}
        report = {**provenance(), "asked": asked}
        report |= {"parts": parts, "populations": populations}
        write_json(options.out, report, indent=1)


def _in_a_process(arguments: list[str], devices: int) -> dict[str, Any]:
    flag = f"--xla_force_host_platform_device_count={devices}"
    flags = f"{os.environ.get('XLA_FLAGS', '')} {flag}".strip()
    command = [sys.executable, "-m", "bench.evolution", *arguments]
    done = subprocess.run(
        [*command, "--only", str(devices)],
        env={**os.environ, "XLA_FLAGS": flags},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


def _here(options: argparse.Namespace, devices: int) -> dict[str, Any]:
    """Measure in this process, which has this number of devices."""
    parts, populations = [], []
    for name in options.presets:
        config = preset(
            name,
            population=options.population,
            horizons=((0, options.steps),),
            validation_seeds=1,
        )
        if devices == options.devices[0]:
            parts += measure_parts(name, config, options.repetitions)
        populations.append(
            measure_population(
                name, config, devices, options.block, options.repetitions
            )
        )
    return {"parts": parts, "populations": populations}


def measure_parts(
    name: str, config: EvolutionConfig, repetitions: int
) -> list[dict[str, Any]]:
    """Return the seconds of a run and of each of its parts."""
    places = tasks(config.runs(config.horizon(0)))
    start = config.learned.start(config.start, jax.random.key(0))
    key = jax.random.key(2)

    def program(run: RunFn) -> Callable[[], Any]:
        jitted = jax.jit(run)
        return lambda: jitted(start, key)

    times = _alternating(
        {
            "whole": program(make_run(config.learned, places)),
            "with SGD": program(_run(config, places, _with_sgd)),
            "environment": program(_run(config, places, _environment)),
            "optimizer": program(_run(config, places, _updates)),
        },
        repetitions,
    )
    whole, sgd, environment, optimizer = times.values()
    parts = {
        "whole": whole,
        "environment": environment,
        "gradients": {k: sgd[k] - environment[k] for k in sgd},
        "optimizer": optimizer,
        "rest": {k: whole[k] - sgd[k] - optimizer[k] for k in sgd},
    }
    return [
        {
            "preset": name,
            "part": part,
            **{f"{clock}_seconds": round(value, 3) for clock, value in spent.items()},
            "share": round(spent["processor"] / whole["processor"], 3),
        }
        for part, spent in parts.items()
    ]


def _run(
    config: EvolutionConfig,
    places: Sequence[Task],
    piece: Callable[[Any, Rule, jax.Array], Any],
) -> RunFn:
    """Return a part of `fitness.make_run`, in every environment."""

    def run(vector: jax.Array, key: jax.Array) -> Any:
        found = []
        for i, task in enumerate(places):
            rule = config.learned.rule(vector, task[0], task[1].name)
            found.append(piece(task, rule, jax.random.fold_in(key, i)))
        return found

    return run


def _with_sgd(task: PPOTask, rule: Rule, key: jax.Array) -> Any:
    sgd = optax.sgd(1e-3)
    return ppo.make_train(task[0], task[1], sgd, drift=rule.drift)(key)


def _environment(task: PPOTask, rule: Rule, key: jax.Array) -> Any:
    """Collect the rollouts of an agent that does not learn."""
    start, iterate = actor_critic.make_loop(
        task[0],
        task[1],
        optax.with_extra_args_support(optax.sgd(1e-3)),
        lambda params, opt_state, batch, key: (params, opt_state),
    )

    def step(runner: Any, _: None) -> tuple[Any, jax.Array]:
        runner = iterate(runner)
        return runner, runner.mean_return

    return jax.lax.scan(step, start(key), length=task[0].num_rollouts)[1]


def _updates(task: PPOTask, rule: Rule, key: jax.Array) -> Any:
    """Make the updates of a run, with gradients that change every time."""
    optimizer = optax.with_extra_args_support(rule.optimizer(key))
    params = actor_critic.init_params(key, task[0], task[1])
    shape = task[1].observation_shape
    observation = prepare(jnp.ones((1, *shape)), shape, task[0])
    dormancy = actor_critic.evaluate(params, observation, task[0])[2]
    gradients = jax.tree.map(lambda x: 0.01 * x + 1e-3, params)

    def step(carry: Any, i: jax.Array) -> tuple[Any, None]:
        params, opt_state = carry
        now = jax.tree.map(lambda g: g * jnp.cos(0.1 * i), gradients)
        updates, opt_state = optimizer.update(now, opt_state, params, dormancy=dormancy)
        return (optax.apply_updates(params, updates), opt_state), None

    carry = params, optimizer.init(params)
    return jax.lax.scan(step, carry, jnp.arange(task[0].num_updates))[0]


def measure_population(
    name: str,
    config: EvolutionConfig,
    devices: int,
    block: int | None,
    repetitions: int,
) -> dict[str, Any]:
    """Return the steps per second of a generation, and of a run on each device."""
    steps = config.steps_per_member(config.horizon(0))
    start = config.learned.start(config.start, jax.random.key(0))
    state = config.es.init(start, jax.random.key(1))
    run = jax.jit(make_run(config.learned, tasks(config.runs(config.horizon(0)))))
    placed = [
        jax.device_put((state.mean, jax.random.key(i)), device)
        for i, device in enumerate(jax.devices()[:devices])
    ]
    pool = concurrent.futures.ThreadPoolExecutor(devices)

    def one(arguments: Any) -> Any:
        return jax.block_until_ready(run(*arguments))

    evaluator = Evaluator(config, config.horizon(0), devices=devices, block=block)
    vectors = jnp.repeat(config.es.ask(state), config.rollouts, axis=0)
    keys = member_keys(config, state).reshape(-1)
    times = _alternating(
        {
            "single": lambda: list(pool.map(one, placed)),
            "population": lambda: evaluator.returns(vectors, keys),
        },
        repetitions,
    )
    speed = {
        f"{kind}_{clock}": runs * steps / times[kind][clock]
        for kind, runs in (("single", devices), ("population", len(keys)))
        for clock in ("clock", "processor")
    }
    return {
        "preset": name,
        "population": config.population,
        "devices": devices,
        "block": evaluator.block,
        "single_steps_per_second": round(speed["single_clock"]),
        "population_steps_per_second": round(speed["population_clock"]),
        "relative": round(speed["population_clock"] / speed["single_clock"], 3),
        "relative_processor": round(
            speed["population_processor"] / speed["single_processor"], 3
        ),
    }


def _alternating(
    programs: dict[str, Callable[[], Any]], repetitions: int
) -> dict[str, Clocks]:
    """Return medians; the first run of each program compiles and does not count."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in programs}
    for repetition in range(repetitions + 1):
        for name, program in programs.items():
            started = time.perf_counter(), time.process_time()
            jax.block_until_ready(program())
            ended = time.perf_counter(), time.process_time()
            if repetition:
                found[name].append((ended[0] - started[0], ended[1] - started[1]))
    return {
        name: dict(
            zip(
                ("clock", "processor"),
                map(statistics.median, zip(*each, strict=True)),
                strict=True,
            )
        )
        for name, each in found.items()
    }


if __name__ == "__main__":
    main()
