"""Three optimisers, one agent, one game: what a learned optimiser does in your loop.

Trains PPO on MinAtar's Breakout with the bundled learned optimiser, with Adam as most
people run it, and with Adam tuned and annealed for this very game. Run it with
``make demo``; it takes a few minutes on two cores and leaves a picture of the learning
curves and the raw results in ``demo/``.

The bundled optimiser imitates a formula, evolved signs of momenta, and does not beat a
tuned Adam: its card says what it is. What the authors' released OPEN does with ten
times as many steps is in the README.
"""

import argparse
import pathlib

from learned_opt_rl.agents import PPOConfig
from learned_opt_rl.evaluation.pictures import curves
from learned_opt_rl.evaluation.report import tables
from learned_opt_rl.evaluation.runs.run import run
from learned_opt_rl.rundir import jsonl
from learned_opt_rl.rundir.progress import Progress

ENVIRONMENT = "Breakout-MinAtar"


def main() -> None:
    """Runs the demonstration."""
    options = _options()
    config = PPOConfig(total_timesteps=options.steps)
    seeds = range(options.seeds)
    rows = []
    for rule in options.rules:
        with Progress(rule, config, options.seeds) as progress:
            rows += run(rule, ENVIRONMENT, config, seeds, on_rollout=progress)

    options.out.mkdir(parents=True, exist_ok=True)
    raw, picture = options.out / "results.jsonl", options.out / "curves.png"
    raw.unlink(missing_ok=True)
    jsonl.append(raw, rows)
    curves.curves(rows, picture)
    print(tables.plain(rows))
    print(f"\nlearning curves: {picture}\nraw results:     {raw}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--steps", type=float, default=1e6, help="environment steps (default 1e6)")
    add("--seeds", type=int, default=3, help="agents per optimiser (default 3)")
    add(
        "--rules",
        nargs="+",
        default=["minatar", "adam:1e-3", "adam"],
        help="optimisers; adam:1e-3 has a fixed rate, adam is tuned and annealed",
    )
    add("--out", type=pathlib.Path, default=pathlib.Path("demo"), help="where to")
    return parser.parse_args()


if __name__ == "__main__":
    main()
