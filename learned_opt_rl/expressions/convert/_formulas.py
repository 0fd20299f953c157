"""The expressions of a Python proposal."""

from __future__ import annotations

import ast
import math
from collections import ChainMap
from collections.abc import Mapping, Sequence

from learned_opt_rl.checks import suggest
from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._functions import NUMBERS
from learned_opt_rl.expressions._language import (
    LOGICAL,
    SYMBOLS,
    Binary,
    Call,
    Expression,
    Kind,
    Name,
    Number,
    Unary,
    shorten,
)
from learned_opt_rl.expressions._text import place
from learned_opt_rl.expressions.convert._calls import CALLS, METHODS, bind
from learned_opt_rl.expressions.convert._hints import INSTEAD, LACKING, WHOLE_ARRAY
from learned_opt_rl.expressions.convert._noise import Noise
from learned_opt_rl.expressions.convert._static import written
from learned_opt_rl.expressions.convert._values import (
    Builder,
    Closure,
    Key,
    Path,
    Value,
    Values,
    Whole,
    arity,
    refuse,
)

# These bounds keep hostile code from unrolling forever; they are generous for formulas.
_MAX_STEPS = 8192
_MAX_INLINING = 8
CONSTANTS = {f"jax.numpy.{name}": value for name, value in NUMBERS.items()}
CONSTANTS |= {"math.pi": math.pi, "math.e": math.e}
# Functions of Python's math. They take Python's numbers only.
_OF_NUMBERS = "sqrt exp log log2 log10 log1p expm1 pow sin cos tan tanh sinh cosh atan"
MATH = {f"math.{name}": f"jax.numpy.{name}" for name in _OF_NUMBERS.split()}
DTYPES = {
    **dict.fromkeys(("float", "jax.numpy.float32", "jax.numpy.float64"), "float"),
    **dict.fromkeys(("bool", "jax.numpy.bool", "jax.numpy.bool_"), "bool"),
    **dict.fromkeys(("int", "jax.numpy.int32", "jax.numpy.int64"), "int"),
}
_UNKNOWN = "is not part of the language; write the expression without it"
_SHAPES = ("shape", "T", "ndim", "reshape", "ravel", "flatten", "at")
_SAME_SHAPE = "all arrays here have the shape of the parameters; remove it"
_UNEQUAL = "both sides have to return as many numbers; return equally many"
# Parameters that change nothing here; their arguments are not read.
_IGNORED = ("copy", "keepdims", "dtype")


