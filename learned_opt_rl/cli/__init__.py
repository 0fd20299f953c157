"""The command line.

Commands about artifacts do not import jax. Commands that train agents
(``compare``, ``evaluate``, ``generalize``, ``tune``, ``train``), ``report`` and
``plot`` import it. An error is one line on standard error and exit status 2; ``verify``
exits with 1 when it finds damage, and commands that train exit with 1 when a run
failed.
"""

import contextlib
import os
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any, get_args

import tyro

from learned_opt_rl._version import __version__
from learned_opt_rl.cli import _analyze, _artifacts, _compare, _train, _tune
from learned_opt_rl.cli._arguments import expanded, suggestion
from learned_opt_rl.cli._common import as_options, warnings_as_lines
from learned_opt_rl.cli._system import keep_compiled_programs, system_error
from learned_opt_rl.rundir.progress import Output, showing

_STDERR = 2
# tyro derives the names of the commands from those of the classes.
_Command = (
    _artifacts.Commands
    | _compare.Commands
    | _tune.Tune
    | _analyze.Commands
    | _train.Train
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: Arguments without the program name; by default ``sys.argv[1:]``.

    Returns:
        The exit status: 0 on success, 1 if ``verify`` found damage or a run failed, 2
        on an error, 130 after an interrupt.

    Raises:
        SystemExit: The arguments do not parse (status 2), or ask for help (status 0).

    Example:
        >>> main(["show", "goldie2024/antt"])  # the error goes to standard error
        2
    """
    words = [*(sys.argv[1:] if argv is None else argv)]
    status, after_help = 0, None
    with _streams() as out:
        try:
            status = _run(words)
        except SystemExit as error:
            if error.code:
                raise
            after_help = error
    lost = out.error
    # A reader such as `| head` that has seen enough is not an error.
    if lost is not None and not isinstance(lost, BrokenPipeError):
        message = f"error: standard output cannot be written: {lost}\n"
        Output(sys.stderr).write(message)
        return status or 2
    if after_help is not None:
        raise after_help
    return status


def _run(words: list[str]) -> int:
    if words == ["--version"]:
        print(f"learned-opt-rl {__version__}")
        return 0
    command = _parsed(words)
    try:
        if not isinstance(command, _artifacts.Commands):  # these compile nothing
            keep_compiled_programs()
        with warnings_as_lines(), showing(not getattr(command, "quiet", False)):
            return command.run()
    except KeyboardInterrupt as advice:
        print("; ".join(["stopped", *map(str, advice.args)]), file=sys.stderr)
        return 130
    except (ValueError, ImportError, OSError) as error:
        text = system_error(error) if isinstance(error, OSError) else str(error)
        print(f"error: {' '.join(as_options(text).split())}", file=sys.stderr)
        return 2


def _parsed(words: list[str]) -> Any:
    try:
        return tyro.cli(
            _Command,
            prog="learned-opt-rl",
            description="List, compare and train learned optimizers for RL. "
            "learned-opt-rl --version prints the version.",
            args=expanded(words),
            config=(tyro.conf.FlagCreatePairsOff,),
        )
    except SystemExit as error:
        # tyro suggests names for options, but not for commands.
        meant = suggestion(words, _names()) if error.code else ""
        if meant:
            print(f"error: {words[0]!r} is not a command; {meant}", file=sys.stderr)
        raise


def _names() -> list[str]:
    """Return the names of the commands, as tyro derives them from the classes."""
    found = []
    for kind in get_args(_Command):
        # The commands of `train` are a union, to which `subcommand` gives a name.
        named = [m.name for m in get_args(kind)[1:] if hasattr(m, "prefix_name")]
        found += named or [re.sub("(?<=[a-z])(?=[A-Z])", "-", kind.__name__).lower()]
    return found


@contextlib.contextmanager
def _streams() -> Iterator[Output]:
    """Let no command fail because its output cannot be written; yield the output.

    Either stream may be closed, a pipe without a reader, or on a full disk.
    """
    # A file opened later must not take the number of a closed stream. Otherwise the
    # errors that libraries in C print would be written into that file.
    while (free := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        pass
    os.close(free)
    out, err = Output(sys.stdout), Output(sys.stderr)
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            yield out
    finally:
        for stream in (out, err):
            stream.flush()
            if stream.error is not None:
                _silence(stream)


def _silence(stream: Output) -> None:
    """Redirect a stream that cannot be written: Python flushes it at exit."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
