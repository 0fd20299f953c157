"""Compare a learned optimizer with Adam in PPO on one game.

The demo trains PPO on MinAtar's Breakout with three optimizers: the bundled learned
optimizer, Adam with a fixed learning rate, and Adam tuned and annealed for this game.
Run ``make demo``. The demo takes a few minutes on two cores and writes a report with
learning curves, and the raw results, to ``demo/``.

The bundled optimizer, minatar, is made for runs of ten times as many steps. In runs as
short as this one, it is on par with tuned Adam on Breakout. The README has both
lengths.
"""

import argparse
import pathlib

from learned_opt_rl.agents import PPOConfig
from learned_opt_rl.evaluation.report.write import write
from learned_opt_rl.evaluation.runs.row import ROWS, append_rows
from learned_opt_rl.evaluation.runs.run import RunProgress, run

ENVIRONMENT = "Breakout-MinAtar"


def main() -> None:
    """Run the demo."""
    options = _options()
    config = PPOConfig(total_timesteps=options.steps)
    seeds = range(options.seeds)
    rows = []
    for rule in options.rules:
        with RunProgress(rule, config, options.seeds) as progress:
            rows += run(rule, ENVIRONMENT, config, seeds, on_rollout=progress)

    options.out.mkdir(parents=True, exist_ok=True)
    raw = options.out / ROWS
    raw.unlink(missing_ok=True)
    append_rows(raw, rows)
    text, _ = write(options.out)
    print(text)
    print(f"\nreport:          {options.out / 'report.html'}")
    print(f"learning curves: {options.out / 'plots' / 'curves.png'}")
    print(f"raw results:     {raw}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--steps", type=float, default=1e6, help="environment steps (default 1e6)")
    add("--seeds", type=int, default=3, help="seeds per optimizer (default 3)")
    add(
        "--rules",
        nargs="+",
        default=["minatar", "adam:1e-3", "adam"],
        help="optimizers; adam:1e-3 has a fixed rate, adam is tuned and annealed",
    )
    add("--out", type=pathlib.Path, default=pathlib.Path("demo"), help="output folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
