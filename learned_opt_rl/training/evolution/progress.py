"""Progress of a campaign: a bar in a terminal, a line per generation elsewhere."""

import time
from types import TracebackType
from typing import TextIO

from learned_opt_rl.evaluation.progress import duration
from learned_opt_rl.evaluation.results import Row


class Progress:
    r"""Shows a campaign while it runs.

    Args:
        done: Generations done before.
        total: Generations of the campaign.
        stream: Where to write.

    Example:
        >>> import io
        >>> lines = io.StringIO()
        >>> row = {"generation": 1, "best": 8.0, "mean": 2.5, "steps_per_second": 4e4}
        >>> with Progress(0, 1, lines) as progress:
        ...     progress(row, best_validation=3.0)
        >>> lines.getvalue()
        'generation 1/1  best 8  mean 2.5  validated 3  40,000 steps/s  0:00:00 left\n'
    """

    def __init__(self, done: int, total: int, stream: TextIO) -> None:
        """Prepares, and draws the bar if there is one."""
        self._first, self._total, self._stream = done, total, stream
        self._started = time.perf_counter()
        self._bar = _bar(done, total, stream)

    def __call__(self, row: Row, best_validation: float) -> None:
        """Shows a generation.

        Args:
            row: Of the log.
            best_validation: The best so far.
        """
        done = row["generation"]
        per_generation = (time.perf_counter() - self._started) / (done - self._first)
        left = duration(per_generation * (self._total - done))
        shown = (
            f"best {_short(row['best'])}  mean {_short(row['mean'])}  "
            f"validated {_short(best_validation)}  "
            f"{row['steps_per_second']:,.0f} steps/s  {left} left"
        )
        if row.get("std") == 0:
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
