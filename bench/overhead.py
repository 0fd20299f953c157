"""Compare OPEN's cost with Adam's: per update, to compile, in memory, end to end.

Run as ``make bench``, or::

    python -m bench.overhead --out results/overhead.json

Absolute times depend on the machine and on what else it does; the ratios come from
interleaved repetitions in one process. Weights are random: they do not change the cost.
"""

import argparse
import pathlib
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import optax

from learned_opt_rl import Horizon, envs, open_rl
from learned_opt_rl.agents.ppo import PPOConfig, make_train
from learned_opt_rl.evaluation.runs.rules import Rule, resolve
from learned_opt_rl.rundir.atomic import write_json
from learned_opt_rl.rundir.provenance import provenance

Optimizers = dict[str, optax.GradientTransformationExtraArgs]
Clock = Callable[[], float]

# On a busy machine, seconds of the processor vary less than those on the wall.
CLOCKS: dict[str, Clock] = {"wall": time.perf_counter, "processor": time.process_time}

ARCHITECTURES = {
    "OPEN 8/16": open_rl.Architecture(carry=8, width=16),
    "OPEN 16/32": open_rl.Architecture(carry=16, width=32),
    "OPEN ff 16": open_rl.Architecture(carry=None, width=16),
    "OPEN ff 32": open_rl.Architecture(carry=None, width=32),
}
NETWORKS = {
    "2x64 MLP": [(400, 64), (64, 64), (64, 3)],
    "small CNN": [(3, 3, 4, 16), (1024, 128), (128, 3)],
    "1M MLP": [(400, 580), (580, 580), (580, 3)],
}


