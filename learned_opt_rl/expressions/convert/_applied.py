"""The calls of a Python proposal."""

from __future__ import annotations

import ast
from collections.abc import Sequence

from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._language import Expression, Number, shorten
from learned_opt_rl.expressions._text import place
from learned_opt_rl.expressions.convert._calls import CALLS, METHODS, bind
from learned_opt_rl.expressions.convert._hints import (
    SHAPES,
    WHOLE_ARRAY,
    of_attribute,
    of_builtin,
    of_call,
)
from learned_opt_rl.expressions.convert._kinds import (
    Builder,
    Closure,
    Path,
    Value,
    refuse,
)
from learned_opt_rl.expressions.convert._noise import Noise
from learned_opt_rl.expressions.convert._static import Whole, literal
from learned_opt_rl.expressions.convert._values import arity

# This bound keeps hostile code from unrolling forever; it is generous for formulas.
_MAX_INLINING = 8
_BUILTINS = ("abs", "sum", "len", "float", "int", "list", "tuple", "min", "max", "pow")
# Functions of Python's math. They take Python's numbers only.
_OF_NUMBERS = "sqrt exp log log2 log10 log1p expm1 pow sin cos tan tanh sinh cosh atan"
MATH = {f"math.{name}": f"jax.numpy.{name}" for name in _OF_NUMBERS.split()}
DTYPES = {
    **dict.fromkeys(("float", "jax.numpy.float32", "jax.numpy.float64"), "float"),
    **dict.fromkeys(("bool", "jax.numpy.bool", "jax.numpy.bool_"), "bool"),
    **dict.fromkeys(("int", "jax.numpy.int32", "jax.numpy.int64"), "int"),
}
_UNEQUAL = "both sides have to return as many numbers; return equally many"
# Parameters that change nothing here; their arguments are not read.
_IGNORED = ("copy", "keepdims", "dtype")


