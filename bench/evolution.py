"""Throughput of a generation of evolution, relative to one agent alone.

    python -m bench.evolution --population 8 --steps 65536

Environment steps per second of processor time and of the clock: of one run on its own
(``ppo.make_train``, jitted), and of a generation of that many members. On a machine
that others use, the processor's time is the one to compare.
"""

import argparse
import json
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from learned_opt_rl.training.evolution import EvolutionConfig, preset
from learned_opt_rl.training.evolution.fitness import (
    Evaluator,
    make_run,
    member_keys,
    tasks,
)


def _speed(run: Callable[[], Any], steps: int, repeats: int) -> dict[str, float]:
    """Steps per second of the best of so many repeats, after one to warm up."""
    jax.block_until_ready(run())
    clock, processor = [], []
    for _ in range(repeats):
        started = time.perf_counter(), time.process_time()
        jax.block_until_ready(run())
        clock.append(time.perf_counter() - started[0])
        processor.append(time.process_time() - started[1])
    return {"clock": steps / min(clock), "processor": steps / min(processor)}


def measure(
    config: EvolutionConfig, devices: int, block: int | None, repeats: int
) -> dict[str, Any]:
    """Both speeds, and their ratio per device."""
    steps = config.steps_per_member(config.horizon(0))
    strategy, learned = config.es, config.learned
    start = learned.start(config.start, jax.random.key(0))
    state = strategy.init(start, jax.random.key(1))
    alone = jax.jit(make_run(learned, tasks(config, config.horizon(0))))
    key = jax.random.key(2)
    one = _speed(lambda: alone(state.mean, key), steps, repeats)
    evaluator = Evaluator(config, config.horizon(0), devices=devices, block=block)
    vectors = jnp.repeat(strategy.ask(state), config.rollouts, axis=0)
    keys = member_keys(config, state).reshape(-1)
    several = _speed(
        lambda: evaluator.returns(vectors, keys), steps * len(keys), repeats
    )
    return {
        "device": jax.devices()[0].device_kind,
        "population": config.population,
        "block": evaluator.block,
        "devices": devices,
        "alone": one,
        "generation": several,
        "relative": {name: several[name] / one[name] for name in one},
    }


def main() -> None:
    """Measures and prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="open-breakout")
    parser.add_argument("--population", type=int, default=8)
    parser.add_argument("--steps", type=int, default=65_536)
    parser.add_argument("--devices", type=int, default=1)
    parser.add_argument("--block", type=int)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    config = preset(
        options.preset,
        population=options.population,
        horizons=((0, options.steps),),
        validation_seeds=1,
    )
    found = measure(config, options.devices, options.block, options.repeats)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
