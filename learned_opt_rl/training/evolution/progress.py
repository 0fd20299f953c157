"""Progress of a campaign: a bar in a terminal, a line per generation elsewhere."""

from types import TracebackType
from typing import TextIO

from learned_opt_rl.rundir.jsonl import Row
from learned_opt_rl.rundir.progress import duration
from learned_opt_rl.training.evolution import estimate
from learned_opt_rl.training.evolution.config import EvolutionConfig


class Progress:
    r"""Shows a campaign while it runs.

    The time that is left is of the environment steps that are, at the speed so far:
    later generations of a curriculum may be longer.

    Args:
        config: The campaign.
        done: Generations done before.
        stream: Where to write.

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
        """Prepares, and draws the bar if there is one."""
        self._config, self._total, self._stream = config, config.generations, stream
        self._steps = self._seconds = 0.0
        self._bar = _bar(done, self._total, stream)

    def __call__(self, row: Row, best_validation: float) -> None:
        """Shows a generation.

        Args:
            row: Of the log.
            best_validation: The best so far.
        """
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
            # As where episodes are longer than the runs.
            shown += "  (no member has a return: raise horizons?)"
        elif row.get("std") == 0:
            # As from zeros with a small sigma, over short runs.
            shown += "  (all members equal, nothing moves: raise sigma?)"
        if self._bar is None:
            self._stream.write(f"generation {done}/{self._total}  {shown}\n")
            self._stream.flush()
        else:
            self._bar.update(self._bar.task_ids[0], completed=done, shown=_tight(shown))

    def __enter__(self) -> "Progress":
        """Starts showing."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Leaves what was shown as it stands."""
        if self._bar is not None:
            self._bar.stop()


def _short(value: float | None) -> str:
    return "nan" if value is None else f"{value:.3g}"


def _tight(text: str) -> str:
    """For a line of 80 characters."""
    return " ".join(text.split())


def _bar(done: int, total: int, stream: TextIO):
    """A bar of rich, started; None without a terminal or without rich."""
    if not stream.isatty():
        return None
    try:
        from rich import console, progress
    except ImportError:
        return None
    bar = progress.Progress(
        progress.MofNCompleteColumn(),
        progress.BarColumn(bar_width=5),
        progress.TextColumn("{task.fields[shown]}"),
        console=console.Console(file=stream),
    )
    bar.add_task("generation", total=total, completed=done, shown="")
    bar.start()
    return bar