class Calls(Noise):
    """Converts calls, of jax and of functions that the proposal defines."""

    inlining: int
    modules: dict[str, str]

    def count(self, node: ast.AST) -> None:
        """Count a step, and raise above the limit."""
        raise NotImplementedError

    def run(self, definition: ast.FunctionDef) -> Value:
        """Convert the statements of a function up to its return."""
        raise NotImplementedError

    def call(self, node: ast.Call) -> Value:
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
            raise refuse(at, of_call(path, CALLS))
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
        if "dtype" in bound:
            result = self._cast(result, bound["dtype"], at)
        return self.values.array(result)

    def _of_numbers(self, path: str, node: ast.Call) -> Value:
        """Convert a function of Python's math, which takes no array."""
        values = [self.value(argument) for argument in node.args]
        if not all(map(self.values.is_static, values)) or node.keywords:
            name = path.rpartition(".")[2]
            raise refuse(node, f"math.{name} takes one number; write jnp.{name}(x)")
        return self._jax(path, values, node)

    def _builtin(self, node: ast.Call, name: str) -> Value:
        """Convert ``abs``, ``sum``, ``len`` and the like, Python's own functions."""
        at = place(node)
        if name not in _BUILTINS:
            raise refuse(at, of_builtin(name))
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
                return self.values.build("x", "abs(a)", {"x": value}, at)
            case "int", [value] if (number := self.values.known(value)) is not None:
                return literal(int(number), at)
            case (("list" | "tuple"), [tuple() as parts]):
                return tuple(parts)
            case "float", [value] if static:
                return self.values.floating(value, at)
            case "sum", [tuple() as parts]:
                return self.values.total(parts, at)
            case "len", [tuple() as parts]:
                return Number(Whole(len(parts)), at)
        wanted = "a written number" if name in ("float", "int") else "a tuple"
        fix = "jnp.float32(x)" if name == "float" else "the expression without it"
        raise refuse(at, f"{name} needs {wanted} here; write {fix}")

    def _method(self, node: ast.Call, function: ast.Attribute) -> Value:
        """Convert ``x.mean()`` and the like."""
        if function.attr == "reshape" and len(node.args) != 1:
            raise self.no_attribute(function)
        if function.attr in METHODS:
            given = [function.value, *node.args]
            return self._build(METHODS[function.attr], given, node)
        if function.attr != "astype" or len(node.args) != 1 or node.keywords:
            raise self.no_attribute(function)
        value = self.value(function.value)
        if self.values.is_static(value):
            problem = "a Python number has no .astype; write jnp.float32(x)"
            raise refuse(node, problem)
        return self.values.array(self._cast(value, node.args[0], place(node)))

    def _cast(self, value: Value, dtype: ast.expr, at: tuple[int, int]) -> Value:
        """Convert ``astype``; a number cannot become an integer."""
        kind = self.dtype(dtype)
        if kind == "float":
            return self.values.floating(value, at)
        if kind == "bool":
            return self.values.truth(value, at)
        number = self.values.number(value, at)
        if kind == "int" and self.values.is_whole(number):
            return number
        raise refuse(at, "this astype cannot be converted; write astype(jnp.float32)")

    def dtype(self, node: ast.expr) -> str | None:
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
        parameters = "pred true_fun false_fun operand?"
        bound = bind(parameters, node.args[:3], node.keywords, at)
        condition = self.values.condition(self.value(bound["pred"]), at)
        condition = self.values.assigned("condition", condition)
        given = [*node.args[3:], *([bound["operand"]] if "operand" in bound else ())]
        operands = [self.values.keep(self.value(operand)) for operand in given]
        results = []
        for side in (bound["true_fun"], bound["false_fun"]):
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
        return self.values.array(
            self.values.choose(condition, left, right, place(node))
        )

    def _apply(
        self,
        function: Value,
        positional: Sequence[Value],
        node: ast.expr,
        keywords: dict[str, Value] | None = None,
    ) -> Value:
        """Convert a call of a function that a name or an expression stands for."""
        if isinstance(function, Closure):
            return self._inline(function, positional, keywords or {}, node)
        if not isinstance(function, Path) or keywords:
            problem = "only functions can be called; call one without keywords"
            raise refuse(node, problem)
        return self.values.array(self._jax(function.path, positional, node))

    def _jax(self, path: str, positional: Sequence[Value], node: ast.expr) -> Value:
        """Convert a call of a function of jax with converted arguments."""
        parameters, builder = CALLS[path]
        names = parameters.replace("?", "").split()
        if len(positional) not in arity(parameters):
            raise refuse(node, f"this call takes ({', '.join(names)})")
        given = dict(zip(names, positional, strict=False))
        return self.values.build(parameters, builder, given, place(node))

    def _inline(
        self,
        closure: Closure,
        positional: Sequence[Value],
        keywords: dict[str, Value],
        node: ast.expr,
    ) -> Value:
        """Convert a nested function at the place of its call."""
        parameters, at = closure.definition.args, place(node)
        names = [argument.arg for argument in parameters.args]
        given = closure.defaults | dict(zip(names, positional, strict=False)) | keywords
        wanted = {*names, *(argument.arg for argument in parameters.kwonlyargs)}
        twice = {*names[: len(positional)]} & {*keywords}
        misfit = {*given} != wanted or len(positional) > len(names) or twice
        if parameters.vararg or parameters.kwarg or parameters.posonlyargs or misfit:
            problem = f"the function takes ({shorten(', '.join(names), 120)}) and is "
            problem += f"given {len(positional) + len(keywords)} arguments; give each "
            raise refuse(at, f"{problem}once, without *")
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

    def no_attribute(self, node: ast.Attribute) -> ExpressionError:
        """Build the error for an attribute that cannot be converted."""
        category = "shape_error" if node.attr in SHAPES else "forbidden_syntax"
        return refuse(node, of_attribute(node.attr), category)
