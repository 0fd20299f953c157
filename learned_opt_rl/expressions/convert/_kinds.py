"""The kinds of values that a Python proposal has while it is converted."""

from __future__ import annotations

import ast
import dataclasses
from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._language import Expression, Position, error
from learned_opt_rl.expressions._text import place

if TYPE_CHECKING:
    from learned_opt_rl.expressions.convert._values import Values


class Stack(tuple["Value", ...]):
    """Arrays along a first axis, as jnp.stack and jnp.array make of a tuple."""


@dataclasses.dataclass(frozen=True)
class Closure:
    """A nested function or lambda, converted anew at each call."""

    definition: ast.FunctionDef | ast.Lambda
    scope: ChainMap[str, Value]
    defaults: dict[str, Value]  # by parameter


@dataclasses.dataclass(frozen=True)
class Path:
    """A function of jax that is passed around, such as ``jnp.tanh``."""

    path: str


class Key:
    """A key of jax.random, which differs from all keys that are made otherwise."""


class Shape:
    """The shape of the parameters."""


_Other: TypeAlias = Closure | Path | Key | Shape
Value: TypeAlias = "Expression | tuple[Value, ...] | _Other | str | None"
Arguments: TypeAlias = "Mapping[str, Value]"
Builder: TypeAlias = "Callable[[Values, Arguments, Position], Value]"
# The parameters, as "x y? z*" with optional y and the rest z; a template or a builder.
Entry: TypeAlias = "tuple[str, str | Builder]"


def defaults_of(arguments: ast.arguments) -> dict[str, ast.expr]:
    """Return the defaults of a function by argument."""
    names = [argument.arg for argument in arguments.args]
    given = arguments.defaults
    found = dict(zip(names[len(names) - len(given) :], given, strict=True))
    for argument, default in zip(
        arguments.kwonlyargs, arguments.kw_defaults, strict=True
    ):
        found |= {argument.arg: default} if default else {}
    return found


def refuse(
    at: ast.AST | Position, problem: str, category: str = "forbidden_syntax"
) -> ExpressionError:
    """Build the error for a construct that the language does not have."""
    return error(problem, at if isinstance(at, tuple) else place(at), category)


def require_shape(shape: Value, at: Position) -> None:
    """Raise `ExpressionError` for anything but the shape of the parameters."""
    if not isinstance(shape, Shape):
        raise refuse(at, "only the shape of the parameters is known; write g.shape")
