"""The values of a Python proposal, and the jax functions that become calls."""

from __future__ import annotations

import ast
import dataclasses
import functools
from collections import ChainMap, Counter
from collections.abc import Callable, Mapping
from typing import TypeAlias

from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._check import infer
from learned_opt_rl.expressions._language import (
    ELEMENTWISE,
    FUNCTIONS,
    INPUTS,
    LOGICAL,
    OPERATORS,
    RESERVED,
    SCALAR,
    UNARY_OPERATORS,
    Assign,
    Binary,
    Call,
    Expression,
    Kind,
    Limits,
    Name,
    Number,
    Position,
    Type,
    Unary,
    children,
    error,
    is_name,
    names_in,
    walk,
)
from learned_opt_rl.expressions._text import parse_expression, place

# The evaluator multiplies whole exponents out up to here.
_MAX_EXPONENT = 16


@dataclasses.dataclass(frozen=True)
class Closure:
    """A nested function or lambda, converted anew at each call."""

    definition: ast.FunctionDef | ast.Lambda
    scope: ChainMap[str, Value]


Value: TypeAlias = "Expression | tuple[Value, ...] | Closure | None"
Builder: TypeAlias = "Callable[[Values, Mapping[str, Value], Position], Value]"


def refuse(
    at: ast.AST | Position, problem: str, category: str = "forbidden_syntax"
) -> ExpressionError:
    """Build the error for a construct that the language does not have."""
    return error(problem, at if isinstance(at, tuple) else place(at), category)


class Values:
    """The types of converted values, and the assignments that give them names."""

    def __init__(self, kind: Kind, read: list[str], slots: tuple[str, ...]) -> None:
        self.slots = frozenset(slots)
        self.assignments: list[Assign] = []
        self._types: dict[str, Type] = dict.fromkeys(read, ELEMENTWISE) | INPUTS[kind]
        self._types |= {"eps": SCALAR} if kind == "drift" else {}
        self._drift = kind == "drift"
        self._found: dict[int, tuple[Expression, Type]] = {}
        self._taken = {*self._types, *RESERVED}
        self._counts: Counter[str] = Counter()
        self._nodes = 0

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

    def build(
        self, builder: str | Builder, arguments: Mapping[str, Value], at: Position
    ) -> Value:
        """Convert a call with converted arguments."""
        if not isinstance(builder, str):
            return builder(self, arguments, at)
        given = dict(zip("abcd", arguments.values(), strict=False))
        return self._fill(_template(builder), given, at)

    def _fill(
        self, node: Expression, given: Mapping[str, Value], at: Position
    ) -> Value:
        """Build a template with values in the place of its names."""
        match node:
            case Name():
                return given[node.name]
            case Number():
                return Number(node.value, at)
        operands = [self._fill(child, given, at) for child in children(node)]
        if isinstance(node, Call):
            conditions = operands[:1] if node.function == "where" else []
            parts = [self._truth(condition, at) for condition in conditions]
            parts += [self.number(operand, at) for operand in operands[len(parts) :]]
            return Call(node.function, tuple(parts), at)
        read = self.condition if node.operator in LOGICAL else self.number
        parts = [read(operand, at) for operand in operands]
        if isinstance(node, Unary):
            return Unary(node.operator, parts[0], at)
        return check_power(Binary(node.operator, parts[0], parts[1], at))

    def _truth(self, value: Value, at: Position) -> Expression:
        """Return a condition; a number counts as whether it is not 0, as in jax."""
        if isinstance(value, Expression) and not self.type_of(value).boolean:
            return Binary("!=", value, Number(0.0), at)
        return self.condition(value, at)

    def numbers(self, values: Value, at: Position) -> list[Expression]:
        """Return a tuple of numbers."""
        if not isinstance(values, tuple) or not values:
            raise refuse(at, "this is not a tuple of numbers; write one here")
        if len(values) > Limits.DEPTH:
            problem = f"{len(values)} values are too many; write at most {Limits.DEPTH}"
            raise refuse(at, problem, "size_error")
        return [self.number(value, at) for value in values]

    def total(self, values: Value, at: Position) -> Expression:
        """Return the sum of a tuple of numbers."""
        total, *others = self.numbers(values, at)
        for other in others:
            total = Binary("+", total, other, at)
        return total

    def keep(self, value: Value, hint: str = "part") -> Value:
        """Return a value that no later assignment changes."""
        if not isinstance(value, Expression) or isinstance(value, Number):
            return value
        return self.assigned(hint, value)

    def assigned(self, hint: str, value: Expression) -> Name:
        """Assign a value to a new name like ``hint``, unless a name stands for it."""
        if isinstance(value, Name) and value.name not in self.slots:
            return value
        target = self._fresh(hint)
        self.emit(target, value)
        return Name(target, value.at)

    def finish(self, result: Expression, slots: Mapping[str, Expression]) -> Expression:
        """Emit the last assignments to memory and return the result, still valid."""
        pending = {
            name: self.number(value, value.at)
            for name, value in slots.items()
            if value != Name(name)
        }
        result = self._outlive(result, set(pending), "update")
        for name, value in pending.items():
            pending[name] = self._outlive(value, set(pending) - {name}, f"{name}_new")
        for name, value in pending.items():
            self.emit(name, value)
        return result

    def _outlive(self, value: Expression, changed: set[str], hint: str) -> Expression:
        return self.assigned(hint, value) if names_in(value) & changed else value

    def emit(self, target: str, value: Expression) -> None:
        self._nodes += sum(1 for _ in walk(value))
        if self._nodes > Limits.NODES:
            problem = (
                f"the function has more than {Limits.NODES} operations and operands"
            )
            raise error(f"{problem}; write a shorter one", value.at, "size_error")
        found = self.type_of(value)
        self._types[target] = ELEMENTWISE if target in self.slots else found
        self.assignments.append(Assign(target, value, value.at))

    def _fresh(self, hint: str) -> str:
        base = hint.strip("_")[: Limits.NAME - 8]
        base = base if is_name(base) else "part"
        name = base
        while name in self._taken:
            self._counts[base] += 1
            name = f"{base}_{self._counts[base] + 1}"
        self._taken.add(name)
        return name


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
            raise refuse(at, f"the keyword {keyword.arg or '**'} does not fit; {takes}")
        bound[name] = keyword.value
    required = [p for p in parameters.split() if not p.endswith("?")]
    missing = [name for name in required if name not in bound]
    if missing:
        raise refuse(at, f"this call has no {missing[0]!r}; {takes}")
    return {name: bound[name] for name in names if name in bound}


