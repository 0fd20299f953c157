"""Sweep Adam's settings for PPO, as OPEN's authors did, where no paper gives them.

Deep Sea is the case: `rules/tuned.json` takes the winner of::

    python -m bench.tune_adam --out results/tuned_adam_deep_sea.json

The learning rate anneals linearly to 0, as in every published PPO baseline.
"""

import argparse
import itertools
import json
import pathlib
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl import envs
from learned_opt_rl.agents import make_train, preset
from learned_opt_rl.rundir.atomic import write_json
from learned_opt_rl.rundir.provenance import provenance

# The ranges of Goldie et al. 2024, table 6, widened upwards to MinAtar's of table 4.
LEARNING_RATES = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2)
BETAS = ((0.9, 0.999), (0.9, 0.99), (0.99, 0.99))
# In size 16 no setting finds the reward, so larger sizes would not rank them.
SIZES = (4, 8, 12, 16)
EPISODES = 10_000
"""Length of a run, as in bsuite's own Deep Sea experiment."""


def main(argv: Sequence[str] | None = None) -> None:
    """Run the sweep, print its table, write the JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seeds", type=int, default=4, help="4 in the paper")
    parser.add_argument("--out", type=pathlib.Path)
    arguments = parser.parse_args(argv)
    rows = [row for size in SIZES for row in sweep(size, arguments.seeds)]
    ranking = ranked(rows)
    for entry in ranking:
        print(json.dumps(entry))
    if arguments.out:
        report = {**provenance("gymnax"), "ranking": ranking, "rows": rows}
        write_json(arguments.out, report, indent=1)


def sweep(size: int, seeds: int) -> list[dict[str, Any]]:
    """Return the final returns of every setting in Deep Sea of one size."""
    name = f"DeepSea-bsuite/{size}"
    config, env = preset(name, EPISODES * size), envs.make(name)

    @jax.jit
    def final_return(key: jax.Array, rate: Any, b1: Any, b2: Any) -> jax.Array:
        count = config.num_updates
        schedule = lambda step: rate * (1.0 - step / count)  # noqa: E731
        return make_train(config, env, optax.adam(schedule, b1, b2))(key).final_return

    rows = []
    for rate, (b1, b2) in itertools.product(LEARNING_RATES, BETAS):
        returns = [
            float(final_return(jax.random.key(seed), *map(jnp.float32, (rate, b1, b2))))
            for seed in range(seeds)
        ]
        found = {"environment": name, "learning_rate": rate, "b1": b1, "b2": b2}
        rows.append({**found, "final_returns": returns})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def ranked(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Sort settings by their mean final return over sizes and seeds, the best first."""
    groups: dict[tuple[float, ...], list[float]] = {}
    for row in rows:
        setting = row["learning_rate"], row["b1"], row["b2"]
        groups.setdefault(setting, []).extend(row["final_returns"])
    entries = [
        {"learning_rate": rate, "b1": b1, "b2": b2, "mean": float(np.mean(returns))}
        for (rate, b1, b2), returns in groups.items()
    ]
    return sorted(entries, key=lambda entry: -entry["mean"])


if __name__ == "__main__":
    main()
