import builtins
import copy
import io
import re
import sys
import time

import pytest

from learned_opt_rl.agents import PPOConfig
from learned_opt_rl.evaluation.runs.run import Overall, RunProgress
from learned_opt_rl.rundir.progress import output

CONFIG = PPOConfig(100 * 64 * 128)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def feed(stream):
    with RunProgress("adam", CONFIG, 1, stream) as progress:
        for rollouts in range(1, 101):
            progress(rollouts, float(rollouts))
    return stream.getvalue()


def test_prints_ten_lines_without_a_terminal():
    lines = feed(io.StringIO()).splitlines()
    assert len(lines) == 10
    assert lines[0].startswith("adam  10%  return 10.00  ")
    assert lines[-1].startswith("adam  100%  return 100.00  ")
    assert all(line.endswith(" steps/s") for line in lines)


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_no_return_yet_is_a_dash(stream):
    with RunProgress("adam", CONFIG, 1, shown := stream()) as progress:
        progress(50, float("nan"))
    assert "return --" in shown.getvalue()


class Full(io.StringIO):
    """Raises an error, as a full disk or a pipe without a reader does."""

    error: type[Exception] = OSError

    def write(self, text: str) -> int:
        raise self.error("lost")

    def flush(self) -> None:
        raise self.error("lost")


class Closed(Full):
    error = ValueError


@pytest.mark.parametrize("stream", [Full(), Closed()])
@pytest.mark.parametrize("terminal", [False, True])
def test_a_stream_that_is_lost_stops_nothing(stream, terminal, monkeypatch):
    monkeypatch.setattr(stream, "isatty", lambda: terminal, raising=False)
    assert feed(stream) == ""
    shown = output(stream)
    print("lost", file=shown, flush=True)
    assert isinstance(shown.error, type(stream).error)


def test_a_lost_stream_can_be_copied():
    shown = output(Full())
    print("lost", file=shown)
    for copied in (copy.copy(shown), copy.deepcopy(shown)):
        assert isinstance(copied.error, OSError)
        assert copied.isatty() is False


def test_no_stream_at_all_stops_nothing(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    with RunProgress("adam", CONFIG) as progress:
        progress(50, 1.0)
    assert not output().isatty()


def test_letters_that_an_encoding_lacks_are_escaped():
    stream = io.TextIOWrapper(io.BytesIO(), "ascii")
    print("adäm", file=output(stream), flush=True)
    assert stream.buffer.getvalue() == b"ad\\xe4m\n"


def test_speed_counts_all_agents(monkeypatch):
    clock = iter([10.0, 12.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    stream = io.StringIO()
    with RunProgress("adam", CONFIG, 3, stream) as progress:
        progress(10, 1.0)
        progress(20, 1.0)
    assert stream.getvalue().splitlines() == [
        "adam  10%  return 1.00",
        f"adam  20%  return 1.00  {10 * 64 * 128 * 3 / 2:,.0f} steps/s",
    ]


def test_draws_a_bar_in_a_terminal():
    pytest.importorskip("rich")
    shown = feed(Terminal())
    assert "adam" in shown
    assert "100%" in shown
    assert "return 100.00" in shown


@pytest.mark.parametrize("columns", [40, 80])
def test_the_time_left_is_visible_in_a_narrow_terminal(monkeypatch, columns):
    pytest.importorskip("rich")
    monkeypatch.setenv("COLUMNS", str(columns))
    stream = Terminal()
    name = "distilled/sign_mixture (SpaceInvaders-MinAtar, seeds 0-15)"
    with RunProgress(name, CONFIG, 1, stream) as progress:
        for rollouts in (1, 50):
            time.sleep(0.01)
            progress(rollouts, 1.0)
    last = stream.getvalue().split("\r")[-1]
    shown = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", last).splitlines()[0]
    assert re.search(r"50% (\d:\d\d|-):", shown) and len(shown) <= columns


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
        RunProgress("adam", CONFIG, 1, stream) as progress,
    ):
        progress(50, 1.0)
        raise KeyboardInterrupt
    assert stream.getvalue() == "adam  50%  return 1.00\n"


def test_the_time_left_is_that_of_the_runs_that_ended(monkeypatch):
    clock = iter([100.0, 160.0, 4160.0])
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    stream = io.StringIO()
    overall = Overall(8, stream)
    overall.ended()
    overall.failed(3)
    assert overall.label("adam") == "[5/8] adam"
    overall.ended()
    assert stream.getvalue().splitlines() == [
        "1 of 8 runs done, about 0:07:00 left",
        "5 of 8 runs done, about 1:41:30 left",
    ]