def main(argv: Sequence[str] | None = None) -> None:
    """Run every case, print tables, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, default="bench/overhead.json")
    parser.add_argument("--agents", type=int, nargs="*", default=[1, 8])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument(
        "--steps", type=float, default=2e5, help="environment steps per PPO run"
    )
    parser.add_argument("--rules", nargs="*", default=[], help="more rules for PPO")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="clock for PPO timings"
    )
    parser.add_argument("--networks", nargs="*", default=list(NETWORKS))
    arguments = parser.parse_args(argv)
    updates, ppo = [], []
    asked = {key: str(value) for key, value in vars(arguments).items()}
    report: dict[str, Any] = {**provenance(), "asked": asked}
    cases = [(n, a) for a in arguments.agents for n in ("PPO", *arguments.networks)]
    for network, agents in cases:
        if network == "PPO":
            ppo += measure_ppo(
                agents,
                int(arguments.steps),
                arguments.repetitions,
                rules=arguments.rules,
                clock=CLOCKS[arguments.clock],
            )
        else:
            updates += measure_updates(network, agents, arguments.repetitions)
        # After each case, so that a run cut short leaves what it measured.
        report |= {"updates": updates, "ppo": ppo}
        write_json(arguments.out, report, indent=1)
    print_table("One optimizer update", updates)
    print_table("PPO on Breakout-MinAtar, end to end", ppo)


def measure_updates(network: str, agents: int, repetitions: int) -> list[dict]:
    """Measure microseconds per update of all agents, compile seconds, bytes of state.

    Args:
        network: A name in ``NETWORKS``; actor and critic each have these layers.
        agents: Agents updated side by side by ``vmap``.
        repetitions: Interleaved timings per optimizer, of which the median counts.

    Returns:
        One row per optimizer.
    """
    shapes = NETWORKS[network]
    keys = jax.random.split(jax.random.key(0), agents)
    params = jax.vmap(lambda key: init_network(key, shapes))(keys)
    count = sum(leaf.size for leaf in jax.tree.leaves(params)) // agents
    # About 50 million parameter updates per timing, but at least two steps.
    length = max(2, 50_000_000 // (count * agents) // 8)
    runs, rows = {}, {}
    for name, tx in optimizers(Horizon(39_040, 4, 8)).items():
        state = jax.vmap(tx.init)(params)
        program, seconds = compiled(update_loop(tx, length), params, state)
        runs[name] = lambda p=program, s=state: p(params, s)
        held = sum(leaf.nbytes for leaf in jax.tree.leaves(state))
        rows[name] = {
            "network": network,
            "parameters": count,
            "agents": agents,
            "optimizer": name,
            "compile_seconds": round(seconds, 2),
            "state_bytes_per_parameter": round(held / count / agents, 1),
        }
    for name, seconds in interleaved(runs, repetitions).items():
        rows[name]["microseconds"] = round(1e6 * seconds / length, 1)
    return with_ratios(list(rows.values()), "microseconds")


def measure_ppo(
    agents: int,
    steps: int,
    repetitions: int,
    *,
    rules: Sequence[str] = (),
    clock: Clock = time.perf_counter,
) -> list[dict]:
    """Measure whole PPO runs: environment, gradients and optimizer.

    Args:
        agents: Agents trained side by side by ``vmap``.
        steps: Environment steps per agent.
        repetitions: Interleaved timings per optimizer, of which the median counts.
        rules: Further rules, drifts among them, by the names of ``compare``.
        clock: Returns seconds, of the wall clock or of the processor.

    Returns:
        One row per optimizer.

    Raises:
        UnknownArtifactError: If a rule is unknown.
        ValueError: If a rule does not run in PPO, such as LPG's.
    """
    config = PPOConfig(total_timesteps=steps)
    env = envs.make("Breakout-MinAtar")
    keys = jax.random.split(jax.random.key(0), agents)
    runs, rows = {}, {}
    cases: dict[str, Rule] = {
        name: Rule(lambda _, tx=tx: tx)
        for name, tx in optimizers(config.horizon()).items()
    }
    cases |= {name: resolve(name, config, env.name) for name in rules}
    for name, rule in cases.items():
        train = make_train(config, env, rule.optimizer(keys[0]), drift=rule.drift)
        program, seconds = compiled(jax.vmap(train), keys)
        runs[name] = lambda p=program: p(keys)
        rows[name] = {
            "agents": agents,
            "optimizer": name,
            "compile_seconds": round(seconds, 2),
        }
    played = config.num_rollouts * config.batch_size * agents
    for name, seconds in interleaved(runs, repetitions, clock).items():
        rows[name] |= {
            "seconds": round(seconds, 2),
            "steps_per_second": round(played / seconds),
        }
    return with_ratios(list(rows.values()), "seconds")


def optimizers(horizon: Horizon) -> Optimizers:
    """Return Adam and every OPEN architecture, with random weights."""
    key = jax.random.key(0)
    learned = {
        name: open_rl.optimizer(open_rl.init(key, architecture), horizon)
        for name, architecture in ARCHITECTURES.items()
    }
    return {"Adam": optax.with_extra_args_support(optax.adam(1e-3)), **learned}


def init_network(key: jax.Array, shapes: Sequence[tuple[int, ...]]) -> Any:
    """Draw small random parameters of an actor and a critic with these kernels."""
    keys = iter(jax.random.split(key, 2 * len(shapes)))
    return {
        network: {
            f"Layer_{i}": {
                "kernel": 0.1 * jax.random.normal(next(keys), shape),
                "bias": jnp.zeros(shape[-1:]),
            }
            for i, shape in enumerate(shapes)
        }
        for network in ("actor", "critic")
    }


def update_loop(
    tx: optax.GradientTransformationExtraArgs, length: int
) -> Callable[[Any, Any], Any]:
    """Take ``length`` updates of every agent on gradients of a quadratic."""

    def one(params: Any, state: Any) -> Any:
        grads = jax.tree.map(lambda p: 0.01 * p, params)
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    def loop(params: Any, state: Any) -> Any:
        step = jax.vmap(one)
        return jax.lax.scan(
            lambda carry, _: (step(*carry), None), (params, state), None, length
        )[0]

    return loop


def compiled(function: Callable, *arguments: Any) -> tuple[Callable, float]:
    """Return a compiled program, and the seconds to trace and compile it."""
    start = time.perf_counter()
    program = jax.jit(function).lower(*arguments).compile()
    return program, time.perf_counter() - start


def interleaved(
    runs: dict[str, Callable], repetitions: int, clock: Clock = time.perf_counter
) -> dict[str, float]:
    """Return median seconds of programs run in turn; noise affects them equally."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for run in runs.values():
        jax.block_until_ready(run())
    for _ in range(repetitions):
        for name, run in runs.items():
            start = clock()
            jax.block_until_ready(run())
            seconds[name].append(clock() - start)
    return {name: statistics.median(times) for name, times in seconds.items()}


def with_ratios(rows: list[dict], field: str, name: str = "times_adam") -> list[dict]:
    """Add to each row its figure relative to that of the first row (Adam's)."""
    return [{**row, name: round(row[field] / rows[0][field], 2)} for row in rows]


def print_table(title: str, rows: list[dict]) -> None:
    """Print rows as a Markdown table."""
    if not rows:
        return
    print(f"\n{title}\n")
    print("| " + " | ".join(rows[0]) + " |")
    print("|" + " --- |" * len(rows[0]))
    for row in rows:
        print("| " + " | ".join(str(value) for value in row.values()) + " |")


if __name__ == "__main__":
    main()
