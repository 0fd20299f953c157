"""Runs the scripts of examples/ as a user would, but in the test's own process."""

import contextlib
import io
import re
import runpy
import sys
from unittest import mock

import numpy as np


def run_script(path, *arguments):
    """What a script defines, and what it prints."""
    printed = io.StringIO()
    argv = mock.patch.object(sys, "argv", [str(path), *arguments])
    with argv, contextlib.redirect_stdout(printed):
        names = runpy.run_path(str(path), run_name="__main__")
    return names, printed.getvalue()


def before_and_after(printed):
    """Every pair of numbers printed as "before 1.0, after 0.5"."""
    found = re.findall(r"before (\S+), after (\S+)", printed)
    assert found, printed
    numbers = np.array(found, float)
    assert np.isfinite(numbers).all(), printed
    return numbers
