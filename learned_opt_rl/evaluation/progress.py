"""Progress of runs: a bar in a terminal, plain lines elsewhere."""

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol, TextIO

import jax

if TYPE_CHECKING:
    from learned_opt_rl.agents.config import PPOConfig


class _Display(Protocol):
    def update(self, rollouts: int, steps_per_second: float, returned: float) -> None:
        """Shows where the run is."""

    def close(self) -> None:
        """Leaves what was shown as it stands."""


class Progress:
    """Shows a run while it runs; give it to ``make_train`` as ``on_rollout``.

    Under ``vmap`` it is called once per agent and rollout; it then shows the mean of
    the agents' returns. A bar is drawn with rich, if that is installed and the stream
    a terminal; otherwise about ten lines are printed.

    Args:
        label: What is running.
        config: The run.
        num_agents: Agents trained together (seeds under ``vmap``).
        stream: Where to write; standard error if not given.

    Example:
        >>> import io
        >>> from learned_opt_rl.agents import PPOConfig
        >>> lines = io.StringIO()
        >>> config = PPOConfig(total_timesteps=81_920)
        >>> with Progress("adam", config, stream=lines) as progress:
        ...     progress(10, 3.5)
        >>> lines.getvalue().startswith("adam  100%  return 3.50")
        True
    """

    def __init__(
        self,
        label: str,
        config: "PPOConfig",
        num_agents: int = 1,
        stream: TextIO | None = None,
    ) -> None:
        """Prepares, without writing anything yet."""
        self._total = config.num_rollouts
        self._steps_per_rollout = config.batch_size * num_agents
        self._rollout = 0
        self._returns: list[float] = []
        self._started: float | None = None
        self._first = 0
        self._display = _display(label, self._total, stream or sys.stderr)

    def __call__(self, rollouts: int, mean_return: float) -> None:
        """Takes the report of one agent.

        Args:
            rollouts: Rollouts it has done.
            mean_return: Its mean return.
        """
        rollouts = int(rollouts)
        if self._started is None:
            # The clock starts at the first report: compilation is not progress.
            self._started, self._first = time.perf_counter(), rollouts
        if rollouts > self._rollout:
            self._rollout, self._returns = rollouts, []
        if rollouts == self._rollout:
            self._returns.append(float(mean_return))
            self._display.update(rollouts, self._speed(), self._mean())

    def __enter__(self) -> "Progress":
        """Starts showing."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Waits for the last reports and leaves the display as it stands."""
        jax.effects_barrier()
        self._display.close()

    def _speed(self) -> float:
        elapsed = time.perf_counter() - (self._started or 0.0)
        rollouts = self._rollout - self._first
        return rollouts * self._steps_per_rollout / max(elapsed, 1e-9)

    def _mean(self) -> float:
        return sum(self._returns) / len(self._returns)


class _Lines:
    def __init__(self, label: str, total: int, stream: TextIO) -> None:
        self._label, self._total, self._stream = label, total, stream
        self._line = ""
        self._printed = 0

    def update(self, rollouts: int, steps_per_second: float, returned: float) -> None:
        if rollouts * 10 // self._total > self._printed * 10 // self._total:
            self._flush()
            self._printed = rollouts
        if rollouts == self._printed:
            # Kept until the next tenth, so that all agents' reports are in the mean.
            share = rollouts / self._total
            speed = f"  {steps_per_second:,.0f} steps/s" if steps_per_second else ""
            self._line = f"{self._label}  {share:.0%}  return {returned:.2f}{speed}\n"

    def close(self) -> None:
        self._flush()

    def _flush(self) -> None:
        self._stream.write(self._line)
        self._stream.flush()
        self._line = ""


class _Bar:
    def __init__(self, progress: Any, label: str, total: int) -> None:
        self._progress = progress
        self._task = progress.add_task(label, total=total, returned="compiling")
        progress.start()

    def update(self, rollouts: int, steps_per_second: float, returned: float) -> None:
        shown = f"return {returned:.2f}  {steps_per_second:,.0f} steps/s"
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
