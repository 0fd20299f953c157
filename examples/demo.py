"""Compare a learned drift and a learned optimizer with Adam in PPO on one game.

The demo trains PPO on MinAtar's Breakout with three rules: tuned Adam with a learned
drift instead of PPO's clip, an optimizer without a learning rate that a language model
proposed, and tuned Adam. Run ``make demo``. It takes a few minutes on two cores and
writes a report with learning curves, and the raw results, to ``demo/``. Run it again to
resume.

Breakout is a game in which the drift gains. The README has all four games.
"""

import argparse
import pathlib

from learned_opt_rl import evaluation

NEXT = """
next:
  learned-opt-rl show lpo/minatar       # what it is, how it was made, where it fails
  learned-opt-rl compare lpo/minatar adam --suite minatar --seeds 5 --steps 1e6
  examples/recipes/purejaxrl_style.py   # an agent with one line changed
"""


def main() -> None:
    """Run the demo."""
    options = _options()
    report = evaluation.compare(
        options.rules,
        environments=["Breakout-MinAtar"],
        seeds=options.seeds,
        total_timesteps=options.steps,
        out=options.out,
    )
    report.write(options.out)
    print(report, NEXT, sep="\n")
    print(f"report:      {options.out / 'report.html'}")
    print(f"raw results: {options.out / 'rows.jsonl'}")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add = parser.add_argument
    add("--steps", type=float, default=1e6, help="environment steps (default 1e6)")
    add("--seeds", type=int, default=3, help="seeds per rule (default 3)")
    add(
        "--rules",
        nargs="+",
        default=["lpo/minatar", "proposed/optimizer", "adam"],
        help="rules as for learned-opt-rl compare; adam is tuned and annealed",
    )
    add("--out", type=pathlib.Path, default=pathlib.Path("demo"), help="output folder")
    return parser.parse_args()


if __name__ == "__main__":
    main()
