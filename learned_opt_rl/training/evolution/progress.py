"""Progress of a campaign: a bar in a terminal, a line per generation elsewhere."""

from typing import TextIO

from learned_opt_rl.rundir import progress
from learned_opt_rl.rundir.jsonl import Record
from learned_opt_rl.rundir.progress import duration
from learned_opt_rl.training.evolution import estimate
from learned_opt_rl.training.evolution.config import EvolutionConfig


class Progress(progress.Progress):
    r"""Show a campaign while it runs.

    The remaining time is that of the remaining environment steps at the speed so far,
    because later generations of a curriculum may be longer.

    Args:
        config: Configuration of the campaign.
        done: Generations that were finished before.
        stream: Receives the progress.

    Example:
        >>> import io
        >>> from learned_opt_rl.training.evolution import preset
        >>> lines = io.StringIO()
        >>> row = {"generation": 1, "best": 8.0, "mean": 2.5, "seconds": 1.0}
        >>> row["steps_per_second"] = 4e4
        >>> config = preset("open-breakout", generations=1)
        >>> with Progress(config, 0, lines) as progress:
        ...     progress(row, best_validation=3.0)
        >>> lines.getvalue()
        'generation 1/1  best 8  mean 2.5  validated 3  40,000 steps/s  0:00:00 left\n'
    """

    def __init__(self, config: EvolutionConfig, done: int, stream: TextIO) -> None:
        """Draw the bar, if there is one."""
        super().__init__("generation", config.generations, stream, done=done)
        self._config = config
        self._steps = self._seconds = 0.0

    def __call__(self, row: Record, best_validation: float) -> None:
        """Show a generation, given its record in the log and the best validation."""
        done = row["generation"]
        self._steps += row["steps_per_second"] * row["seconds"]
        self._seconds += row["seconds"]
        steps_left = estimate.steps_left(self._config, done)
        left = duration(steps_left * self._seconds / max(self._steps, 1.0))
        shown = (
            f"best {_short(row['best'])}  mean {_short(row['mean'])}  "
            f"validated {_short(best_validation)}  "
            f"{row['steps_per_second']:,.0f} steps/s  {left} left"
        )
        peak = estimate.memory_peak()
        if peak is not None:
            shown += f"  {peak / 2**30:.1f} GiB"
        if row["mean"] is None:
            # For example where episodes are longer than the runs.
            shown += "  (no member has a return: raise horizons?)"
        elif row.get("std") == 0:
            # For example from zeros with a small sigma, over short runs.
            shown += "  (all members equal, nothing moves: raise sigma?)"
        self.show(done, shown)


def _short(value: float | None) -> str:
    return "nan" if value is None else f"{value:.3g}"
