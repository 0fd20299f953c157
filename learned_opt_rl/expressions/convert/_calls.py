"""The values of a Python proposal, and the jax functions that become calls."""

from __future__ import annotations

import ast
import dataclasses
from collections import ChainMap
from collections.abc import Callable, Mapping
from typing import TypeAlias

from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._check import infer
from learned_opt_rl.expressions._nodes import (
    Binary,
    Call,
    Expression,
    Number,
    Position,
    Unary,
    error,
)
from learned_opt_rl.expressions._vocabulary import (
    FUNCTIONS,
    LOGICAL,
    MAX_ARGUMENTS,
    MAX_DEPTH,
    OPERATORS,
    UNARY_OPERATORS,
    Type,
    nearest,
)

# The evaluator multiplies whole exponents out up to here.
_MAX_EXPONENT = 16


@dataclasses.dataclass(frozen=True)
class Closure:
    """A nested function or lambda, converted anew at each call."""

    definition: ast.FunctionDef | ast.Lambda
    scope: ChainMap[str, Value]


@dataclasses.dataclass(frozen=True)
class Refused:
    """An argument of the interface that the language does not have."""

    reason: str


Value: TypeAlias = "Expression | tuple[Value, ...] | Closure | Refused | None"
Builder: TypeAlias = "Callable[[Values, dict[str, Value], Position], Value]"


def refuse(
    at: Position, problem: str, category: str = "forbidden_syntax"
) -> ExpressionError:
    """Build the error for a construct that the language does not have."""
    return error(problem, at, category)


class Values:
    """The types of converted values.

    Args:
        types: The type of each name; the caller adds to it.
        drift: Whether the function is a drift.
    """

    def __init__(self, types: Mapping[str, Type], *, drift: bool) -> None:
        self._types = types
        self._drift = drift
        self._found: dict[int, tuple[Expression, Type]] = {}

    def type_of(self, value: Expression) -> Type:
        """Return the type of an expression."""
        return infer(value, self._types, drift=self._drift, found=self._found)

    def number(self, value: Value, at: Position) -> Expression:
        """Return a value as a number; a condition becomes 1 or 0, as in Python."""
        if not isinstance(value, Expression):
            shown = "several values" if isinstance(value, tuple) else "not a number"
            raise refuse(at, f"this is {shown}; write one number here")
        if not self.type_of(value).boolean:
            return value
        return Call("where", (value, Number(1.0), Number(0.0)), value.at)

    def condition(self, value: Value, at: Position) -> Expression:
        """Return a value that is a condition."""
        if isinstance(value, Expression) and self.type_of(value).boolean:
            return value
        raise refuse(at, "this is not a condition; write a comparison here")

    def numbers(self, values: Value, at: Position) -> list[Expression]:
        """Return a tuple of numbers."""
        if not isinstance(values, tuple) or not values:
            raise refuse(at, "this is not a tuple of numbers; write one here")
        if len(values) > MAX_DEPTH:
            problem = f"{len(values)} values are too many; write at most {MAX_DEPTH}"
            raise refuse(at, problem, "size_error")
        return [self.number(value, at) for value in values]

    def total(self, values: Value, at: Position) -> Expression:
        """Return the sum of a tuple of numbers."""
        total, *others = self.numbers(values, at)
        for other in others:
            total = Binary("+", total, other, at)
        return total


def bind(
    parameters: str,
    positional: list[ast.expr],
    keywords: list[ast.keyword],
    at: Position,
) -> dict[str, ast.expr]:
    """Assign arguments to parameters; ``"x y?"`` has a required and an optional one."""
    names = [parameter.rstrip("?") for parameter in parameters.split()]
    takes = f"this call takes ({', '.join(names)})"
    starred = any(isinstance(argument, ast.Starred) for argument in positional)
    if starred or len(positional) > len(names):
        raise refuse(at, f"{takes}; write these arguments out")
    bound = dict(zip(names, positional, strict=False))
    for keyword in keywords:
        name = _OLD_KEYWORDS.get(keyword.arg or "", keyword.arg)
        if name not in names or name in bound:
            problem = f"the keyword {keyword.arg or '**'} does not fit; {takes}"
            raise refuse(at, problem)
        bound[name] = keyword.value
    required = [p for p in parameters.split() if not p.endswith("?")]
    missing = [name for name in required if name not in bound]
    if missing:
        raise refuse(at, f"this call has no {missing[0]!r}; {takes}")
    return {name: bound[name] for name in names if name in bound}


def find(path: str, no_random: str, at: Position) -> tuple[str, Builder]:
    """Return the parameters and the builder of a jax function, by its full path."""
    if path in CALLS:
        return CALLS[path]
    if path.startswith("jax.random."):
        raise refuse(at, no_random)
    known = {known.rpartition(".")[2] for known in CALLS}
    hint = nearest(path.rpartition(".")[2][:64], known)
    raise refuse(at, f"{path[:64]} is not part of the language; {hint}")


# ------------------------------------------------------------------------- builders


def check_power(value: Expression) -> Expression:
    """Return a value unless it is a power with a large written exponent."""
    if isinstance(value, Binary) and value.operator == "**":
        exponent = value.right
        exponent = exponent.operand if isinstance(exponent, Unary) else exponent
        if isinstance(exponent, Number) and exponent.value > _MAX_EXPONENT:
            problem = f"an exponent is above {_MAX_EXPONENT}; write a smaller one"
            raise refuse(value.at, problem)
    return value


