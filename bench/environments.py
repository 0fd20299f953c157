"""Measure random play in each environment, and how long it takes to compile.

All environments of all suites, on whatever device JAX uses::

    python -m bench.environments --out results/environments.json

or some of them::

    python -m bench.environments --names Breakout-MinAtar ant --num-envs 64
"""

import argparse
import json
import pathlib
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from bench.overhead import compiled, print_table
from learned_opt_rl import envs
from learned_opt_rl.errors import MissingExtraError
from learned_opt_rl.rundir.atomic import write_json
from learned_opt_rl.rundir.provenance import provenance


def main(argv: Sequence[str] | None = None) -> None:
    """Measure environment after environment, print a table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--names", nargs="+", default=of_all_suites())
    parser.add_argument("--num-envs", type=int, default=64)
    parser.add_argument("--seconds", type=float, default=2.0, help="of play, about")
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args(argv)
    rows = []
    for name in arguments.names:
        try:
            rows.append(measure(name, arguments.num_envs, arguments.seconds))
        except MissingExtraError as error:
            print(f"left out: {name}: {error}", flush=True)
            continue
        print(json.dumps(rows[-1]), flush=True)
        if arguments.out is not None:
            # After each, so that a run cut short leaves what it measured.
            asked = {key: str(value) for key, value in vars(arguments).items()}
            report = {**provenance(), "asked": asked, "environments": rows}
            write_json(arguments.out, report, indent=1)
    hidden = {"details"}
    print_table(
        f"Random play, {arguments.num_envs} environments",
        [{k: v for k, v in row.items() if k not in hidden} for row in rows],
    )


def of_all_suites() -> list[str]:
    """Return the environments of all suites, each once."""
    return list(
        dict.fromkeys(name for suite in envs.SUITES for name in envs.suite(suite))
    )


def measure(name: str, num_envs: int, seconds: float) -> dict[str, Any]:
    """Play one environment with random actions.

    Args:
        name: For `envs.make`.
        num_envs: Environments stepped together.
        seconds: Least time to play for; the number of steps grows until it is reached.

    Returns:
        Its row: seconds to trace and compile reset and play, environment steps per
        second of all environments together, and its sizes.
    """
    env = envs.make(name)
    keys = jax.random.split(jax.random.key(0))
    reset, compile_reset = compiled(lambda key: env.reset_many(key, num_envs), keys[0])
    start = reset(keys[0])

    def play(start: Any, key: jax.Array, steps: jax.Array) -> Any:
        def step(i: jax.Array, carry: Any) -> Any:
            _, state, reward = carry
            action_key, key_i = jax.random.split(jax.random.fold_in(key, i))
            actions = env.random_actions(action_key, num_envs)
            stepped = env.step_many(key_i, state, actions)
            return stepped.observation, stepped.state, reward + stepped.reward

        carry = (*start, jnp.zeros(num_envs))
        return jax.lax.fori_loop(0, steps, step, carry)

    play_many, compile_play = compiled(play, start, keys[1], 1)
    steps, elapsed = 1, 0.0
    while elapsed < seconds:
        # At most tenfold, since the first, short timings say little.
        growth = 1.2 * seconds / max(elapsed, 1e-9)
        steps = max(steps + 1, int(steps * min(10.0, growth)))
        began = time.perf_counter()
        jax.block_until_ready(play_many(start, keys[1], steps))
        elapsed = time.perf_counter() - began
    return {
        "environment": name,
        "observation": "x".join(map(str, env.observation_shape)),
        "actions": env.num_actions,
        "continuous": env.continuous,
        "num_envs": num_envs,
        "compile_seconds": round(compile_reset + compile_play, 1),
        "steps_per_second": float(f"{steps * num_envs / elapsed:.3g}"),
        "details": dict(env.details),
    }


if __name__ == "__main__":
    main()
