"""Measure compilation, memory, start-up and bfloat16 momenta.

    python -m bench.costs --out results/costs.json

It measures processor seconds to trace and compile one update and a whole PPO run, bytes
of state per parameter, the seconds of imports and of two commands, and what momenta in
bfloat16 would change. Whole runs are compiled for agents that have the leaves or the
parameters of the update's case; nothing is trained, except for the momenta.
"""

import argparse
import json
import pathlib
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from bench.overhead import NETWORKS, init_network, print_table
from learned_opt_rl import envs, pretrained
from learned_opt_rl.agents.ppo import PPOConfig, make_train
from learned_opt_rl.evaluation.runs.rules import resolve
from learned_opt_rl.rundir.atomic import write_json
from learned_opt_rl.rundir.provenance import provenance

RULES = (
    "adam:1e-3",
    "minatar",
    "no_features/minatar",
    "optim4rl/breakout",
)
# Actor and critic have a kernel and a bias for each layer.
CASES: dict[str, dict[str, Any]] = {
    "1e7_parameters": {"hidden": (2048, 2048)},
    "8_agents": {},
    "500_leaves": {"hidden": (8,) * 124},
}
STARTS = {
    "import jax, optax": ["-c", "import jax, optax"],
    "import open_rl": ["-c", "from learned_opt_rl import open_rl; open_rl.optimizer"],
    "learned-opt-rl list": ["-m", "learned_opt_rl", "list"],
    "learned-opt-rl show minatar": ["-m", "learned_opt_rl", "show", "minatar"],
}


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print tables and write JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--rules", nargs="*", default=RULES)
    add("--cases", nargs="*", default=[*CASES])
    add("--repetitions", type=int, default=5, help="of each command")
    add("--seeds", type=int, default=5, help="of the runs with bfloat16 momenta")
    add("--steps", type=float, default=2e5, help="of these runs")
    add("--out", type=pathlib.Path, required=True)
    options = parser.parse_args(argv)
    jax.config.update("jax_enable_compilation_cache", False)
    asked = {key: str(value) for key, value in vars(options).items()}
    report: dict[str, Any] = {**provenance(), "asked": asked}
    if options.out.exists():  # a command that was cut short resumes
        report |= json.loads(options.out.read_text())

    def save(title: str, rows: list[dict[str, Any]]) -> None:
        report[title] = rows
        print_table(title, rows)
        write_json(options.out, report, indent=1)

    if "starts" not in report:
        save("starts", starts(options.repetitions))
    rows = {row["rule"]: row for row in report.get("compilation", ())}
    for case in options.cases:
        for rule in options.rules:
            row = rows.setdefault(rule, {"rule": rule})
            if f"run_{case}" not in row:
                row |= compilation(rule, case)
                save("compilation", list(rows.values()))
    if "bfloat16" not in report:
        save("bfloat16", bfloat16(options.seeds, int(options.steps)))


def starts(repetitions: int) -> list[dict[str, Any]]:
    """Return median processor seconds of commands, which take turns."""
    spent: dict[str, list[float]] = {name: [] for name in STARTS}
    for _ in range(repetitions + 1):  # the first fills the cache of files
        for name, words in STARTS.items():
            before = _of_children()
            subprocess.run([sys.executable, *words], check=True, capture_output=True)
            spent[name].append(_of_children() - before)
    return [
        {"command": name, "seconds": round(statistics.median(each[1:]), 3)}
        for name, each in spent.items()
    ]


def _of_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def compilation(name: str, case: str) -> dict[str, Any]:
    """Return the processor seconds to compile an update and a run with a rule."""
    env = envs.make("Breakout-MinAtar")
    config = PPOConfig(total_timesteps=200_000, **CASES[case])
    rule = resolve(name, config, env.name)
    tx = rule.optimizer(jax.random.key(0))
    run, key = make_train(config, env, tx, drift=rule.drift), jax.random.key(0)
    init, update = tx.init, tx.update
    if case == "8_agents":
        run, key = jax.vmap(run), jax.random.split(key, 8)
        init, update = jax.vmap(init), jax.vmap(update)
    params = jax.eval_shape(run, key).params
    state = jax.eval_shape(init, params)
    row: dict[str, Any] = {}
    program, row[f"update_{case}"] = _compile(update, params, state, params)
    row[f"run_{case}"] = _compile(run, key)[1]
    if case == "1e7_parameters":
        row["temporary_MiB"] = program.memory_analysis().temp_size_in_bytes >> 20
        held = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(state))
        count = sum(x.size for x in jax.tree.leaves(params))
        row["state_bytes_per_parameter"] = round(held / count, 1)
    return row


def _compile(function: Any, *arguments: Any) -> tuple[Any, float]:
    began = time.process_time()
    program = jax.jit(function).lower(*arguments).compile()
    return program, round(time.process_time() - began, 1)


def bfloat16(seeds: int, steps: int) -> list[dict[str, Any]]:
    """Compare `minatar` with a version whose momenta are rounded after each step."""
    config = PPOConfig(total_timesteps=steps)
    env = envs.make("Breakout-MinAtar")
    exact = pretrained("minatar", horizon=config.horizon())
    found = {}
    for name, tx in (("float32", exact), ("bfloat16", _rounded(exact))):
        train = jax.jit(make_train(config, env, tx))
        returns = [float(train(jax.random.key(s)).final_return) for s in range(seeds)]
        found[name] = {"momenta": name, "returns": returns}
        found[name] |= {"mean_return": round(statistics.mean(returns), 2)}
    slow = _after(exact, 1000), _after(_rounded(exact), 1000)
    for i, decay in enumerate((0.1, 0.5, 0.9, 0.99, 0.999, 0.9999)):
        one, other = (m[..., i] for m in slow)
        error = np.linalg.norm(one - other) / np.linalg.norm(one)
        found["float32"][f"error_{decay}"] = 0.0
        found["bfloat16"][f"error_{decay}"] = round(float(error), 3)
    return list(found.values())


def _rounded(tx: Any) -> Any:
    """Return a transformation that stores the momenta of another one in bfloat16."""

    def update(updates: Any, state: Any, params: Any = None, **more: Any) -> Any:
        updates, state = tx.update(updates, state, params, **more)
        own, *others = state
        stored = jax.tree.map(
            lambda m: m.astype(jnp.bfloat16).astype(m.dtype), own.memory["momenta"]
        )
        own = own._replace(memory=own.memory | {"momenta": stored})
        return updates, (own, *others)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def _after(tx: Any, steps: int) -> np.ndarray:
    """Return momenta ``[n, 6]`` after steps with noisy gradients of a constant mean."""
    params = init_network(jax.random.key(0), NETWORKS["2x64 MLP"])
    leaves, structure = jax.tree.flatten(params)

    def step(state: Any, key: jax.Array) -> tuple[Any, None]:
        noise = [jax.random.normal(key, leaf.shape) for leaf in leaves]
        return tx.update(jax.tree.unflatten(structure, noise), state, params)[1], None

    keys = jax.random.split(jax.random.key(1), steps)
    state, _ = jax.jit(lambda s: jax.lax.scan(step, s, keys))(tx.init(params))
    momenta = jax.tree.leaves(state[0].memory["momenta"])
    return np.concatenate([np.asarray(m).reshape(-1, m.shape[-1]) for m in momenta])


if __name__ == "__main__":
    main()
