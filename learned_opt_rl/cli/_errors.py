"""Errors and warnings of commands, one line each."""

import contextlib
import re
import sys
import warnings
from collections.abc import Iterator, Mapping
from typing import Any

_OPTIONS = {
    "total_timesteps": "--steps",
    "horizon": "--set horizon",
    "horizons": "--set horizons",
    **{
        name: "--" + name.replace("_", "-")
        for name in (
            "seeds",
            "first_seed",
            "at_once",
            "devices",
            "normalization",
            "baseline",
        )
    },
    "normalization": "--normalize",
}
"""Command-line names of the fields that error messages mention."""


class RefusedError(Exception):
    """The request cannot be carried out, and nothing was changed."""


@contextlib.contextmanager
def refusals(
    *kinds: type[Exception], options: Mapping[str, str] = _OPTIONS
) -> Iterator[None]:
    """Turn errors of a request into one line that names command-line options.

    Args:
        *kinds: Exceptions that mean the request is wrong.
        options: Command-line names by field; ``seeds=0`` becomes ``--seeds=0``.

    Raises:
        RefusedError: One of ``kinds`` was raised.
    """
    try:
        yield
    except kinds as error:
        fields = rf"(?<![\w.-])({'|'.join(options)})="
        text = re.sub(fields, lambda found: f"{options[found[1]]}=", str(error))
        raise RefusedError(text) from error


@contextlib.contextmanager
def warnings_as_lines() -> Iterator[None]:
    """Print warnings as single lines, without the source line that raised them."""

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        print(f"warning: {message}", file=sys.stderr)

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
