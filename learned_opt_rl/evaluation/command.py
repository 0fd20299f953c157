"""What the modules that are run with ``python -m`` share."""

import argparse
import contextlib
from collections.abc import Iterator

from learned_opt_rl.errors import MissingExtraError


@contextlib.contextmanager
def one_line_errors(parser: argparse.ArgumentParser) -> Iterator[None]:
    """Ends the program with a line and status 2 where what was asked cannot be done.

    For what is checked before anything is run: an error of a run keeps its traceback.
    """
    try:
        yield
    except (ValueError, MissingExtraError) as error:
        parser.exit(2, f"{parser.prog}: error: {' '.join(str(error).split())}\n")
