"""The command line.

Commands about artifacts answer without importing jax. Commands that train agents
(``compare``, ``evaluate``, ``generalize``, ``train``), ``report`` and ``plot`` import
it. An error is one line on standard error and exit status 2; ``verify`` exits with 1
when it finds damage, and commands that train exit with 1 when a run failed.
"""

import os
import sys
from collections.abc import Sequence

import tyro

from learned_opt_rl.cli import _analyze, _artifacts, _compare, _train
from learned_opt_rl.cli._common import as_options, warnings_as_lines

# tyro derives the names of the commands from those of the classes.
_Command = _artifacts.Commands | _compare.Commands | _analyze.Commands | _train.Train


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
    command = tyro.cli(
        _Command,
        prog="learned-opt-rl",
        description="Learned optimizers for RL: list, compare and train them.",
        args=argv,
        config=(tyro.conf.FlagCreatePairsOff,),
    )
    try:
        with warnings_as_lines():
            status = command.run()
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, for example `| head`, has seen enough. Without this redirection
        # the interpreter complains when it flushes standard output at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt as advice:
        print("; ".join(["stopped", *map(str, advice.args)]), file=sys.stderr)
        return 130
    except (ValueError, ImportError, OSError) as error:
        print(f"error: {' '.join(as_options(str(error)).split())}", file=sys.stderr)
        return 2
    return status
