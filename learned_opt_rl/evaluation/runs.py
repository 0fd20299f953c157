"""Runs of update rules: all seeds of one in one compiled program.

From a shell, resumably (what a file already holds is not run again)::

    python -m learned_opt_rl.evaluation.runs --rules minatar adam \
        --environment Breakout-MinAtar --steps 1e6 --seeds 3 --out results/x.jsonl
"""

import argparse
import importlib.metadata
import json
import math
import os
import pathlib
import platform
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from learned_opt_rl import envs
from learned_opt_rl._version import __version__
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.agents.ppo import Runner, make_loop
from learned_opt_rl.evaluation import results, tables
from learned_opt_rl.evaluation.optimizers import OptimizerFactory, Rule, resolve
from learned_opt_rl.evaluation.progress import Progress
from learned_opt_rl.evaluation.results import Row

OnRollout = Callable[[int, float], None]
"""``(rollouts done, mean return over the agents)``."""


def run(
    rule: str | OptimizerFactory | Rule,
    environment: str | envs.Environment,
    config: PPOConfig,
    seeds: Sequence[int],
    *,
    name: str | None = None,
    on_rollout: OnRollout | None = None,
) -> list[Row]:
    """Trains an agent per seed with one rule, all seeds at once.

    The same seed gives every rule the same initial agent and environments, so that
    rules can be compared seed by seed.

    Args:
        rule: A name for `optimizers.resolve`, a function ``key -> optimiser``, or an
            `optimizers.Rule`.
        environment: A name for `envs.make`, or an environment.
        config: The run.
        seeds: One agent each.
        name: What to file a rule given as a function under.
        on_rollout: Called about a hundred times, and after the last rollout.

    Returns:
        One JSON-able row per seed. ``compile_seconds``, ``wall_seconds`` (without
        compilation) and ``steps_per_second`` are of all ``num_agents`` seeds together;
        ``diverged`` says that parameters ended up NaN or infinite.

    Raises:
        ValueError: If a name is unknown, there are no seeds, or a rule given as a
            function has no name.

    Example:
        >>> config = PPOConfig(1024, num_envs=4, num_steps=32, minibatches=4)
        >>> (row,) = run("adam:1e-3", "CartPole-v1", config, seeds=[0])
        >>> row["rule"], row["seed"], len(row["curve"])
        ('adam:1e-3', 0, 8)
    """
    if not seeds:
        raise ValueError(f"seeds={seeds!r} is empty; give at least one, as in [0]")
    env = envs.make(environment) if isinstance(environment, str) else environment
    chosen = resolve(rule, config, env.name) if isinstance(rule, str) else rule
    chosen = chosen if isinstance(chosen, Rule) else Rule(chosen)
    name = name or (rule if isinstance(rule, str) else None)
    if name is None:
        raise ValueError("name=None: a rule given as a function needs a name")

    params, curves, shared = _execute(config, env, chosen, seeds, on_rollout)
    shared |= {**provenance(), "config": asdict(config)}
    return [
        {
            "rule": name,
            "environment": env.name,
            "seed": int(seed),
            "total_timesteps": config.total_timesteps,
            "final_return": _finite(curves[i, -1]),
            "diverged": not all(
                np.isfinite(leaf[i]).all() for leaf in jax.tree.leaves(params)
            ),
            "curve": [_finite(value) for value in curves[i]],
            **shared,
        }
        for i, seed in enumerate(seeds)
    ]


