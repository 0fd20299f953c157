"""The statements and expressions of a Python proposal.

Each Python assignment becomes an assignment to a new name (``x``, ``x_2``, ...), so
that earlier values stay readable; only memory is assigned in place.
"""

from __future__ import annotations

import ast
import math
from collections import ChainMap
from collections.abc import Sequence

from learned_opt_rl.checks import suggest
from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._language import (
    LOGICAL,
    SYMBOLS,
    Call,
    Expression,
    Kind,
    Name,
    Number,
    Unary,
    shorten,
)
from learned_opt_rl.expressions._text import Reader, place
from learned_opt_rl.expressions.convert._calls import (
    CALLS,
    METHODS,
    REDUCTION,
    Builder,
    Closure,
    Value,
    Values,
    bind,
    check_power,
    refuse,
)

# These bounds keep hostile code from unrolling forever; they are generous for formulas.
_MAX_STEPS = 8192
_MAX_INLINING = 8
_MAX_TURNS = 64
_IN_A_FORMULA = "has no use in a formula; remove it"
_WHOLE_ARRAY = "the truth value of a whole array, which is ambiguous; write"
_INSTEAD: dict[type[ast.AST], str] = {
    ast.If: "if decides once for all elements; write jnp.where(condition, a, b)",
    ast.IfExp: "a if c else b decides once for all elements; write jnp.where(c, a, b)",
    ast.While: "a while loop may never end; write the steps out",
    ast.BoolOp: f"'and' and 'or' need {_WHOLE_ARRAY} (a) & (b), (a) | (b)",
    ast.Compare: f"a < b < c needs {_WHOLE_ARRAY} (a < b) & (b < c)",
    ast.Not: f"not needs {_WHOLE_ARRAY} ~condition",
    ast.JoinedStr: f"a formatted string {_IN_A_FORMULA}",
    ast.Try: "errors cannot be caught in a formula; remove try",
    ast.With: f"with {_IN_A_FORMULA}",
    ast.Assert: f"assert {_IN_A_FORMULA}",
    ast.ClassDef: f"a class {_IN_A_FORMULA}",
    ast.ListComp: "a comprehension cannot be converted; write the terms out",
    ast.GeneratorExp: "a comprehension cannot be converted; write the terms out",
    ast.NamedExpr: ":= cannot be converted; assign on a line of its own",
    ast.Starred: "* before an argument cannot be converted; write the arguments out",
    ast.MatMult: "@ mixes elements; write a formula per element",
    ast.FloorDiv: "// cannot be converted; write jnp.floor(a / b)",
    ast.Mod: "% cannot be converted; write a - b * jnp.floor(a / b)",
    ast.BitXor: "^ is not a power in Python; write a ** b",
}
_NUMBERS = {"jax.numpy.pi": math.pi, "jax.numpy.e": math.e}
_MODULES = ("jax", "jax.numpy", "jax.nn", "jax.lax")
_UNKNOWN = "is not part of the language; write the formula without it"
_SHAPES = ("shape", "T", "ndim", "reshape", "ravel", "flatten", "at")
_SAME_SHAPE = "all arrays here have the shape of the parameters; remove it"
_UNEQUAL = "both sides have to return as many numbers; return equally many"
# Parameters that change nothing here; their arguments are not read.
_IGNORED = ("copy", "keepdims")