def _call(name: str, *order: str) -> Builder:
    """Call a function of the language, its arguments in their own or another order."""

    def build(values: Values, arguments: dict[str, Value], at: Position) -> Value:
        missing = [parameter for parameter in order if parameter not in arguments]
        if missing:
            problem = f"this call has no {missing[0]!r}; give all of {', '.join(order)}"
            raise refuse(at, problem)
        given = [arguments[parameter] for parameter in order or arguments]
        return Call(name, tuple(values.number(value, at) for value in given), at)

    return build


def _operator(symbol: str) -> Builder:
    def build(values: Values, arguments: dict[str, Value], at: Position) -> Value:
        read = values.condition if symbol in LOGICAL else values.number
        operands = [read(value, at) for value in arguments.values()]
        if len(operands) == 1:
            return Unary(symbol, operands[0], at)
        return check_power(Binary(symbol, operands[0], operands[1], at))

    return build


def _where(values: Values, arguments: dict[str, Value], at: Position) -> Value:
    condition = arguments["condition"]
    if isinstance(condition, Expression) and not values.type_of(condition).boolean:
        condition = Binary("!=", condition, Number(0.0), condition.at)
    sides = [values.number(arguments[side], at) for side in ("x", "y")]
    return Call("where", (values.condition(condition, at), *sides), at)


def reduction(name: str) -> Builder:
    """Reduce a whole leaf, or a stack over its first axis."""

    def build(values: Values, arguments: dict[str, Value], at: Position) -> Value:
        value, axis = arguments["a"], arguments.get("axis")
        if not isinstance(value, tuple):
            if axis is not None:
                problem = "only a whole tensor can be reduced; drop axis"
                raise refuse(at, problem, "shape_error")
            return Call(name, (values.number(value, at),), at)
        if axis != Number(0.0):
            raise refuse(at, "a stack is reduced with axis=0; write it", "shape_error")
        if name in ("max_all", "min_all") and 1 < len(value) <= MAX_ARGUMENTS:
            return Call(name[:3], tuple(values.numbers(value, at)), at)
        if name not in ("sum", "mean"):
            raise refuse(at, f"{name} of a stack cannot be converted; write it out")
        total = values.total(value, at)
        return (
            total
            if name == "sum"
            else Binary("/", total, Number(float(len(value))), at)
        )

    return build


def _same(values: Values, arguments: dict[str, Value], at: Position) -> Value:
    """Convert ``jnp.array(x)`` and the like, of a number or of a tuple."""
    value = arguments["x"]
    return value if isinstance(value, tuple) else values.number(value, at)


def _stack(values: Values, arguments: dict[str, Value], at: Position) -> Value:
    value, axis = arguments["arrays"], arguments.get("axis")
    if not isinstance(value, tuple) or axis not in (None, Number(0.0)):
        raise refuse(at, "write a stack of a tuple, along axis 0", "shape_error")
    return value


def _full(value: float | None) -> Builder:
    def build(values: Values, arguments: dict[str, Value], at: Position) -> Value:
        fill = arguments.get("fill_value")
        return values.number(fill if value is None else Number(value, at), at)

    return build


def _reciprocal(values: Values, arguments: dict[str, Value], at: Position) -> Value:
    return Binary("/", Number(1.0), values.number(arguments["x"], at), at)


_OLD_KEYWORDS = {"a_min": "min", "a_max": "max"}
REDUCTION = "a axis? keepdims?"
_UNARY, _BINARY = "x", "x y"
# Paths whose parameters are not those of their row's rule.
_OTHER: dict[str, tuple[str, Builder]] = {
    "numpy.clip": ("arr min max", _call("clip", "arr", "min", "max")),
    "lax.clamp": ("min x max", _call("clip", "x", "min", "max")),
    "numpy.nan_to_num": (
        "x copy? nan? posinf? neginf?",
        _call("nan_to_num", "x", "nan", "posinf", "neginf"),
    ),
    "numpy.linalg.norm": ("a", reduction("norm")),
    "numpy.true_divide": (_BINARY, _operator("/")),
    "numpy.reciprocal": (_UNARY, _reciprocal),
    "numpy.zeros_like": ("a", _full(0.0)),
    "numpy.ones_like": ("a", _full(1.0)),
    "numpy.full_like": ("a fill_value", _full(None)),
    "numpy.array": (_UNARY, _same),
    "numpy.asarray": (_UNARY, _same),
    "numpy.float32": (_UNARY, _same),
    "numpy.stack": ("arrays axis?", _stack),
}


def _rows() -> dict[str, tuple[str, Builder]]:
    """Return what the tables of the vocabulary say of jax's functions."""
    rows: dict[str, tuple[str, Builder]] = {}
    for name, row in FUNCTIONS.items():
        parameters = _BINARY if row.least == 2 else _UNARY
        entry = parameters, _call(name)
        if row.rule == "reduce":
            entry = REDUCTION, reduction(name)
        elif row.rule == "where":
            entry = "condition x y", _where
        rows |= dict.fromkeys(row.jax, entry)
    for symbol, operator in UNARY_OPERATORS.items():
        rows[f"numpy.{operator.jax}"] = _UNARY, _operator(symbol)
    for symbol, operator in OPERATORS.items():
        rows[f"numpy.{operator.jax}"] = _BINARY, _operator(symbol)
    return rows


CALLS = {f"jax.{path}": entry for path, entry in {**_rows(), **_OTHER}.items()}
"""By full path: the parameters (``?`` marks optional ones) and the builder."""
METHODS = {
    path.rpartition(".")[2]: builder
    for path, (parameters, builder) in CALLS.items()
    if parameters == REDUCTION
}
"""By name, the reductions that are also methods of arrays: ``x.mean()``."""
