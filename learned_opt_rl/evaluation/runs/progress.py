"""Progress of runs and of comparisons of many runs."""

import math
import time
from typing import TextIO

from learned_opt_rl.agents.config import Config
from learned_opt_rl.rundir import progress
from learned_opt_rl.rundir.progress import duration


class RunProgress(progress.Progress):
    """Show a run of ``num_agents`` together; give it to `run.run` as ``on_rollout``."""

    def __init__(
        self,
        label: str,
        config: Config,
        num_agents: int = 1,
        stream: TextIO | None = None,
    ) -> None:
        super().__init__(label, config.num_rollouts, stream, percent=True)
        self._steps_per_rollout = config.batch_size * num_agents
        self._first: tuple[int, float] | None = None

    def __call__(self, rollouts: int, mean_return: float) -> None:
        """Show the number of rollouts done and the mean return of the agents.

        A mean that is not finite, as before the first episode ends, is shown as ``--``.
        """
        now = time.perf_counter()
        # The clock starts at the first report: compilation is not progress.
        self._first = self._first or (rollouts, now)
        steps = (rollouts - self._first[0]) * self._steps_per_rollout
        speed = steps / max(now - self._first[1], 1e-9)
        returned = f"{mean_return:.2f}" if math.isfinite(mean_return) else "--"
        shown = f"  {speed:,.0f} steps/s" if speed else ""
        self.show(rollouts, f"return {returned}{shown}")


class Overall:
    """Count the runs of a comparison and estimate when the last of them ends."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self._total, self._stream = total, stream
        self._over = self._ended = 0
        self._started = time.perf_counter()

    def label(self, name: str) -> str:
        """Return the name of a run with its place among all runs."""
        return f"[{self._over + 1}/{self._total}] {name}"

    def ended(self) -> None:
        """Count a run that is done, and write a line."""
        self._over, self._ended = self._over + 1, self._ended + 1
        per_run = (time.perf_counter() - self._started) / self._ended
        left = self._total - self._over
        when = f", about {duration(per_run * left)} left" if left else ""
        self._stream.write(f"{self._over} of {self._total} runs done{when}\n")
        self._stream.flush()

    def failed(self, runs: int) -> None:
        """Count runs that will not be done; they take no time."""
        self._over += runs