class Body(Reader):
    """Converts the body of a proposal; ``scope`` holds what its names stand for."""

    # The logic of arrays is written with & | ~ in place of and, or, not.
    symbols = {
        **{syntax: s for syntax, s in SYMBOLS.items() if s not in LOGICAL},
        **{ast.BitAnd: "and", ast.BitOr: "or", ast.Invert: "not"},
    }
    instead = _INSTEAD

    def __init__(
        self, kind: Kind, arguments: dict[str, Name], slots: tuple[str, ...], fix: str
    ) -> None:
        self.no_random = f"random numbers cannot be drawn here; {fix}"
        self.scope: ChainMap[str, Value] = ChainMap({**arguments})
        self.modules = {"jnp": "jax.numpy", "nn": "jax.nn", "jnn": "jax.nn"}
        self.modules |= {"jax": "jax", "lax": "jax.lax"}
        self.values = Values(kind, [name.name for name in arguments.values()], slots)
        self.steps = self.inlining = 0

    def _count(self, node: ast.AST) -> None:
        self.steps += 1
        if self.steps > _MAX_STEPS:
            problem = "loops and calls unroll to too many steps; write fewer"
            raise refuse(node, problem, "size_error")

    # ----------------------------------------------------------------- expressions

    def value(self, node: ast.expr) -> Value:
        self._count(node)
        match node:
            case ast.Constant(value=None):
                return None
            case ast.Constant():
                return self.number(node)
            case ast.Name():
                return self._name(node)
            case ast.UnaryOp(op=ast.UAdd()):
                return self.real(node.operand)
            case ast.Call():
                return self._call(node)
            case ast.Tuple() | ast.List():
                return tuple(
                    self.values.keep(self.value(element)) for element in node.elts
                )
            case ast.Subscript():
                return self._element(node)
            case ast.Lambda():
                return Closure(node, self.scope)
            case ast.Attribute():
                return self._attribute(node)
        return check_power(self.operation(node))

    def operand(self, node: ast.expr, symbol: str) -> Expression:
        read = self.values.condition if symbol in LOGICAL else self.values.number
        return read(self.value(node), place(node))

    def real(self, node: ast.expr) -> Expression:
        return self.values.number(self.value(node), place(node))

    def _name(self, node: ast.Name) -> Value:
        if node.id in self.scope:
            return self.scope[node.id]
        problem = f"unknown name {shorten(node.id)!r}; {suggest(node.id, self.scope)}"
        if node.id in self.modules:
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
        path, at = self._path(node), place(node)
        if path in _NUMBERS:
            return Number(_NUMBERS[path], at)
        if path is not None:
            raise refuse(at, f"{shorten(path)} {_UNKNOWN}")
        if node.attr == "size":
            return Call("size", (self.real(node.value),), at)
        raise self._no_attribute(node)

    def _no_attribute(self, node: ast.Attribute) -> ExpressionError:
        if node.attr in _SHAPES:
            problem = f".{node.attr} changes or reads a shape; {_SAME_SHAPE}"
            return refuse(node, problem, "shape_error")
        return refuse(node, f"the attribute {shorten(node.attr)!r} {_UNKNOWN}")

    def _path(self, node: ast.expr) -> str | None:
        """Return the full path of ``jnp.where`` and the like, else ``None``."""
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if not isinstance(node, ast.Name) or node.id in self.scope:
            return None
        module = self.modules.get(node.id)
        return ".".join([module, *reversed(parts)]) if module and parts else None

    # ----------------------------------------------------------------------- calls

    def _call(self, node: ast.Call) -> Value:
        path, at = self._path(node.func), place(node)
        if path == "jax.lax.cond":
            return self._cond(node)
        if path in CALLS:
            return self._build(*CALLS[path], node.args, node)
        if path is not None and path.startswith("jax.random."):
            raise refuse(at, self.no_random)
        if path is not None:
            known = sorted({known.rpartition(".")[2] for known in CALLS})
            hint = suggest(path.rpartition(".")[2][:64], known)
            raise refuse(at, f"{path[:64]} is not part of the language; {hint}")
        if isinstance(node.func, ast.Name) and node.func.id not in self.scope:
            return self._builtin(node, node.func.id)
        if isinstance(node.func, ast.Attribute):
            return self._method(node, node.func)
        function = self.value(node.func)
        if not isinstance(function, Closure) or node.keywords:
            raise refuse(at, "only functions can be called; call one without keywords")
        return self._inline(function, [self.value(a) for a in node.args], node)

    def _build(
        self,
        parameters: str,
        builder: str | Builder,
        positional: list[ast.expr],
        node: ast.Call,
    ) -> Value:
        """Convert a call of a function with these parameters."""
        at = place(node)
        bound = bind(parameters, positional, node.keywords, at)
        read = {n: self.value(given) for n, given in bound.items() if n not in _IGNORED}
        return self.values.build(builder, read, at)

    def _builtin(self, node: ast.Call, name: str) -> Value:
        """Convert ``abs``, ``sum``, ``len`` and ``float``, Python's own functions."""
        at = place(node)
        if name in ("min", "max") and node.args:
            raise refuse(at, f"{name} needs {_WHOLE_ARRAY} jnp.{name}imum(a, b)")
        if name not in ("abs", "sum", "len", "float"):
            raise refuse(at, f"the function {shorten(name)!r} {_UNKNOWN}")
        value = self._build("x", "a", node.args, node)
        match name, value:
            case "abs", _:
                return Call("abs", (self.values.number(value, at),), at)
            case "float", Number():
                return value
            case "sum", tuple():
                return self.values.total(value, at)
            case "len", tuple():
                return Number(float(len(value)), at)
        wanted = "a written number" if name == "float" else "a tuple"
        raise refuse(at, f"{name} needs {wanted} here; write the formula without it")

    def _method(self, node: ast.Call, function: ast.Attribute) -> Value:
        """Convert ``x.mean()`` and the like."""
        at = place(node)
        if function.attr in METHODS:
            given = [function.value, *node.args]
            return self._build(REDUCTION, METHODS[function.attr], given, node)
        if function.attr != "astype" or len(node.args) != 1 or node.keywords:
            raise self._no_attribute(function)
        python = isinstance(node.args[0], ast.Name) and node.args[0].id == "float"
        floats = ("jax.numpy.float32", "jax.numpy.float64")
        if not python and self._path(node.args[0]) not in floats:
            problem = "this astype cannot be converted; write astype(jnp.float32)"
            raise refuse(at, problem)
        return self.real(function.value)

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
            if not isinstance(function, Closure):
                raise refuse(side, "jax.lax.cond takes functions; write lambda: ...")
            results.append(self._inline(function, operands, side))
        return self._choose(condition, results[0], results[1], node)

    def _choose(
        self, condition: Expression, left: Value, right: Value, node: ast.expr
    ) -> Value:
        """Build ``where``, part by part for tuples of equal length."""
        self._count(node)
        if isinstance(left, tuple) and isinstance(right, tuple):
            if len(left) != len(right):
                raise refuse(node, _UNEQUAL)
            pairs = zip(left, right, strict=True)
            parts = (self._choose(condition, a, b, node) for a, b in pairs)
            return tuple(self.values.keep(part) for part in parts)
        if isinstance(left, tuple) or isinstance(right, tuple):
            raise refuse(node, _UNEQUAL)
        sides = [self.values.number(side, place(node)) for side in (left, right)]
        return Call("where", (condition, *sides), place(node))

    def _inline(
        self, closure: Closure, arguments: list[Value], node: ast.expr
    ) -> Value:
        """Convert a nested function at the place of its call."""
        parameters, at = closure.definition.args, place(node)
        names = [argument.arg for argument in parameters.args]
        unusual = parameters.vararg or parameters.kwarg or parameters.kwonlyargs
        unusual = unusual or parameters.posonlyargs or parameters.defaults
        if unusual or len(names) != len(arguments):
            problem = f"the function takes ({', '.join(names)}) and is given "
            problem += f"{len(arguments)} arguments; give each, without * or defaults"
            raise refuse(at, problem)
        if self.inlining == _MAX_INLINING:
            problem = "functions call each other too deeply; write the steps out"
            raise refuse(at, problem, "size_error")
        given = zip(names, arguments, strict=True)
        bound = {name: self.values.keep(value, name) for name, value in given}
        before, self.scope = self.scope, closure.scope.new_child(bound)
        self.inlining += 1
        try:
            if isinstance(closure.definition, ast.Lambda):
                return self.value(closure.definition.body)
            return self.run(closure.definition)
        finally:
            self.scope = before
            self.inlining -= 1

    # ------------------------------------------------------------------ statements

    def run(self, definition: ast.FunctionDef) -> Value:
        """Convert the statements of a function up to its return."""
        for index, statement in enumerate(definition.body, 1):
            if isinstance(statement, ast.Return):
                for after in definition.body[index:]:
                    problem = "a statement after return has no effect; remove it"
                    raise refuse(after, problem, "structure_error")
                value = statement.value
                if isinstance(value, ast.Tuple) and not self.inlining:
                    # No name stands for this tuple, so its parts need none either.
                    return tuple(self.value(element) for element in value.elts)
                return value and self.value(value)
            self.statement(statement)
        problem = f"{definition.name[:64]} ends without return; return the result"
        raise refuse(definition, problem, "return_error")

    def statement(self, node: ast.stmt) -> None:
        self._count(node)
        match node:
            case ast.Assign(targets=[target]):
                self._bind(target, self.value(node.value))
            case ast.AnnAssign(value=ast.expr() as value):
                self._bind(node.target, self.value(value))
            case ast.AugAssign(target=ast.Name(id=name)):
                read = ast.copy_location(ast.Name(name, ast.Load()), node)
                whole = ast.BinOp(read, node.op, node.value)
                self._bind(node.target, self.value(ast.copy_location(whole, node)))
            case ast.For(orelse=[]):
                for turn in self._turns(node.iter):
                    self._bind(node.target, turn, count=True)
                    for statement in node.body:
                        self.statement(statement)
            case ast.FunctionDef(decorator_list=[]):
                self.scope[node.name] = Closure(node, self.scope)
            case ast.Import() | ast.ImportFrom():
                self._import(node)
            case ast.Expr(value=ast.Constant(value=str())) | ast.Pass():
                pass
            case ast.Return():
                problem = "return has to end the function; move it to the end"
                raise refuse(node, problem, "structure_error")
            case ast.Expr():
                self.value(node.value)
                raise refuse(node, "nothing uses this value; remove it")
            case _:
                raise self.unknown(node, node)

    def _bind(self, target: ast.expr, value: Value, *, count: bool = False) -> None:
        """Bind a target; the counter of a loop stays a written number."""
        match target:
            case ast.Name() if count and isinstance(value, Number):
                self.scope[target.id] = value
            case ast.Name() if target.id in self.modules:
                raise refuse(target, f"{target.id!r} is a module; choose another name")
            case ast.Name():
                if not isinstance(value, Expression):
                    self.scope[target.id] = value
                elif target.id in self.values.slots and not self.inlining:
                    self.values.emit(target.id, self.values.number(value, value.at))
                else:
                    self.scope[target.id] = self.values.assigned(target.id, value)
            case ast.Tuple() | ast.List():
                if not isinstance(value, tuple) or len(value) != len(target.elts):
                    problem = f"the right side does not have {len(target.elts)} values"
                    raise refuse(target, f"{problem}; write as many")
                # All are kept before any is bound: a, b = b, a.
                kept = [self.values.keep(part) for part in value]
                for part, found in zip(target.elts, kept, strict=True):
                    self._bind(part, found, count=count)
            case _:
                raise refuse(target, "only names can be assigned; write name = ...")

    def _turns(self, node: ast.expr) -> Sequence[Value]:
        """Return the values of a loop, which have to be known here."""
        match node:
            case ast.Call(func=ast.Name(id="range"), keywords=[]):
                bounds = [self.value(argument) for argument in node.args]
                written = [b.value for b in bounds if isinstance(b, Number)]
                whole = [int(value) for value in written if value.is_integer()]
                if len(whole) == len(bounds) and 1 <= len(whole) <= 2:
                    turns = range(*whole)
                    if len(turns) <= _MAX_TURNS:
                        return [Number(float(turn), place(node)) for turn in turns]
            case ast.Call(func=ast.Name(id="zip"), keywords=[], args=[_, *_]):
                columns = [self._turns(argument) for argument in node.args]
                return [tuple(row) for row in zip(*columns, strict=False)]
            case _:
                value = self.value(node)
                if isinstance(value, tuple) and len(value) <= _MAX_TURNS:
                    return value
        problem = f"a loop runs over range(n) with a written n of at most {_MAX_TURNS},"
        problem += " a tuple, or zip of them; write the steps out"
        raise refuse(node, problem)

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        modules: dict[str, str] = {}
        for alias in node.names:
            if isinstance(node, ast.ImportFrom):
                path = f"{'.' * node.level}{node.module or ''}.{alias.name}"
                modules[alias.asname or alias.name] = path
            else:
                first = alias.name.partition(".")[0]
                modules[alias.asname or first] = alias.name
                if alias.name in _MODULES and not alias.asname:
                    modules[first] = first
        if not set(modules.values()) <= set(_MODULES):
            problem = "only jax, jax.numpy, jax.nn and jax.lax can be imported; remove"
            raise refuse(node, f"{problem} this")
        self.modules |= modules