def _execute(
    config: PPOConfig,
    env: envs.Environment,
    rule: Rule,
    seeds: Sequence[int],
    on_rollout: OnRollout | None,
) -> tuple[Any, np.ndarray, Row]:
    """Trains all seeds together, timing compilation and execution apart."""
    started = time.perf_counter()
    keys = jax.vmap(jax.random.key)(jnp.asarray(seeds))
    start, advance = _compile(config, env, rule, keys)
    compiled = time.perf_counter()
    runner, curves = start(keys)
    every = max(1, config.num_rollouts // 100) if on_rollout else config.num_rollouts
    for done in range(0, config.num_rollouts, every):
        until = min(done + every, config.num_rollouts)
        runner, curves = advance(runner, curves, done, until)
        if on_rollout:
            on_rollout(until, float(curves[:, until - 1].mean()))
    jax.block_until_ready(curves)
    wall_seconds = time.perf_counter() - compiled
    steps = len(seeds) * config.num_rollouts * config.batch_size
    return (
        jax.device_get(runner.params),
        np.asarray(curves),
        {
            "num_agents": len(seeds),
            "compile_seconds": compiled - started,
            "wall_seconds": wall_seconds,
            "steps_per_second": steps / wall_seconds,
        },
    )


def _compile(
    config: PPOConfig, env: envs.Environment, rule: Rule, keys: jax.Array
) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The run as two programs, so that the host hears of it and Ctrl-C can stop it.

    A callback from within one program could not be interrupted, and callbacks are
    known to hang on CPU (jax issue 25861).
    """

    def optimizer_and_key(key: jax.Array) -> tuple[Any, jax.Array]:
        rule_key, train_key = jax.random.split(key)
        return rule.optimizer(rule_key), train_key

    def start(key: jax.Array) -> tuple[Runner, jax.Array]:
        optimizer, train_key = optimizer_and_key(key)
        runner = make_loop(config, env, optimizer, drift=rule.drift)[0](train_key)
        return runner, jnp.zeros(config.num_rollouts)

    def advance(
        key: jax.Array, runner: Runner, curve: jax.Array, done: int, until: int
    ) -> tuple[Runner, jax.Array]:
        optimizer = optimizer_and_key(key)[0]
        iterate = make_loop(config, env, optimizer, drift=rule.drift)[1]

        def step(i: jax.Array, carry: tuple[Runner, jax.Array]) -> Any:
            runner, curve = carry
            runner = iterate(runner)
            return runner, curve.at[i].set(runner.mean_return)

        return jax.lax.fori_loop(done, until, step, (runner, curve))

    first = jax.jit(jax.vmap(start)).lower(keys).compile()
    axes = (0, 0, 0, None, None)
    rest = jax.jit(jax.vmap(advance, axes)).lower(
        keys, *jax.eval_shape(jax.vmap(start), keys), 0, 1
    )
    rest = rest.compile()
    return first, lambda *arguments: rest(keys, *arguments)


def provenance() -> Row:
    """What a number depends on besides the configuration.

    Returns:
        Versions of the libraries, the git revision of this checkout (None outside
        one; ``-dirty`` if files differ from it), the device, and the processor with
        the number of cores this process may use.

    Example:
        >>> sorted(provenance())
        ['cpu', 'device', 'revision', 'versions']
    """
    versions = {name: _version(name) for name in ("jax", "optax", "gymnax")}
    return {
        "versions": {"learned_opt_rl": __version__, **versions},
        "revision": _revision(),
        "device": jax.devices()[0].device_kind,
        "cpu": f"{_cpu_model()}, {_num_cores()} cores",
    }


def default_config(environment: str, total_timesteps: float) -> PPOConfig:
    """The published hyper-parameters for an environment.

    Args:
        environment: Its name; MinAtar's column serves all but CartPole.
        total_timesteps: Environment steps.

    Returns:
        The configuration.

    Example:
        >>> default_config("CartPole-v1", 5e5).activation
        'tanh'
    """
    if environment == "CartPole-v1":
        return PPOConfig(
            int(total_timesteps), num_envs=4, minibatches=4, activation="tanh"
        )
    return PPOConfig(int(total_timesteps))


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs rules from the command line; see the module's description."""
    options = _parser().parse_args(arguments)
    config = default_config(options.environment, options.steps)
    # Every name is checked before the first run, which may take hours.
    envs.make(options.environment)
    for rule in options.rules:
        resolve(rule, config, options.environment)
    for rule in options.rules:
        seeds = _missing(options, rule, config)
        if not seeds:
            continue
        label = f"{rule} ({options.environment})"
        with Progress(label, config, len(seeds)) as progress:
            rows = run(rule, options.environment, config, seeds, on_rollout=progress)
        results.append(options.out, rows)
    wanted = [
        row
        for row in results.read(options.out)
        if row["environment"] == options.environment
        and row["total_timesteps"] == config.total_timesteps
    ]
    print(tables.plain(wanted))


def _missing(options: argparse.Namespace, rule: str, config: PPOConfig) -> list[int]:
    """The seeds that the results file does not hold yet, for this configuration."""
    wanted = (rule, options.environment, json.loads(json.dumps(asdict(config))))
    done = {
        row["seed"]
        for row in results.read(options.out)
        if (row["rule"], row["environment"], row["config"]) == wanted
    }
    first = options.first_seed
    return [seed for seed in range(first, first + options.seeds) if seed not in done]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m learned_opt_rl.evaluation.runs",
        description="Train agents with update rules and add the results to a file.",
    )
    add = parser.add_argument
    add(
        "--rules",
        nargs="+",
        required=True,
        metavar="RULE",
        help="adam (tuned), adam:1e-3 (fixed rate), lion, rmsprop, sgd, ARTIFACT",
    )
    add("--environment", required=True, help="a gymnax name, as Breakout-MinAtar")
    add("--steps", type=float, default=1e7, help="environment steps (default 1e7)")
    add("--seeds", type=int, default=1, help="how many seeds (default 1)")
    add("--first-seed", type=int, default=0, help="the first of them (default 0)")
    add("--out", type=pathlib.Path, required=True, help="JSON Lines file to add to")
    return parser


def _finite(value: Any) -> float | None:
    """JSON has no NaN; a missing number says as much."""
    return float(value) if math.isfinite(value) else None


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    """The processor's name where the system tells it, else its architecture."""
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2] for line in lines if line.startswith("model name")]
    return names[0].strip() if names else platform.machine()


def _num_cores() -> int:
    """The cores this process may use, where the system tells; else all there are."""
    affinity = getattr(os, "sched_getaffinity", None)
    return len(affinity(0)) if affinity else os.cpu_count() or 1


def _revision() -> str | None:
    git = shutil.which("git")
    if git is None:
        return None
    described = subprocess.run(
        [git, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        cwd=pathlib.Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return described.stdout.strip() or None


if __name__ == "__main__":
    main()
