"""Assertions about arrays for the checks, with their error messages."""

from typing import Any, NoReturn

import jax
import jax.numpy as jnp
import numpy as np

RELATIVE_TOLERANCE = 1e-3
"""Of the tree's largest value: what reordered float32 sums may change."""


class ConformanceError(AssertionError):
    """A learned optimizer breaks the contract; the message lists how.

    Example:
        >>> import optax
        >>> from learned_opt_rl import testing
        >>> broken = optax.stateless(lambda updates, params: None)
        >>> testing.check_artifact(broken)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        learned_opt_rl.testing._expect.ConformanceError: 1 of ... checks failed...
    """


def fail(reason: str) -> NoReturn:
    """Raise ``ConformanceError`` for this reason."""
    raise ConformanceError(reason)


def same_types(found: Any, expected: Any, what: str, standard: str) -> None:
    """Demand one structure, and equal shapes and dtypes leaf by leaf."""
    ours, theirs = jax.tree.structure(found), jax.tree.structure(expected)
    if ours != theirs:
        fail(f"{what}: structure is {ours}, that of {standard} is {theirs}")
    for path, leaf, other in _pairs(found, expected):
        if _type(leaf) != _type(other):
            fail(f"{what}{path} is {_type(leaf)}, that of {standard} is {_type(other)}")


def finite(tree: Any, what: str) -> None:
    """Demand that no leaf holds NaN or infinity."""
    for path, leaf in _named(tree):
        if not np.all(np.isfinite(_as_float(leaf))):
            fail(f"{what}{path} is not finite: {leaf}")


def identical(found: Any, expected: Any, what: str) -> None:
    """Demand equality bit by bit."""
    same_types(found, expected, what, "the first")
    for path, leaf, other in _pairs(found, expected):
        if _bits(leaf) != _bits(other):
            fail(f"{what}{path} differs: {leaf} against {other}")


def close(found: Any, expected: Any, what: str) -> None:
    """Demand equality up to ``RELATIVE_TOLERANCE`` of the largest value expected."""
    same_types(found, expected, what, "what is expected")
    sizes = [np.max(np.abs(_as_float(x)), initial=0) for x in jax.tree.leaves(expected)]
    bound = RELATIVE_TOLERANCE * max(sizes, default=0)
    for path, leaf, other in _pairs(found, expected):
        with np.errstate(invalid="ignore"):  # inf - inf is NaN, and fails below
            error = np.max(np.abs(_as_float(leaf) - _as_float(other)), initial=0)
        if not error <= bound:
            fail(f"{what}{path} differs by {error:.2g}: {leaf} against {other}")


def _named(tree: Any) -> list[tuple[str, Any]]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return [(jax.tree_util.keystr(path), leaf) for path, leaf in leaves]


def _pairs(found: Any, expected: Any) -> list[tuple[str, Any, Any]]:
    """Return path, leaf and its counterpart in a tree of the same structure."""
    others = jax.tree.leaves(expected)
    return [(p, x, y) for (p, x), y in zip(_named(found), others, strict=True)]


def _type(leaf: Any) -> str:
    return f"{jnp.result_type(leaf)}[{','.join(map(str, jnp.shape(leaf)))}]"


def _bits(leaf: Any) -> bytes:
    if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
        leaf = jax.random.key_data(leaf)  # state_of_arrays is who complains of it
    return np.asarray(leaf).tobytes()


def _as_float(leaf: Any) -> np.ndarray:
    return np.asarray(leaf).astype(np.float64)