class Formulas(Noise):
    """Converts the expressions of a proposal. ``scope`` has the values of its names."""

    # The logic of arrays is written with & | ~ in place of and, or, not.
    symbols = {
        **{syntax: s for syntax, s in SYMBOLS.items() if s not in LOGICAL},
        **{ast.BitAnd: "and", ast.BitOr: "or", ast.Invert: "not", ast.BitXor: "^"},
        **{ast.FloorDiv: "floor_divide", ast.Mod: "mod"},
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

    def comprehension(self, node: ast.ListComp | ast.GeneratorExp) -> Value:
        """Convert a comprehension to a tuple."""
        raise NotImplementedError

    def decide(self, node: ast.If | ast.IfExp) -> bool:
        """Return which side a test of written numbers takes; refuse any other test."""
        values = self.values
        found = written(self.value(node.test), values.assignments, values.slots)
        if found is None:
            raise self.unknown(node, node)
        return bool(found)

    # ----------------------------------------------------------------- expressions

    def value(self, node: ast.expr) -> Value:
        self.count(node)
        match node:
            case ast.Constant(value=None):
                return None
            case ast.Constant(value=bool() as truth):
                # A condition of numbers, which `decide` and jnp.where take.
                zero = Number(0.0, place(node))
                return Binary("==" if truth else "!=", zero, zero, place(node))
            case ast.Constant(value=int() as whole):
                number = self.number(node)
                return Number(Whole(whole), number.at)
            case ast.Constant():
                return self.number(node)
            case ast.Name():
                return self._name(node)
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
                return self.comprehension(node)
            case ast.IfExp():
                return self.value(node.body if self.decide(node) else node.orelse)
            case ast.NamedExpr():
                self.bind(node.target, self.value(node.value))
                return self.value(node.target)
        return self.operation(node)

    def apply(
        self, symbol: str, operands: Sequence[ast.expr], node: ast.expr
    ) -> Expression:
        values = [self.value(operand) for operand in operands]
        if symbol == "^":
            if not all(map(self.values.is_condition, values)):
                raise refuse(node, "^ is not a power in Python; write a ** b")
            symbol = "!="
        return self.values.apply(symbol, values, place(node))

    def closure(self, node: ast.FunctionDef | ast.Lambda) -> Closure:
        """Return a function with the values that its defaults have here."""
        defaults = tuple(
            self.values.keep(self.value(default)) for default in node.args.defaults
        )
        return Closure(node, self.scope, defaults)

    def _name(self, node: ast.Name) -> Value:
        if node.id in self.scope:
            return self.scope[node.id]
        path = self.modules.get(node.id)
        if path in CONSTANTS:
            return Number(CONSTANTS[path], place(node))
        if path in CALLS:
            return Path(path)
        problem = f"unknown name {shorten(node.id)!r}; {suggest(node.id, self.scope)}"
        if path is not None:
            problem = f"{node.id!r} is a module; call one of its functions"
        if node.id == "key":
            problem = self.no_random
        raise refuse(node, problem)

    def _element(self, node: ast.Subscript) -> Value:
        found, at = self.value(node.value), place(node)
        if not isinstance(found, tuple):
            problem = f"an array cannot be indexed; {_SAME_SHAPE}"
            raise refuse(at, problem, "shape_error")
        index, sign = self.value(node.slice), 1
        if isinstance(index, Unary):
            index, sign = index.operand, -1
        if isinstance(index, Number) and index.value.is_integer():
            position = sign * int(index.value)
            if -len(found) <= position < len(found):
                return found[position]
        raise refuse(at, f"the index has to be a written number below {len(found)}")

    def _attribute(self, node: ast.Attribute) -> Value:
        path, at = self.path(node), place(node)
        if path in CONSTANTS:
            return Number(CONSTANTS[path], at)
        if path in CALLS:
            return Path(path)
        if path is not None:
            raise refuse(at, f"{shorten(path)} {_UNKNOWN}")
        if node.attr == "size":
            array = self.values.number(self.value(node.value), place(node.value))
            return Call("size", (array,), at)
        raise self._no_attribute(node)

    def _no_attribute(self, node: ast.Attribute) -> ExpressionError:
        if node.attr in _SHAPES:
            problem = f".{node.attr} changes or reads a shape; {_SAME_SHAPE}"
            return refuse(node, problem, "shape_error")
        return refuse(node, f"the attribute {shorten(node.attr)!r} {_UNKNOWN}")

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

    # ----------------------------------------------------------------------- calls

    def _call(self, node: ast.Call) -> Value:
        path, at = self.path(node.func), place(node)
        if path == "jax.lax.cond":
            return self._cond(node)
        if path in MATH:
            return self._of_numbers(MATH[path], node)
        if path in CALLS:
            return self._build(CALLS[path], node.args, node)
        if path is not None and path.startswith("jax.random."):
            return self.random(path, node)
        if path is not None:
            name = path.rpartition(".")[2][:64]
            if name in LACKING:
                problem = f"{path[:64]} is not part of the language; it {LACKING[name]}"
                raise refuse(at, problem)
            known = sorted({known.rpartition(".")[2] for known in CALLS})
            hint = suggest(name, known)
            raise refuse(at, f"{path[:64]} is not part of the language; {hint}")
        if isinstance(node.func, ast.Name) and node.func.id not in self.scope:
            return self._builtin(node, node.func.id)
        if isinstance(node.func, ast.Attribute):
            return self._method(node, node.func)
        function = self.value(node.func)
        positional = [self.value(argument) for argument in node.args]
        keywords = {k.arg or "**": self.value(k.value) for k in node.keywords}
        return self._apply(function, positional, node, keywords)

    def _build(
        self,
        entry: tuple[str, str | Builder],
        positional: list[ast.expr],
        node: ast.Call,
    ) -> Value:
        """Convert a call of a function with these parameters."""
        (parameters, builder), at = entry, place(node)
        bound = bind(parameters, positional, node.keywords, at)
        read = {n: self.value(given) for n, given in bound.items() if n not in _IGNORED}
        result = self.values.build(parameters, builder, read, at)
        return self._cast(result, bound["dtype"], at) if "dtype" in bound else result

    def _of_numbers(self, path: str, node: ast.Call) -> Value:
        """Convert a function of Python's math, which takes no array."""
        values = [self.value(argument) for argument in node.args]
        if not all(map(self.values.is_static, values)) or node.keywords:
            name = path.rpartition(".")[2]
            raise refuse(node, f"math.{name} takes one number; write jnp.{name}(x)")
        return self._apply(Path(path), values, node)

    def _builtin(self, node: ast.Call, name: str) -> Value:
        """Convert ``abs``, ``sum``, ``len`` and the like, Python's own functions."""
        at = place(node)
        if name not in ("abs", "sum", "len", "float", "min", "max", "pow"):
            raise refuse(at, f"the function {shorten(name)!r} {_UNKNOWN}")
        values = [self.value(argument) for argument in node.args]
        static = not node.keywords and all(map(self.values.is_static, values))
        if name in ("min", "max") and values:
            if static and len(values) > 1:
                return self.values.call(name, values, at)
            raise refuse(at, f"{name} needs {WHOLE_ARRAY} jnp.{name}imum(a, b)")
        match name, values:
            case "pow", [base, exponent]:
                return self.values.apply("**", [base, exponent], at)
            case "abs", [value]:
                return self.values.call("abs", [value], at)
            case "float", [value] if static:
                return self.values.floating(value, at)
            case "sum", [tuple() as parts]:
                return self.values.total(parts, at)
            case "len", [tuple() as parts]:
                return Number(Whole(len(parts)), at)
        wanted = "a written number" if name == "float" else "a tuple"
        raise refuse(at, f"{name} needs {wanted} here; write the expression without it")

    def _method(self, node: ast.Call, function: ast.Attribute) -> Value:
        """Convert ``x.mean()`` and the like."""
        if function.attr in METHODS:
            given = [function.value, *node.args]
            return self._build(METHODS[function.attr], given, node)
        if function.attr != "astype" or len(node.args) != 1 or node.keywords:
            raise self._no_attribute(function)
        value = self.value(function.value)
        if self.values.is_static(value):
            problem = "a Python number has no .astype; write jnp.float32(x)"
            raise refuse(node, problem)
        return self._cast(value, node.args[0], place(node))

    def _cast(self, value: Value, dtype: ast.expr, at: tuple[int, int]) -> Value:
        """Convert ``astype``; a number cannot become an integer."""
        kind = self._dtype(dtype)
        if kind == "float":
            return self.values.floating(value, at)
        if kind == "bool":
            return self.values.truth(value, at)
        number = self.values.number(value, at)
        if kind == "int" and self.values.is_whole(number):
            return number
        raise refuse(at, "this astype cannot be converted; write astype(jnp.float32)")

    def _dtype(self, node: ast.expr) -> str | None:
        match node:
            case ast.Constant(value=str() as name):
                return DTYPES.get(name, DTYPES.get(f"jax.numpy.{name}"))
            case ast.Name(id=name) if name not in self.modules:
                return DTYPES.get(name)
            case ast.Attribute(attr="dtype") if self.path(node) is None:
                value = self.value(node.value)
                whole = self.values.is_whole(self.values.number(value, place(node)))
                alike = "bool" if self.values.is_condition(value) else "int"
                return alike if whole else "float"
        return DTYPES.get(self.path(node) or "")

    def _cond(self, node: ast.Call) -> Value:
        """Convert ``lax.cond(condition, if_true, if_false, *operands)``."""
        at = place(node)
        if len(node.args) < 3 or node.keywords:
            problem = "this call is incomplete; write jax.lax.cond(condition, if_true, "
            raise refuse(at, f"{problem}if_false, ...)")
        condition = self.values.condition(self.value(node.args[0]), at)
        condition = self.values.assigned("condition", condition)
        operands = [self.values.keep(self.value(operand)) for operand in node.args[3:]]
        results = []
        for side in node.args[1:3]:
            function = self.value(side)
            if not isinstance(function, Closure | Path):
                raise refuse(side, "jax.lax.cond takes functions; write lambda: ...")
            results.append(self._apply(function, operands, side))
        return self._choose(condition, results[0], results[1], node)

    def _choose(
        self, condition: Expression, left: Value, right: Value, node: ast.expr
    ) -> Value:
        """Build ``where``, part by part for tuples of equal length."""
        self.count(node)
        if isinstance(left, tuple) and isinstance(right, tuple):
            if len(left) != len(right):
                raise refuse(node, _UNEQUAL)
            pairs = zip(left, right, strict=True)
            parts = (self._choose(condition, a, b, node) for a, b in pairs)
            return tuple(self.values.keep(part) for part in parts)
        if isinstance(left, tuple) or isinstance(right, tuple):
            raise refuse(node, _UNEQUAL)
        return self.values.choose(condition, left, right, place(node))

    def _apply(
        self,
        function: Value,
        positional: Sequence[Value],
        node: ast.expr,
        keywords: Mapping[str, Value] | None = None,
    ) -> Value:
        """Convert a call of a function that a name or an expression stands for."""
        if isinstance(function, Closure):
            return self._inline(function, positional, keywords or {}, node)
        if not isinstance(function, Path) or keywords:
            problem = "only functions can be called; call one without keywords"
            raise refuse(node, problem)
        parameters, builder = CALLS[function.path]
        names = parameters.replace("?", "").split()
        if len(positional) not in arity(parameters):
            raise refuse(node, f"this call takes ({', '.join(names)})")
        given = dict(zip(names, positional, strict=False))
        return self.values.build(parameters, builder, given, place(node))

    def _inline(
        self,
        closure: Closure,
        positional: Sequence[Value],
        keywords: Mapping[str, Value],
        node: ast.expr,
    ) -> Value:
        """Convert a nested function at the place of its call."""
        parameters, at = closure.definition.args, place(node)
        names = [argument.arg for argument in parameters.args]
        unusual = parameters.vararg or parameters.kwarg or parameters.kwonlyargs
        first = len(names) - len(closure.defaults)
        given = dict(zip(names[first:], closure.defaults, strict=True))
        given |= dict(zip(names, positional, strict=False)) | dict(keywords)
        twice = set(names[: len(positional)]) & {*keywords}
        misfit = set(given) != set(names) or len(positional) > len(names) or twice
        if unusual or parameters.posonlyargs or misfit:
            problem = f"the function takes ({', '.join(names)}) and is given "
            problem += f"{len(positional) + len(keywords)} arguments; give each once, "
            raise refuse(at, f"{problem}without *")
        if self.inlining == _MAX_INLINING:
            problem = "functions call each other too deeply; write the steps out"
            raise refuse(at, problem, "size_error")
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
