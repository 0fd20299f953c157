"""Rows as `evaluation.runs` makes them, without a run."""

import numpy as np

from learned_opt_rl.evaluation.runs.row import Row


def values(rule="adam", environment="Breakout-MinAtar", seed=0, final=1.0, **other):
    """A row as a line of a file has it."""
    return {
        "rule": rule,
        "environment": environment,
        "seed": seed,
        "total_timesteps": 1000,
        "final_return": final,
        "diverged": False,
        "curve": [0.0, 0.5, final],
        "steps_per_second": 100.0,
        "compile_seconds": 3.0,
        "wall_seconds": 8.0,
        "revision": "abc",
        "config": {"hidden": [64, 64]},
        **other,
    }


def row(*arguments, **other):
    return Row.from_json(values(*arguments, **other))


def changed(row, **other):
    """The row with other values, as if it had been recorded so."""
    return Row.from_json(row.to_json() | other)


def table(returns, **other):
    """A row for each return in ``{rule: {environment: [by seed]}}``."""
    return [
        row(rule, name, seed, final, **other)
        for rule, games in returns.items()
        for name, finals in games.items()
        for seed, final in enumerate(finals)
    ]


def random_table(rules=("adam", "lion"), games=("ant", "hopper"), seeds=5, **other):
    rng = np.random.default_rng(0)
    returns = {r: {g: rng.uniform(1, 9, seeds).tolist() for g in games} for r in rules}
    return table(returns, **other)
