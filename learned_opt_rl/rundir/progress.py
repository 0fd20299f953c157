"""Progress of runs: a bar in a terminal, plain lines elsewhere."""

import math
import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TextIO

if TYPE_CHECKING:
    from learned_opt_rl.agents.config import Config


class _Display(Protocol):
    def update(self, rollouts: int, steps_per_second: float, returned: float) -> None:
        """Shows where the run is."""

    def close(self) -> None:
        """Leaves what was shown as it stands."""


class Progress:
    r"""Shows a run while it runs; give it to `runs.run` as ``on_rollout``.

    A bar is drawn with rich, if that is installed and the stream a terminal;
    otherwise about ten lines are printed.

    Args:
        label: What is running.
        config: The run.
        num_agents: Agents trained together, for the steps per second.
        stream: Where to write; standard error if not given.

    Example:
        >>> import io
        >>> from learned_opt_rl.agents import PPOConfig
        >>> lines = io.StringIO()
        >>> config = PPOConfig(total_timesteps=81_920)
        >>> with Progress("adam", config, stream=lines) as progress:
        ...     progress(10, 3.5)
        >>> lines.getvalue()
        'adam  100%  return 3.50\n'
    """

    def __init__(
        self,
        label: str,
        config: "Config",
        num_agents: int = 1,
        stream: TextIO | None = None,
    ) -> None:
        """Prepares, and draws the bar if there is one."""
        self._steps_per_rollout = config.batch_size * num_agents
        self._first: tuple[int, float] | None = None
        self._display = _display(label, config.num_rollouts, stream or sys.stderr)

    def __call__(self, rollouts: int, mean_return: float) -> None:
        """Shows where the run is.

        Args:
            rollouts: Rollouts done.
            mean_return: The agents' mean return; one that is not finite, as before
                the first episode ends, is shown as ``--``.
        """
        now = time.perf_counter()
        # The clock starts at the first report: compilation is not progress.
        self._first = self._first or (rollouts, now)
        steps = (rollouts - self._first[0]) * self._steps_per_rollout
        speed = steps / max(now - self._first[1], 1e-9)
        self._display.update(rollouts, speed, mean_return)

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
        self._display.close()


class Overall:
    r"""Counts the runs of a comparison and says when the last of them may end.

    Args:
        total: Runs to do.
        stream: Where to write a line after each.

    Example:
        >>> import io
        >>> lines = io.StringIO()
        >>> overall = Overall(3, lines)
        >>> overall.label("adam")
        '[1/3] adam'
        >>> overall.failed(2)
        >>> overall.ended()
        >>> lines.getvalue()
        '3 of 3 runs done\n'
    """

    def __init__(self, total: int, stream: TextIO) -> None:
        """Starts the clock."""
        self._total, self._stream = total, stream
        self._over = self._ended = 0
        self._started = time.perf_counter()

    def label(self, name: str) -> str:
        """A run's name with its place among all."""
        return f"[{self._over + 1}/{self._total}] {name}"

    def ended(self) -> None:
        """A run is done."""
        self._over, self._ended = self._over + 1, self._ended + 1
        per_run = (time.perf_counter() - self._started) / self._ended
        left = self._total - self._over
        when = f", about {duration(per_run * left)} left" if left else ""
        self._stream.write(f"{self._over} of {self._total} runs done{when}\n")
        self._stream.flush()

    def failed(self, runs: int) -> None:
        """So many runs are not going to be done."""
        self._over += runs


def duration(seconds: float) -> str:
    """Seconds as hours, minutes and seconds, ``"1:02:03"``."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"


def _number(returned: float) -> str:
    return f"{returned:.2f}" if math.isfinite(returned) else "--"


class _Lines:
    def __init__(self, label: str, total: int, stream: TextIO) -> None:
        self._label, self._total, self._stream = label, total, stream
        self._tenths = 0

    def update(self, rollouts: int, steps_per_second: float, returned: float) -> None:
        tenths = rollouts * 10 // self._total
        if tenths == self._tenths:
            return
        self._tenths = tenths
        speed = f"  {steps_per_second:,.0f} steps/s" if steps_per_second else ""
        share = rollouts / self._total
        self._stream.write(
            f"{self._label}  {share:.0%}  return {_number(returned)}{speed}\n"
        )
        self._stream.flush()

    def close(self) -> None:
        pass


class _Bar:
    def __init__(self, progress: Any, label: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(label, total=total, returned="compiling")
        progress.start()

    def update(self, rollouts: int, steps_per_second: float, returned: float) -> None:
        shown = f"return {_number(returned)}  {steps_per_second:,.0f} steps/s"
        self._progress.update(self._task, completed=rollouts, returned=shown)

    def close(self) -> None:
        self._progress.stop()


def _display(label: str, total: int, stream: TextIO) -> _Display:
    if not stream.isatty():
        return _Lines(label, total, stream)
    try:
        from rich import console, progress
    except ImportError:
        return _Lines(label, total, stream)
    columns = (
        progress.TextColumn("{task.description:<24}"),
        progress.BarColumn(),
        progress.TaskProgressColumn(),
        progress.TextColumn("{task.fields[returned]}"),
        progress.TimeRemainingColumn(),
    )
    terminal = console.Console(file=stream)
    return _Bar(progress.Progress(*columns, console=terminal), label, total)