@functools.cache
def _template(text: str) -> Expression:
    return parse_expression(text)


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


def reduction(name: str) -> Builder:
    """Reduce a whole leaf, or a stack over its first axis."""

    def build(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
        value, axis = arguments["a"], arguments.get("axis")
        if not isinstance(value, tuple):
            if axis is not None:
                problem = "only a whole tensor can be reduced; drop axis"
                raise refuse(at, problem, "shape_error")
            return Call(name, (values.number(value, at),), at)
        if axis != Number(0.0):
            raise refuse(at, "a stack is reduced with axis=0; write it", "shape_error")
        if name in ("max_all", "min_all") and 1 < len(value) <= Limits.ARGUMENTS:
            return Call(name[:3], tuple(values.numbers(value, at)), at)
        if name not in ("sum", "mean"):
            raise refuse(at, f"{name} of a stack cannot be converted; write it out")
        total = values.total(value, at)
        count = Number(float(len(value)))
        return total if name == "sum" else Binary("/", total, count, at)

    return build


def _stack(values: Values, arguments: Mapping[str, Value], at: Position) -> Value:
    value, axis = arguments["arrays"], arguments.get("axis")
    if not isinstance(value, tuple) or axis not in (None, Number(0.0)):
        raise refuse(at, "write a stack of a tuple, along axis 0", "shape_error")
    return value


_OLD_KEYWORDS = {"a_min": "min", "a_max": "max"}
REDUCTION = "a axis? keepdims?"
# Paths whose parameters are not those of their row's rule. A template, in the language,
# calls the arguments a, b, c and d.
_OTHER: dict[str, tuple[str, str | Builder]] = {
    "numpy.clip": ("arr min max", "clip(a, b, c)"),
    "lax.clamp": ("min x max", "clip(b, a, c)"),
    "numpy.nan_to_num": ("x copy? nan posinf neginf", "nan_to_num(a, b, c, d)"),
    "numpy.linalg.norm": ("a", "norm(a)"),
    "numpy.true_divide": ("x y", "a / b"),
    "numpy.reciprocal": ("x", "1 / a"),
    "numpy.zeros_like": ("a", "0"),
    "numpy.ones_like": ("a", "1"),
    "numpy.full_like": ("a fill_value", "b"),
    "numpy.array": ("x", "a"),
    "numpy.asarray": ("x", "a"),
    "numpy.float32": ("x", "a"),
    "numpy.stack": ("arrays axis?", _stack),
}


def _rows() -> dict[str, tuple[str, str | Builder]]:
    """Return what the tables of the vocabulary say of jax's functions."""
    rows: dict[str, tuple[str, str | Builder]] = {}
    for name, row in FUNCTIONS.items():
        entry = ("x", f"{name}(a)") if row.least == 1 else ("x y", f"{name}(a, b)")
        if row.rule == "reduce":
            entry = REDUCTION, reduction(name)
        elif row.rule == "where":
            entry = "condition x y", "where(a, b, c)"
        rows |= dict.fromkeys(row.jax, entry)
    for symbol, operator in UNARY_OPERATORS.items():
        rows[f"numpy.{operator.jax}"] = "x", f"{symbol} a"
    for symbol, operator in OPERATORS.items():
        rows[f"numpy.{operator.jax}"] = "x y", f"a {symbol} b"
    return rows


CALLS = {f"jax.{path}": entry for path, entry in {**_rows(), **_OTHER}.items()}
"""By full path: the parameters (``?`` marks optional ones), a template or a builder."""
METHODS = {
    path.rpartition(".")[2]: builder
    for path, (parameters, builder) in CALLS.items()
    if parameters == REDUCTION
}
"""By name, the reductions that are also methods of arrays: ``x.mean()``."""
