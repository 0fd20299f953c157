"""The expressions of a Python proposal."""

from __future__ import annotations

import ast
import math
from collections import ChainMap
from collections.abc import Sequence
from typing import Any

from learned_opt_rl.expressions._functions import NUMBERS
from learned_opt_rl.expressions._language import (
    LOGICAL,
    SYMBOLS,
    Call,
    Kind,
    Name,
    Number,
    shorten,
)
from learned_opt_rl.expressions._text import place
from learned_opt_rl.expressions.convert._applied import Calls
from learned_opt_rl.expressions.convert._calls import CALLS, shape_of
from learned_opt_rl.expressions.convert._hints import INSTEAD, of_call, of_name
from learned_opt_rl.expressions.convert._kinds import (
    Closure,
    Items,
    Key,
    Path,
    Shape,
    Stack,
    Value,
    defaults_of,
    refuse,
)
from learned_opt_rl.expressions.convert._static import Whole, literal
from learned_opt_rl.expressions.convert._values import Values

# This bound keeps hostile code from unrolling forever; it is generous for formulas.
_MAX_STEPS = 8192
_LONGEST = 1024  # parts of a tuple that operators make
CONSTANTS = {f"jax.numpy.{name}": value for name, value in NUMBERS.items()}
CONSTANTS |= {"math.pi": math.pi, "math.e": math.e}
# Of float32, the dtype in which an expression is computed.
_FINFO = {"eps": 2.0**-23, "tiny": 2.0**-126, "smallest_normal": 2.0**-126}
_SAME_SHAPE = "all arrays here have the shape of the parameters; remove it"


