"""From the statements of a Python function to assignments of the language.

Every Python assignment becomes an assignment to a name of its own (``x``, ``x_2``,
...), so what a name stood for earlier stays readable; only memory is assigned in place.
"""

from __future__ import annotations

import ast
from collections import ChainMap, Counter
from collections.abc import Mapping, Sequence

from learned_opt_rl.expressions import _python_expressions as expressions
from learned_opt_rl.expressions._nodes import (
    Assign,
    Call,
    Expression,
    Name,
    Number,
    error,
    names_in,
    walk,
)
from learned_opt_rl.expressions._python_errors import place, refuse, unsupported
from learned_opt_rl.expressions._python_values import Closure, Value
from learned_opt_rl.expressions._types import infer
from learned_opt_rl.expressions._vocabulary import (
    ELEMENTWISE,
    INPUTS,
    MAX_NAME,
    MAX_NODES,
    RESERVED,
    SCALAR,
    Kind,
    Type,
    is_name,
)

_MODULES = ("jax", "jax.numpy", "jax.nn", "jax.lax")
_MAX_STEPS = 8192
_MAX_INLINING = 8
_MAX_TURNS = 64


class Body:
    """The assignments made so far, and what each Python name stands for.

    Args:
        kind: The kind of function.
        arguments: What the arguments stand for.
        slots: The arguments that are memory.
    """

    def __init__(
        self, kind: Kind, arguments: Mapping[str, Value], slots: Sequence[str]
    ) -> None:
        self.drift = kind == "drift"
        self.slots = frozenset(slots)
        self.assignments: list[Assign] = []
        self.scope: ChainMap[str, Value] = ChainMap(dict(arguments))
        self.modules = {"jnp": "jax.numpy", "nn": "jax.nn", "jnn": "jax.nn"}
        self.modules |= {"jax": "jax", "lax": "jax.lax"}
        read = {value.name for value in arguments.values() if isinstance(value, Name)}
        self.types: dict[str, Type] = dict.fromkeys(read, ELEMENTWISE) | INPUTS[kind]
        self.types |= {"eps": SCALAR} if self.drift else {}
        self.found_types: dict[int, tuple[Expression, Type]] = {}
        self.taken = {*self.types, *RESERVED}
        self.counts: Counter[str] = Counter()
        self.nodes = self.steps = self.inlining = 0

    # ------------------------------------------------------------- for expressions

    def value(self, node: ast.expr) -> Value:
        """What a Python expression stands for."""
        self._count(node)
        return expressions.value(self, node)

    def _count(self, node: ast.AST) -> None:
        self.steps += 1
        if self.steps > _MAX_STEPS:
            raise refuse(node, "loops and calls unroll to too much", "size_error")

    def expression(self, node: ast.expr) -> Expression:
        """A Python expression that stands for a number or a condition."""
        value = self.value(node)
        if not isinstance(value, Expression):
            shown = "several values" if isinstance(value, tuple) else "no number"
            raise refuse(node, f"a number is needed here, this is {shown}")
        return value

    def real(self, node: ast.expr) -> Expression:
        """A Python expression as a number; a condition counts 1 or 0, as in Python."""
        return self.as_number(self.expression(node))

    def condition(self, node: ast.expr) -> Expression:
        """A Python expression that has to be a condition."""
        value = self.expression(node)
        if not self.type_of(value).boolean:
            raise refuse(
                node, "a condition is needed here, this is a number; compare it"
            )
        return value

    def as_number(self, value: Expression) -> Expression:
        """A condition as 1 or 0, a number as it is."""
        if not self.type_of(value).boolean:
            return value
        return Call("where", (value, Number(1.0), Number(0.0)), value.at)

    def type_of(self, value: Expression) -> Type:
        """The type of a converted expression."""
        return infer(value, self.types, drift=self.drift, found=self.found_types)

    def keep(self, value: Value, hint: str = "part") -> Value:
        """A value that no later assignment changes."""
        if not isinstance(value, Expression) or isinstance(value, Number):
            return value
        if isinstance(value, Name) and value.name not in self.slots:
            return value
        return self.assign(hint, value)

    def assign(self, hint: str, value: Expression) -> Name:
        """Emit an assignment to a new name, like ``hint``."""
        target = self._fresh(hint)
        self._emit(target, value)
        return Name(target, value.at)

    def call(self, closure: Closure, arguments: list[Value], node: ast.expr) -> Value:
        """Convert a nested function at the place of its call."""
        parameters = closure.definition.args
        names = [argument.arg for argument in parameters.args]
        unusual = parameters.vararg or parameters.kwarg or parameters.kwonlyargs
        unusual = unusual or parameters.posonlyargs or parameters.defaults
        if unusual or len(names) != len(arguments):
            raise refuse(
                node,
                f"the function takes ({', '.join(names)}) and is given "
                f"{len(arguments)} arguments; give each, without * or defaults",
            )
        if self.inlining == _MAX_INLINING:
            raise refuse(node, "functions call each other too deeply", "size_error")
        bound = {n: self.keep(v, n) for n, v in zip(names, arguments, strict=True)}
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
        for index, statement in enumerate(definition.body):
            if isinstance(statement, ast.Return):
                if index + 1 < len(definition.body):
                    raise refuse(
                        definition.body[index + 1],
                        "a statement after return; remove it",
                        "structure_error",
                    )
                return self._returned(statement.value)
            self.statement(statement)
        raise refuse(
            definition,
            f"{definition.name} ends without return; return the result",
            "return_error",
        )

    def _returned(self, node: ast.expr | None) -> Value:
        if isinstance(node, ast.Tuple) and not self.inlining:
            # No name stands for this tuple, so its parts need none either.
            return tuple(self.value(element) for element in node.elts)
        return node and self.value(node)

    def statement(self, node: ast.stmt) -> None:
        """Convert one statement other than return."""
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
                self._loop(node)
            case ast.FunctionDef(decorator_list=[]):
                self.scope[node.name] = Closure(node, self.scope)
            case ast.Import() | ast.ImportFrom():
                self._import(node)
            case ast.Expr(value=ast.Constant(value=str())) | ast.Pass():
                pass
            case ast.Return():
                raise refuse(node, "return has to end the function", "structure_error")
            case ast.Expr():
                self.value(node.value)
                raise refuse(node, "a value that nothing uses; remove it")
            case _:
                raise unsupported(node)

    def _bind(self, target: ast.expr, value: Value, *, count: bool = False) -> None:
        """Bind a target; the number a loop counts with stays a written number."""
        match target:
            case ast.Name() if count and isinstance(value, Number):
                self.scope[target.id] = value
            case ast.Name() if target.id in self.modules:
                raise refuse(target, f"{target.id!r} is a module; choose another name")
            case ast.Name():
                self._bind_name(target.id, value)
            case ast.Tuple() | ast.List():
                if not isinstance(value, tuple) or len(value) != len(target.elts):
                    raise refuse(
                        target, f"{len(target.elts)} values are needed on the right"
                    )
                # All are kept before any is bound: a, b = b, a.
                kept = [self.keep(part) for part in value]
                for part, found in zip(target.elts, kept, strict=True):
                    self._bind(part, found, count=count)
            case _:
                raise refuse(target, "only names can be assigned; write name = ...")

    def _bind_name(self, name: str, value: Value) -> None:
        if not isinstance(value, Expression):
            self.scope[name] = value
        elif name in self.slots and not self.inlining:
            self._emit(name, self.as_number(value))
        elif isinstance(value, Name) and value.name not in self.slots:
            self.scope[name] = value
        else:
            self.scope[name] = self.assign(name, value)

    def _loop(self, node: ast.For) -> None:
        for turn in self._turns(node.iter):
            self._bind(node.target, turn, count=True)
            for statement in node.body:
                self.statement(statement)

    def _turns(self, node: ast.expr) -> Sequence[Value]:
        """The values a loop runs over, which have to be known here."""
        match node:
            case ast.Call(func=ast.Name(id="range"), keywords=[]):
                bounds = [self.value(argument) for argument in node.args]
                whole = [
                    int(b.value)
                    for b in bounds
                    if isinstance(b, Number) and b.value.is_integer()
                ]
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
        raise refuse(
            node,
            f"a loop runs over range(n) with a written n of at most {_MAX_TURNS}, a "
            "tuple, or zip of such; write the steps out",
        )

    def _import(self, node: ast.Import | ast.ImportFrom) -> None:
        if isinstance(node, ast.Import):
            found = [
                (alias.name, alias.asname or alias.name.partition(".")[0], alias.asname)
                for alias in node.names
            ]
            modules = {
                bound: full if asname else full.partition(".")[0]
                for full, bound, asname in found
                if full in _MODULES
            }
        else:
            prefix = "." if node.level else f"{node.module}."
            modules = {
                alias.asname or alias.name: prefix + alias.name
                for alias in node.names
                if prefix + alias.name in _MODULES
            }
        if len(modules) < len(node.names):
            raise refuse(
                node,
                "only jax, jax.numpy, jax.nn and jax.lax can be imported; remove this",
            )
        self.modules |= modules

    # -------------------------------------------------------------------- emission

    def finish(self, result: Expression, slots: Mapping[str, Expression]) -> Expression:
        """Emit the last assignments to memory and return the result, still valid."""
        pending = {
            name: self.as_number(value)
            for name, value in slots.items()
            if value != Name(name)
        }
        result = self._outlive(result, set(pending), "update")
        for name, value in pending.items():
            pending[name] = self._outlive(value, set(pending) - {name}, f"{name}_new")
        for name, value in pending.items():
            self._emit(name, value)
        return result

    def _outlive(self, value: Expression, changed: set[str], hint: str) -> Expression:
        return self.assign(hint, value) if names_in(value) & changed else value

    def _emit(self, target: str, value: Expression) -> None:
        self.nodes += sum(1 for _ in walk(value))
        if self.nodes > MAX_NODES:
            raise error(
                f"the function has more than {MAX_NODES} operations and operands",
                value.at,
                "size_error",
            )
        found = self.type_of(value)
        self.types[target] = ELEMENTWISE if target in self.slots else found
        self.assignments.append(Assign(target, value, value.at))

    def _fresh(self, hint: str) -> str:
        base = hint.strip("_")[: MAX_NAME - 8]
        base = base if is_name(base) else "part"
        name = base
        while name in self.taken:
            self.counts[base] += 1
            name = f"{base}_{self.counts[base] + 1}"
        self.taken.add(name)
        return name
