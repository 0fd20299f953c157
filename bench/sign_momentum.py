"""Choose the step size of annealed sign-momentum by its returns on MinAtar.

    python -m bench.sign_momentum --out results/sign_momentum_sweep.jsonl

The rule moves every parameter by ``c * (1 - t_p)`` against the sign of its momentum of
decay 0.9: Lion with equal betas and a linearly annealed rate. The best c is the teacher
of ``distilled/sign_momentum``. Repeat the command to resume it.
"""

import argparse
import pathlib
from collections.abc import Iterable, Sequence

import numpy as np

from learned_opt_rl import envs
from learned_opt_rl.agents.config import PPOConfig
from learned_opt_rl.evaluation.runs import run
from learned_opt_rl.evaluation.runs.row import Row, append_rows, read_rows
from learned_opt_rl.training.distillation import teacher

# Lion's tuned rates on MinAtar are 3e-4 and 8e-4; 5e-4 is their geometric mean.
CANDIDATES = (3e-4, 5e-4, 8e-4)


def main(argv: Sequence[str] | None = None) -> None:
    """Run what the file does not hold yet, and print each candidate's score."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args(argv)
    config = PPOConfig(total_timesteps=options.steps)
    for environment in envs.suite("minatar"):
        for rule in ("lion", *(f"sign_momentum:{c:g}" for c in CANDIDATES)):
            done = {
                (row.environment, row.rule, row.seed) for row in read_rows(options.out)
            }
            seeds = range(options.seeds)
            left = [s for s in seeds if (environment, rule, s) not in done]
            if not left:
                continue
            made = rule
            if rule != "lion":
                made = teacher(rule).rule(config, environment).optimizer
            rows = run.run(made, environment, config, left, name=rule)
            append_rows(options.out, rows)
    for rule, score in scores(read_rows(options.out)).items():
        print(f"{rule}: {score:.3f} of tuned Lion, mean over games")


def scores(rows: Iterable[Row]) -> dict[str, float]:
    """Return each rule's mean return as a fraction of Lion's, averaged over games."""
    returns: dict[str, dict[str, list[float]]] = {}
    for row in rows:
        games = returns.setdefault(row.rule, {})
        games.setdefault(row.environment, []).append(row.final_return)
    means = {
        rule: {game: float(np.mean(values)) for game, values in games.items()}
        for rule, games in returns.items()
    }
    lion = means.pop("lion")
    return {
        rule: float(np.mean([games[game] / lion[game] for game in games]))
        for rule, games in means.items()
    }


if __name__ == "__main__":
    main()
