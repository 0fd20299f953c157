r"""Write measured results into a card, from the raw rows of its runs.

As in::

    python -m learned_opt_rl.evaluation.cards \
        pretrained/minatar results/breakout_1e6.jsonl
"""

import argparse
import json
import math
import pathlib
from collections.abc import Sequence

from learned_opt_rl.artifacts._atomic import write_atomically
from learned_opt_rl.artifacts.card import Card
from learned_opt_rl.evaluation import results, tables

_BOOTSTRAP = "95% percentile bootstrap of the mean over seeds, 10000 resamples"


def fill_results(folder: pathlib.Path, path: pathlib.Path) -> list[dict]:
    """Replace the results of a card that came from one file of rows.

    Results that the card has from other sources stay.

    Args:
        folder: The artifact's folder, with its ``card.json``.
        path: JSONL rows of ``evaluation.runs``; those of the artifact's name count.

    Returns:
        The results as written.

    Raises:
        CardError: The card does not satisfy the schema, before or after.
        ValueError: The file has no row of the artifact.

    Example:
        >>> import pathlib
        >>> fill_results(pathlib.Path("pretrained/minatar"), pathlib.Path("none.jsonl"))
        Traceback (most recent call last):
        ...
        ValueError: none.jsonl has no row of rule 'minatar'; run evaluation.runs first
    """
    card_path = folder / "card.json"
    data = Card.load(card_path).to_dict()
    rows = [row for row in results.read(path) if row["rule"] == data["name"]]
    if not rows:
        raise ValueError(
            f"{path} has no row of rule '{data['name']}'; run evaluation.runs first"
        )
    steps = rows[0]["total_timesteps"]
    measured = [
        _result(summary, steps, path, len({row["seed"] for row in rows}))
        for summary in tables.summarise(rows)
    ]
    others = [r for r in data["results"] if r["source"] != path.as_posix()]
    data["results"] = [*others, *measured]
    Card.from_dict(data, source=str(card_path))
    content = json.dumps(data, indent=2, ensure_ascii=False) + "\n"
    write_atomically(card_path, content.encode())
    return data["results"]


def _result(
    summary: tables.Summary, steps: int, path: pathlib.Path, seeds: int
) -> dict:
    # Of two seeds a bootstrap interval is just the two.
    known = summary.num_seeds > 2 and not math.isnan(summary.low)
    return {
        "environment": summary.environment,
        "steps": steps,
        "seeds": summary.num_seeds,
        "metric": "final return",
        "mean": round(summary.mean, 2),
        "interval": [round(summary.low, 2), round(summary.high, 2)] if known else None,
        "method": _BOOTSTRAP if known else "mean over seeds",
        "source": path.as_posix(),
        "command": (
            f"python -m learned_opt_rl.evaluation.runs --rules {summary.rule} "
            f"--environment {summary.environment} --steps {steps:g} --seeds {seeds} "
            # Not the file it came from: what that holds would not be run again.
            f"--out again.jsonl"
        ),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Fill one card."""
    parser = argparse.ArgumentParser(description="Write results into a card.")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("results", type=pathlib.Path)
    arguments = parser.parse_args(argv)
    for result in fill_results(arguments.folder, arguments.results):
        print(result["environment"], result["mean"], result["interval"])


if __name__ == "__main__":
    main()
