"""Values that Python knows before the formula runs: its numbers, and truths of them."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Mapping
from typing import Any, TypeGuard

from learned_opt_rl.expressions._language import (
    NOWHERE,
    Binary,
    Call,
    Expression,
    Name,
    Number,
    Position,
    Unary,
    children,
    names_in,
    walk,
)
from learned_opt_rl.expressions.convert._kinds import Stack, Value

# Whole numbers up to here are exact as floats.
_EXACT = 2**53
# Powers above these bounds would take long, and are far from exact.
_BASE, _EXPONENT = 2**20, 64


class Whole(float):
    """A number that Python writes without a point."""


def _power(base: float, exponent: float) -> Any:
    if abs(base) > _BASE or abs(exponent) > _EXPONENT:
        raise OverflowError
    return base**exponent


_COMPUTED: dict[str, Any] = {
    **{"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge},
    **{"==": operator.eq, "!=": operator.ne, "+": operator.add, "*": operator.mul},
    **{"/": operator.truediv, "mod": operator.mod, "floor_divide": operator.floordiv},
    **{"**": _power, "abs": abs, "min": min, "max": max},
    "-": lambda left, *right: left - right[0] if right else -left,
    "where": lambda condition, left, right: left if condition else right,
}


def fold(value: Expression, names: Mapping[str, float]) -> float | None:
    """Return what Python computes for an expression of its numbers, if it is exact.

    A written whole number is an int and a condition a bool, as in Python. ``names`` are
    the numbers that names stand for.
    """
    match value:
        case Number(value=number):
            return int(number) if isinstance(number, Whole) else number
        case Name(name=name):
            return names.get(name)
        case Unary(operator=symbol) | Binary(operator=symbol) | Call(function=symbol):
            pass
    operands = [fold(child, names) for child in children(value)]
    if symbol not in _COMPUTED or None in operands:
        return None
    try:
        found = _COMPUTED[symbol](*operands)
    except ArithmeticError:
        return None
    # A power of a negative number may be complex.
    exact = isinstance(found, int | float) and abs(found) <= _EXACT
    return found if exact else None


def literal(number: float | bool, at: Position = NOWHERE) -> Expression:
    """Write what Python knows as an expression: a truth, or a number."""
    if isinstance(number, bool):
        # A condition of numbers, which a test of Python and jnp.where take.
        zero = Number(0.0, at)
        return Binary("==" if number else "!=", zero, zero, at)
    size = Number(Whole(abs(number)) if isinstance(number, int) else abs(number), at)
    return Unary("-", size, at) if number < 0 else size


class Known:
    """Follows which values are numbers of Python rather than arrays of jax."""

    def __init__(self) -> None:
        self._static = {"eps"}  # names of Python's numbers
        # What is known of names: a number, and the constants that it comes from.
        self._known: dict[str, tuple[float, frozenset[str]]] = {}
        self.decided: set[str] = set()  # constants that a test or a loop depends on
        # By identity, arrays of jax that are written like Python's numbers.
        self._arrays: dict[int, Expression] = {}

    def is_static(self, value: Value) -> TypeGuard[Expression]:
        """Return whether a value is a number of Python rather than an array."""
        if not isinstance(value, Expression) or names_in(value) - self._static:
            return False
        return not any(id(node) in self._arrays for node, _ in walk(value))

    def array(self, value: Value) -> Value:
        """Return a value of jax, which Python does not know before it runs."""
        if isinstance(value, Stack):
            return Stack(p if isinstance(p, tuple) else self.array(p) for p in value)
        if not self.is_static(value):
            return value
        copied = dataclasses.replace(value)
        self._arrays[id(copied)] = copied
        return copied

    def declare(self, name: str, number: float) -> None:
        """Follow a constant, which callers may replace unless it decides something."""
        self._static.add(name)
        self._known[name] = number, frozenset({name})

    def follow(self, name: str, value: Expression | None) -> None:
        """Follow a name that is assigned a value; ``None`` for memory."""
        self._static.discard(name)
        self._known.pop(name, None)
        if self.is_static(value):
            self._static.add(name)
            found, origins = self._folded(value)
            if found is not None:
                self._known[name] = found, origins

    def known(self, value: Value) -> float | None:
        """Return the number or truth that Python computes; None where jax does.

        The result decides what is converted, so constants that it comes from are fixed.
        """
        found, origins = self._folded(value) if self.is_static(value) else (None, ())
        if found is not None:
            self.decided.update(origins)
        return found

    def _folded(self, value: Expression) -> tuple[float | None, frozenset[str]]:
        read = {n: self._known[n] for n in names_in(value) if n in self._known}
        found = fold(value, {name: number for name, (number, _) in read.items()})
        return found, frozenset().union(*(origins for _, origins in read.values()))
