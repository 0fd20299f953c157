"""Runtime checks of the shape annotations, which the library has for readers only.

The names of jaxtyping live under TYPE_CHECKING, because the library does not depend
on it. Here they are put into the module, and the function is checked.
"""

import sys

import jax
import jaxtyping
from beartype import beartype


def checked(monkeypatch, function):
    """``function``, refusing arguments and results its annotations do not allow."""
    module = sys.modules[function.__module__]
    monkeypatch.setattr(module, "Array", jax.Array, raising=False)
    monkeypatch.setattr(module, "Float", jaxtyping.Float, raising=False)
    return jaxtyping.jaxtyped(typechecker=beartype)(function)