class Formulas(Calls):
    """Converts the expressions of a proposal. ``scope`` has the values of its names."""

    # The logic of arrays is written with & | ~ in place of and, or, not.
    symbols = {
        **{syntax: s for syntax, s in SYMBOLS.items() if s not in LOGICAL},
        **{ast.BitAnd: "and", ast.BitOr: "or", ast.Invert: "not", ast.BitXor: "^"},
        **{ast.FloorDiv: "floor_divide", ast.Mod: "mod"},
        **{ast.Is: "is", ast.IsNot: "is not"},
    }
    instead = INSTEAD

    def __init__(
        self,
        kind: Kind,
        arguments: dict[str, Name | Key],
        slots: tuple[str, ...],
        fix: str,
    ) -> None:
        self.no_random = f"random numbers cannot be drawn here; {fix}"
        self.arguments = arguments
        self.scope: ChainMap[str, Value] = ChainMap({})
        # By name, the full path of a module, or of a function that was imported.
        self.modules = {"jnp": "jax.numpy", "nn": "jax.nn", "jnn": "jax.nn"}
        self.modules |= {"jax": "jax", "lax": "jax.lax", "np": "jax.numpy"}
        read = [one.name for one in arguments.values() if isinstance(one, Name)]
        self.values = Values(kind, read, slots, "jax")
        self.steps = self.inlining = 0

    def count(self, node: ast.AST) -> None:
        """Count a step, and raise above the limit."""
        self.steps += 1
        if self.steps > _MAX_STEPS:
            problem = "loops and calls unroll to too many steps; write fewer"
            raise refuse(node, problem, "size_error")

    def bind(self, target: ast.expr, value: Value, *, count: bool = False) -> None:
        """Bind a target; the counter of a loop stays a written number."""
        raise NotImplementedError

    def comprehension(self, node: ast.ListComp | ast.GeneratorExp) -> Value:
        """Convert a comprehension to a tuple."""
        raise NotImplementedError

    def decide(self, node: ast.If | ast.IfExp) -> bool:
        """Return which side a test of what Python knows takes; refuse any other."""
        truth = self._truth(self.value(node.test))
        if truth is None:
            raise self.unknown(node, node)
        return truth

    def _truth(self, value: Value) -> bool | None:
        """Return the truth of what Python knows, and None where jax decides it."""
        if value is None or isinstance(value, str):
            return bool(value)
        if isinstance(value, tuple) and not isinstance(value, Stack):
            return len(value) > 0
        known = self.values.known(value)
        return None if known is None else bool(known)

    # ----------------------------------------------------------------- expressions

    def value(self, node: ast.expr) -> Value:
        self.count(node)
        match node:
            case ast.Constant(value=(None | str()) as plain):
                return plain
            case ast.Constant(value=bool() as truth):
                return literal(truth, place(node))
            case ast.Constant(value=int() as whole):
                number = self.number(node)
                return Number(Whole(whole), number.at)
            case ast.Constant():
                return self.number(node)
            case ast.Name():
                return self._name(node)
            case ast.BoolOp(op=operator, values=[*others, last]):
                for other in others:
                    value = self.value(other)
                    truth = self._truth(value)
                    if truth is None:
                        raise self.unknown(node, node)
                    if truth == isinstance(operator, ast.Or):
                        return value
                return self.value(last)
            case ast.UnaryOp(op=ast.Not() as operator, operand=operand):
                truth = self._truth(self.value(operand))
                if truth is None:
                    raise self.unknown(operator, node)
                return literal(not truth, place(node))
            case ast.UnaryOp(op=ast.UAdd()):
                value = self.value(node.operand)
                condition = self.values.is_condition(value)
                return value if condition else self.values.number(value, place(node))
            case ast.Call():
                return self.call(node)
            case ast.Tuple() | ast.List():
                return tuple(
                    self.values.keep(self.value(element)) for element in node.elts
                )
            case ast.Subscript():
                return self._element(node)
            case ast.Lambda():
                return self.closure(node)
            case ast.Attribute():
                return self._attribute(node)
            case ast.ListComp() | ast.GeneratorExp():
                return self.comprehension(node)
            case ast.IfExp():
                return self.value(node.body if self.decide(node) else node.orelse)
            case ast.NamedExpr():
                self.bind(node.target, self.value(node.value))
                return self.value(node.target)
        return self.operation(node)

    def apply(self, symbol: str, operands: Sequence[ast.expr], node: ast.expr) -> Any:
        values = [self.value(operand) for operand in operands]
        plain = any(value is None or isinstance(value, str) for value in values)
        if symbol in ("is", "is not") or (plain and symbol in ("==", "!=")):
            return self._same(symbol, values, node)
        if any(isinstance(value, tuple) for value in values):
            return self._of_tuples(symbol, values, node)
        if symbol == "^":
            if not all(map(self.values.is_condition, values)):
                raise refuse(node, "^ is not a power in Python; write a ** b")
            symbol = "!="
        return self.values.apply(symbol, values, place(node))

    def _of_tuples(self, symbol: str, values: Sequence[Value], node: ast.expr) -> Value:
        """Apply an operator to stacks, part by part, or join or repeat tuples."""
        left, right = values[0], values[-1]
        if any(isinstance(value, Stack) for value in values):
            given = {str(i): value for i, value in enumerate(values)}
            return self.values.each(
                lambda one: self.values.apply(symbol, [*one.values()], place(node)),
                given,
                place(node),
            )
        times = self.values.known(right)
        if symbol == "*" and isinstance(left, tuple) and type(times) is int:
            right = left * min(max(times - 1, 0), _LONGEST // (len(left) or 1) + 1)
            left = left if times > 0 else ()
        elif symbol != "+" or not isinstance(left, tuple):
            right = None
        if not isinstance(left, tuple) or not isinstance(right, tuple):
            problem = "a tuple has no arithmetic; write jnp.stack((a, b)), or the parts"
            raise refuse(node, problem)
        if len(left) + len(right) > _LONGEST:
            raise refuse(node, "this tuple is too long; write it shorter", "size_error")
        return left + right

    def _same(self, symbol: str, values: Sequence[Value], node: ast.expr) -> Value:
        """Compare texts and None, as tests of options do."""
        left, right = values
        if symbol in ("is", "is not") and None not in (left, right):
            raise self.unknown(ast.Is(), node)
        for value in values:
            known = value is None or isinstance(value, str)
            if not known and symbol in ("==", "!=") and self._truth(value) is None:
                self.values.number(None, place(node))
        return literal((left == right) == (symbol in ("==", "is")), place(node))

    def closure(self, node: ast.FunctionDef | ast.Lambda) -> Closure:
        """Return a function with the values that its defaults have here."""
        given = defaults_of(node.args)
        defaults = {n: self.values.keep(self.value(d)) for n, d in given.items()}
        return Closure(node, self.scope, defaults)

    def _name(self, node: ast.Name) -> Value:
        if node.id in self.scope:
            found = self.scope[node.id]
            if not isinstance(found, Items):
                return found
            found.used = True
            return tuple(found)
        path = self.modules.get(node.id)
        if path in CONSTANTS:
            return Number(CONSTANTS[path], place(node))
        if path in CALLS:
            return Path(path)
        problem = f"unknown name {shorten(node.id)!r}; {of_name(node.id, self.scope)}"
        if path is not None:
            problem = f"{node.id!r} is a module; call one of its functions"
        if node.id == "key":
            problem = self.no_random
        raise refuse(node, problem)

    def _element(self, node: ast.Subscript) -> Value:
        found, at = self.value(node.value), place(node)
        if isinstance(found, Shape):
            self.values.number(found, at)
        if not isinstance(found, tuple):
            problem = f"an array cannot be indexed; {_SAME_SHAPE}"
            raise refuse(at, problem, "shape_error")
        if isinstance(node.slice, ast.Slice):
            parts = (node.slice.lower, node.slice.upper, node.slice.step)
            bounds = [part and self._index(part) for part in parts]
            chosen = found[slice(*bounds)] if bounds[2] != 0 else ()
            return Stack(chosen) if isinstance(found, Stack) else chosen
        position = self._index(node.slice)
        if -len(found) <= position < len(found):
            return found[position]
        raise refuse(at, f"the index has to be a written number below {len(found)}")

    def _index(self, node: ast.expr) -> int:
        index = (
            None if isinstance(node, ast.Tuple) else self.values.known(self.value(node))
        )
        if isinstance(index, int):
            return index
        problem = "the index has to be a written whole number; write the parts out, as "
        raise refuse(node, f"{problem}in sum(c * m for c, m in zip(cs, ms))")

    def _attribute(self, node: ast.Attribute) -> Value:
        path, at = self.path(node), place(node)
        if path in CONSTANTS:
            return Number(CONSTANTS[path], at)
        if path in CALLS:
            return Path(path)
        if path is not None:
            raise refuse(at, of_call(path, CALLS))
        match node:
            case ast.Attribute(attr="size"):
                array = self.values.number(self.value(node.value), place(node.value))
                return Call("size", (array,), at)
            case ast.Attribute(attr="shape"):
                return shape_of(self.values, self.value(node.value), at)
            case ast.Attribute(value=ast.Call(func=made, args=[dtype]), attr=name) if (
                name in _FINFO
                and self.path(made) == "jax.numpy.finfo"
                and (self.path(dtype) or "jax.numpy.float32") == "jax.numpy.float32"
                and self.dtype(dtype) == "float"
            ):
                return self.values.array(Number(_FINFO[name], at))
        raise self.no_attribute(node)

    def path(self, node: ast.expr) -> str | None:
        """Return the full path of ``jnp.where`` and the like, else ``None``."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id in self.scope:
            return None
        module = self.modules.get(node.id)
        return ".".join([module, *reversed(parts)]) if module else None
