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


class Items(list["Value"]):
    """A list that a name stands for, and that grows until its first use."""

    used = False


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


@dataclasses.dataclass(frozen=True)
class Key:
    """A key of jax.random; keys with the same origin are equal."""

    origin: str


@dataclasses.dataclass(frozen=True)
class Shape:
    """The shape of the parameters."""


@dataclasses.dataclass(frozen=True)
class Flat:
    """An array of one axis, with the elements of an array like the parameters."""

    array: Expression


_Other: TypeAlias = Closure | Path | Key | Shape | Flat
Value: TypeAlias = "Expression | tuple[Value, ...] | Items | _Other | str | None"
Builder: TypeAlias = "Callable[[Values, Mapping[str, Value], Position], Value]"


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
