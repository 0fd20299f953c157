"""What the card of a trained LPG says about its meta-training."""

import functools
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.training.meta_gradients.config import PRESETS, arms, preset
from learned_opt_rl.training.meta_gradients.meta_step import WINDOW, rank
from learned_opt_rl.training.run_folder import TrainedRun


@functools.cache
def bases() -> dict[str, dict[str, Any]]:
    """Return the presets by name, as JSON has them."""
    return {name: preset(name).as_json() for name in PRESETS}


def description(run: TrainedRun) -> str:
    """Describe the meta-training and the choice of the weights."""
    fields, row = run.fields, best_row(run.log)
    sha = run.made.get("start_sha256")
    start = fields["start"] + (f" (sha256 {sha})" if sha else "")
    parts = [
        f"Trained by meta-gradients from {start} weights for {run.log[-1]['step']} "
        f"meta-steps of {fields['updates']} updates, with {fields['lifetimes']} "
        f"lifetimes side by side, {fields['workers']} workers of {fields['rollout']} "
        f"steps each and learning rate {fields['learning_rate']:g}."
    ]
    names = [name for name in fields["environments"] if _has_arms(fields, name)]
    if fields["bandit"] and names:
        parts.append(
            f"In {', '.join(names)}, a bandit chose the agents' learning rate and "
            "alpha_y."
        )
    share = row["recent_share"]
    if share is not None:
        count = _recent(run.log, row["step"])
        lifetimes = f"{count} lifetimes" if count > 1 else "lifetime"
        parts.append(
            f"The weights are those after meta-step {row['step']}, when the last "
            f"{lifetimes} returned {share:.3g} of the optimal return."
        )
    return " ".join(parts)


def _has_arms(fields: Mapping[str, Any], environment: str) -> bool:
    """Return whether the bandit had a choice in an environment."""
    rates, alphas = fields["agent_rates"], fields["agent_alpha_y"]
    return len(arms(environment, rates, alphas, fields.get("agent"))) > 1


def _recent(rows: list[Record], step: int) -> int:
    """Return the number of lifetimes in a row's ``recent_share``.

    A lifetime without a return, or whose optimal return is not known, is not in it.
    """
    parts = [row["environments"].values() for row in rows if row["step"] <= step]
    known = [x for values in parts for x in values if x["optimal"] is not None]
    count = sum(part["finished"] for part in known)
    return min(count, WINDOW)


def best_row(rows: list[Record]) -> Record:
    """Return the row whose weights were kept as the best."""
    kept, best = rows[-1], float("-inf")
    finished = itertools.accumulate(row["finished"] for row in rows)
    for row, count in zip(rows, finished, strict=True):
        best, improved = rank(best, count, row["recent_share"])
        kept = row if improved else kept
    return kept


def resets(run: TrainedRun) -> Iterable[str]:
    """Return a sentence on the lifetimes that were reset early, if there are any."""
    names = {
        "entropy": "the entropy of their policy was zero",
        "non_finite": "one of their values was not finite",
    }
    for reason, words in names.items():
        count = sum(row["resets"][reason] for row in run.log)
        if count:
            total = sum(row["finished"] for row in run.log)
            yield (
                f"In training, {count} lifetimes were reset because {words}; {total} "
                "lifetimes finished."
            )
