"""The expressions of a Python proposal."""

from __future__ import annotations

import ast
import math
from collections import ChainMap
from collections.abc import Sequence
from typing import Any

from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._functions import NUMBERS
from learned_opt_rl.expressions._language import (
    LOGICAL,
    SYMBOLS,
    Expression,
    Kind,
    Name,
    Number,
    shorten,
)
from learned_opt_rl.expressions._text import Reader, place
from learned_opt_rl.expressions.convert._calls import (
    ATTRIBUTES,
    BUILTINS,
    CALLS,
    DTYPES,
    METHODS,
    bind,
    called,
    turns,
)
from learned_opt_rl.expressions.convert._hints import (
    INSTEAD,
    SHAPES,
    lacking,
    of_call,
    of_name,
)
from learned_opt_rl.expressions.convert._kinds import (
    Arguments,
    Closure,
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

# These bounds keep hostile code from unrolling forever; they are generous for formulas.
_MAX_INLINING = 8
_MAX_STEPS = 8192
_COND = "jax.lax.cond"
_LONGEST = 1024  # parts of a tuple that operators make
CONSTANTS = {f"jax.numpy.{name}": value for name, value in NUMBERS.items()}
CONSTANTS |= {"math.pi": math.pi, "math.e": math.e}
# Of float32, the dtype in which an expression is computed.
_FINFO = {"eps": 2.0**-23, "tiny": 2.0**-126, "smallest_normal": 2.0**-126}
_SAME_SHAPE = "all arrays here have the shape of the parameters; remove it"


class Formulas(Reader):
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

    def run(self, definition: ast.FunctionDef) -> Value:
        """Convert the statements of a function up to its return."""
        raise NotImplementedError

    def decide(self, node: ast.If | ast.IfExp) -> bool:
        """Return which side a test of what Python knows takes; refuse any other."""
        return self._decided(self.value(node.test), node, node)

    def _decided(self, value: Value, syntax: ast.AST, node: ast.AST) -> bool:
        truth = self._truth(value)
        if truth is None:
            raise self.unknown(syntax, node)
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
                    if self._decided(value, node, node) == isinstance(operator, ast.Or):
                        return value
                return self.value(last)
            case ast.UnaryOp(op=ast.Not() as operator, operand=operand):
                truth = self._decided(self.value(operand), operator, node)
                return literal(not truth, place(node))
            case ast.UnaryOp(op=ast.UAdd()):
                value = self.value(node.operand)
                condition = self.values.is_condition(value)
                return value if condition else self.values.number(value, place(node))
            case ast.Call():
                return self._call(node)
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
                return self._comprehension(node)
            case ast.IfExp():
                return self.value(node.body if self.decide(node) else node.orelse)
            case ast.NamedExpr():
                self.bind(node.target, self.value(node.value))
                return self.value(node.target)
        return self.operation(node)

    def apply(self, symbol: str, operands: Sequence[ast.expr], node: ast.expr) -> Any:
        values = [self.value(operand) for operand in operands]
        left, right = values[0], values[-1]
        texts = any(value is None or isinstance(value, str) for value in values)
        same = symbol in ("==", "!=") and None not in map(self._truth, values)
        if texts and (same or symbol in ("is", "is not")):
            return literal((left == right) == (symbol in ("==", "is")), place(node))
        if symbol in ("is", "is not"):
            raise self.unknown(ast.Is(), node)
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
            at = place(node)
            return self.values.each(
                lambda one: self.values.apply(symbol, [*one.values()], at), given, at
            )
        times = self.values.known(right)
        if symbol == "+" and isinstance(left, tuple) and isinstance(right, tuple):
            joined = left + right
        elif symbol == "*" and isinstance(left, tuple) and type(times) is int:
            joined = left * min(times, _LONGEST + 1)
        else:
            problem = "a tuple has no arithmetic; write jnp.stack((a, b)), or the parts"
            raise refuse(node, problem)
        if len(joined) > _LONGEST:
            raise refuse(node, "this tuple is too long; write it shorter", "size_error")
        return joined

    def closure(self, node: ast.FunctionDef | ast.Lambda) -> Closure:
        """Return a function with the values that its defaults have here."""
        given = defaults_of(node.args)
        defaults = {n: self.values.keep(self.value(d)) for n, d in given.items()}
        return Closure(node, self.scope, defaults)

    def _name(self, node: ast.Name) -> Value:
        if node.id in self.scope:
            return self.scope[node.id]
        path = self.path(node)
        if path in self.modules.values() and path not in CALLS:
            raise refuse(node, f"{node.id!r} is a module; call one of its functions")
        if path is not None:
            return self._found(path, node)
        problem = f"unknown name {shorten(node.id)!r}; {of_name(node.id, self.scope)}"
        raise refuse(node, self.no_random if node.id == "key" else problem)

    def _found(self, path: str, node: ast.expr) -> Value:
        """Return what a path stands for: a constant, a function or a dtype."""
        if path in CONSTANTS:
            return Number(CONSTANTS[path], place(node))
        random = path.startswith("jax.random.")
        if random and not (path in CALLS and isinstance(self.scope.get("key"), Key)):
            raise refuse(node, self.no_random)
        if path in CALLS or path in DTYPES or path == _COND:
            return Path(path)
        raise refuse(node, of_call(path, CALLS))

    def _comprehension(self, node: ast.ListComp | ast.GeneratorExp) -> Value:
        """Convert a comprehension over what a loop may run over, to a tuple."""
        match node.generators:
            case [ast.comprehension(target, source, [], 0)] if not any(
                isinstance(part, ast.NamedExpr) for part in ast.walk(node)
            ):
                pass
            case _:
                problem = "a comprehension has one loop, without if and :="
                problem += "; write the terms out"
                raise refuse(node, problem)
        before, rows = self.scope, turns(self.value(source), place(source))
        self.scope = before.new_child()
        try:
            found = []
            for row in rows:
                # A target is local, also if it has the name of memory.
                self.inlining += 1
                self.bind(target, row, count=True)
                self.inlining -= 1
                found.append(self.values.keep(self.value(node.elt)))
            return tuple(found)
        finally:
            self.scope = before

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
        known = self.values.known
        index = None if isinstance(node, ast.Tuple) else known(self.value(node))
        if isinstance(index, int):
            return index
        problem = "the index has to be a written whole number; write the parts out, as "
        raise refuse(node, f"{problem}in sum(c * m for c, m in zip(cs, ms))")

    def _attribute(self, node: ast.Attribute) -> Value:
        path, at = self.path(node), place(node)
        if path is not None:
            return self._found(path, node)
        if node.attr in ATTRIBUTES:
            array = self.value(node.value)
            return called(self.values, ATTRIBUTES[node.attr], [array], {}, at)
        match node:
            case ast.Attribute(value=ast.Call(func=made, args=[dtype]), attr=name) if (
                name in _FINFO and self.path(made) == "jax.numpy.finfo"
            ):
                self.value(dtype)
                return self.values.array(Number(_FINFO[name], at))
        raise _no_attribute(node)

    def path(self, node: ast.expr) -> str | None:
        """Return the full path of ``jnp.where`` and the like, else ``None``."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id in self.scope:
            return None
        module = self.modules.get(node.id) or BUILTINS.get(node.id)
        return ".".join([module, *reversed(parts)]) if module else None

    # ----------------------------------------------------------------------- calls

    def _call(self, node: ast.Call) -> Value:
        function, arguments = self._called(node.func)
        arguments += [self.value(argument) for argument in node.args]
        keywords = {k.arg or "**": self.value(k.value) for k in node.keywords}
        return self._apply(function, arguments, keywords, node)

    def _called(self, node: ast.expr) -> tuple[Value, list[Value]]:
        """Return the function of a call, and the array whose method it is."""
        path = self.path(node)
        if isinstance(node, ast.Attribute) and path is None:
            if node.attr not in METHODS:
                raise _no_attribute(node)
            return Path(METHODS[node.attr]), [self.value(node.value)]
        if isinstance(node, ast.Name) and path is None and node.id not in self.scope:
            raise refuse(node, lacking("function", node.id))
        return self.value(node), []

    def _cond(
        self, positional: Sequence[Value], keywords: Arguments, node: ast.Call
    ) -> Value:
        """Convert ``lax.cond(condition, if_true, if_false, *operands)``."""
        parameters, at = "pred true_fun false_fun operand? operands*", place(node)
        pred, *sides, last = bind(parameters, positional, keywords, at).values()
        condition = self.values.condition(pred, at)
        condition = self.values.assigned("condition", condition)
        assert isinstance(last, tuple)
        operands = [self.values.keep(operand) for operand in (*sides[2:], *last)]
        if not all(isinstance(side, Closure | Path) for side in sides[:2]):
            raise refuse(at, "jax.lax.cond takes functions; write lambda: ...")
        results = [self._apply(side, operands, {}, node) for side in sides[:2]]
        return self._choose(condition, results[0], results[1], node)

    def _choose(
        self, condition: Expression, left: Value, right: Value, node: ast.expr
    ) -> Value:
        """Build ``where``, part by part for tuples of equal length."""
        self.count(node)
        lengths = {len(s) if isinstance(s, tuple) else None for s in (left, right)}
        if len(lengths) > 1:
            problem = "both sides have to return as many numbers; return equally many"
            raise refuse(node, problem)
        if isinstance(left, tuple) and isinstance(right, tuple):
            pairs = zip(left, right, strict=True)
            parts = (self._choose(condition, a, b, node) for a, b in pairs)
            return tuple(self.values.keep(part) for part in parts)
        return self.values.array(
            self.values.choose(condition, left, right, place(node))
        )

    def _apply(
        self,
        function: Value,
        positional: Sequence[Value],
        keywords: Arguments,
        node: ast.Call,
    ) -> Value:
        """Convert a call of a function with converted arguments."""
        if function == Path(_COND):
            return self._cond(positional, keywords, node)
        if isinstance(function, Path):
            at = place(node)
            return called(self.values, function.path, positional, keywords, at)
        if isinstance(function, Closure):
            return self._inline(function, positional, keywords, node)
        raise refuse(node, "only functions can be called; write a * b for a product")

    def _inline(
        self,
        closure: Closure,
        positional: Sequence[Value],
        keywords: Arguments,
        node: ast.Call,
    ) -> Value:
        """Convert a nested function at the place of its call."""
        parameters, at = closure.definition.args, place(node)
        plain = not (parameters.vararg or parameters.kwarg or parameters.posonlyargs)
        if not plain or len(positional) > len(parameters.args):
            names = ", ".join(argument.arg for argument in parameters.args)
            takes = f"this call takes ({shorten(names, 120)})"
            raise refuse(at, f"{takes}; write these arguments out, without *")
        if self.inlining == _MAX_INLINING:
            problem = "functions call each other too deeply; write the steps out"
            raise refuse(at, problem, "size_error")
        names = [a.arg for a in (*parameters.args, *parameters.kwonlyargs)]
        form = " ".join(f"{n}?" if n in closure.defaults else n for n in names)
        given = closure.defaults | bind(form, positional, keywords, at)
        bound = {name: self.values.keep(value, name) for name, value in given.items()}
        before, self.scope = self.scope, closure.scope.new_child(bound)
        self.inlining += 1
        try:
            if isinstance(closure.definition, ast.Lambda):
                return self.value(closure.definition.body)
            return self.run(closure.definition)
        finally:
            self.scope = before
            self.inlining -= 1


def _no_attribute(node: ast.Attribute) -> ExpressionError:
    """Build the error for an attribute that cannot be converted."""
    category = "shape_error" if node.attr in SHAPES else "forbidden_syntax"
    return refuse(node, lacking("attribute", node.attr), category)
