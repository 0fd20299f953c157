"""The command line: what is installed, what it does, and how well it does it.

Answers at once, because nothing here imports jax, but for ``plot`` and what makes runs
(``compare``, ``evaluate``, ``generalise``, ``train``) or reports of them (``report``).
Errors are one line on standard error and exit status 2; ``verify`` exits with 1 when it
finds damage, what makes runs when one failed.
"""

import argparse
import os
import sys
from collections.abc import Sequence

from learned_opt_rl.cli import _artifacts, _compare, _generalise, _plot, _train
from learned_opt_rl.cli._compare import RefusedError
from learned_opt_rl.errors import ArtifactError, MissingExtraError


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Args:
        argv: The arguments without the program's name; by default ``sys.argv[1:]``.

    Returns:
        The exit status: 0, or 1 if ``verify`` found damage or a run failed, or 2 on an
        error, or 130 if runs were interrupted.

    Example:
        >>> main(["show", "goldie2024/antt"])  # the error goes to standard error
        2
    """
    options = _parser().parse_args(argv)
    try:
        status = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `| head`, has seen enough. Without this the interpreter
        # complains when it flushes once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except (ArtifactError, MissingExtraError, OSError, RefusedError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    return status


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="learned-opt-rl",
        description="Learned optimisers for RL: the artifacts, and how well they do.",
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _artifacts.add_commands(commands)
    _plot.add_command(commands)
    _compare.add_commands(commands)
    _generalise.add_command(commands)
    _train.add_command(commands)
    return parser
