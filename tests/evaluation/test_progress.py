import builtins
import io

import pytest

from learned_opt_rl.agents import PPOConfig
from learned_opt_rl.evaluation.progress import Progress

CONFIG = PPOConfig(100 * 64 * 128)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def feed(stream, num_agents=1, returned=lambda rollouts, agent: float(rollouts)):
    with Progress("adam", CONFIG, num_agents, stream) as progress:
        for rollouts in range(1, 101):
            for agent in range(num_agents):
                progress(rollouts, returned(rollouts, agent))
    return stream.getvalue()


def test_prints_ten_lines_without_a_terminal():
    lines = feed(io.StringIO()).splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("adam  10%  return 10.00  ")
    assert lines[-1].startswith("adam  100%  return 100.00  ")
    assert all(line.endswith(" steps/s") for line in lines)


def test_shows_the_mean_over_vmapped_agents():
    lines = feed(io.StringIO(), 3, lambda rollouts, agent: float(agent)).splitlines()
    assert len(lines) == 10
    assert all("return 1.00 " in line for line in lines)


def test_draws_a_bar_in_a_terminal():
    pytest.importorskip("rich")
    shown = feed(Terminal())
    assert "adam" in shown
    assert "100%" in shown
    assert "return 100.00" in shown


def test_prints_lines_in_a_terminal_without_rich(monkeypatch):
    real = builtins.__import__

    def without_rich(name, *args, **kwargs):
        if name.split(".")[0] == "rich":
            raise ModuleNotFoundError("No module named 'rich'", name="rich")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without_rich)
    assert len(feed(Terminal()).splitlines()) == 10


def test_a_failing_run_still_leaves_what_was_shown():
    stream = io.StringIO()
    with (
        pytest.raises(KeyboardInterrupt),
        Progress("adam", CONFIG, 1, stream) as progress,
    ):
        progress(50, 1.0)
        raise KeyboardInterrupt
    assert stream.getvalue() == "adam  50%  return 1.00\n"
