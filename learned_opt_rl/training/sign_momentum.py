"""Annealed sign-momentum: the closed form the first bundled artifact is distilled from.

Every parameter moves by ``c * (1 - t_p)`` against the sign of its momentum of decay
0.9. That is Lion with equal betas and a linearly annealed rate, and one constant for
all games. Which constant, the sweep tells::

    python -m learned_opt_rl.training.sign_momentum --out results/sweep.jsonl
"""

import argparse
import pathlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.evaluation.report import tables
from learned_opt_rl.evaluation.report.measures import measure
from learned_opt_rl.evaluation.runs import run
from learned_opt_rl.evaluation.runs.row import Row, append_rows
from learned_opt_rl.features import Horizon, proportions
from learned_opt_rl.rundir import jsonl

DECAY = 0.9
# Lion's tuned rates on MinAtar are 3e-4 and 8e-4; between them, their geometric mean.
CANDIDATES = (3e-4, 5e-4, 8e-4)
GAMES = ("Asterix", "Breakout", "Freeway", "SpaceInvaders")


class AnnealedSignMomentumState(NamedTuple):
    """State: int32 scalar step count, momentum of the params' shapes and dtypes."""

    steps: jax.Array
    momentum: Any


def annealed_sign_momentum(
    step_size: float, horizon: Horizon
) -> optax.GradientTransformation:
    """The update ``-c * (1 - t_p) * sgn(m)`` with ``m <- 0.9 m + 0.1 g``.

    Args:
        step_size: The constant c, in units of the parameters.
        horizon: Length of the run, which gives ``t_p``.

    Returns:
        An optax transformation; its update adds to the parameters.

    References:
        Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms" (Lion).

    Example:
        >>> import jax.numpy as jnp
        >>> tx = annealed_sign_momentum(0.5, Horizon(10))
        >>> update, _ = tx.update(jnp.array([2.0, -3.0]), tx.init(jnp.zeros(2)))
        >>> update.tolist()
        [-0.5, 0.5]
    """

    def init_fn(params: optax.Params) -> AnnealedSignMomentumState:
        zeros = jax.tree.map(jnp.zeros_like, params)
        return AnnealedSignMomentumState(jnp.zeros((), jnp.int32), zeros)

    def update_fn(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        del params
        t_p, _ = proportions(state.steps, horizon)
        momentum = jax.tree.map(
            lambda m, g: DECAY * m + (1 - DECAY) * g, state.momentum, updates
        )
        rate = step_size * (1 - t_p)
        moved = jax.tree.map(lambda m: -rate * jnp.sign(m), momentum)
        return moved, AnnealedSignMomentumState(state.steps + 1, momentum)

    return optax.GradientTransformation(init_fn, update_fn)


def sweep(
    path: pathlib.Path, steps: float, seeds: Sequence[int], games: Sequence[str] = GAMES
) -> None:
    """Train every candidate constant, and tuned Lion, on every game.

    Args:
        path: JSONL file of results; runs it already holds are not repeated.
        steps: Environment steps per run.
        seeds: Seeds, the same for every candidate.
        games: MinAtar games by short name.
    """
    config = PPOConfig(total_timesteps=int(steps))
    for game in games:
        environment = f"{game}-MinAtar"
        for rule in ("lion", *(f"sign_momentum:{c:g}" for c in CANDIDATES)):
            done = {(r["environment"], r["rule"], r["seed"]) for r in jsonl.read(path)}
            left = [s for s in seeds if (environment, rule, s) not in done]
            if not left:
                continue
            name, _, constant = rule.partition(":")
            if name == "lion":
                rows = run.run(rule, environment, config, left)
            else:
                tx = annealed_sign_momentum(float(constant), config.horizon())
                rows = run.run(
                    lambda key, tx=tx: tx, environment, config, left, name=rule
                )
            append_rows(path, rows)


def best_constant(rows: Sequence[jsonl.Row]) -> tuple[float, dict[str, float]]:
    """The constant with the best return relative to tuned Lion, averaged over games.

    Args:
        rows: Rows of ``sweep``.

    Returns:
        The constant, and each candidate's score (1 is tuned Lion), by rule name.

    Example:
        >>> row = dict(environment="g", seed=0)
        >>> best_constant(
        ...     [
        ...         dict(row, rule="lion", final_return=2.0),
        ...         dict(row, rule="sign_momentum:0.0003", final_return=3.0),
        ...     ]
        ... )
        (0.0003, {'sign_momentum:0.0003': 1.5})
    """
    grouped = {
        key: [row["final_return"] for row in group]
        for key, group in jsonl.grouped(rows).items()
    }
    scores: dict[str, list[float]] = {}
    for (rule, environment), returns in grouped.items():
        if rule != "lion":
            lion = np.mean(grouped["lion", environment])
            scores.setdefault(rule, []).append(float(np.mean(returns) / lion))
    means = {rule: float(np.mean(score)) for rule, score in scores.items()}
    best = max(means, key=lambda rule: means[rule])
    return float(best.partition(":")[2]), means


def main(argv: Sequence[str] | None = None) -> None:
    """Run the sweep and print its table and its winner."""
    parser = argparse.ArgumentParser(description="Choose c of annealed sign-momentum.")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=float, default=1e6)
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parser.parse_args(argv)
    sweep(arguments.out, arguments.steps, range(arguments.seeds))
    rows = jsonl.read(arguments.out)
    measures = measure(map(Row.from_json, rows))
    print(tables.render(tables.results(measures), "plain"))
    constant, scores = best_constant(rows)
    for rule, score in scores.items():
        print(f"{rule}: {score:.3f} of tuned Lion, mean over games")
    print(f"best: c = {constant:g}")


if __name__ == "__main__":
    main()
