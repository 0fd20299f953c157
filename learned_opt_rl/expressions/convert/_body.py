"""The statements of a Python proposal.

Each Python assignment becomes an assignment to a new name (``x``, ``x_2``, ...), so
that earlier values stay readable; only memory is assigned in place.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence

from learned_opt_rl.expressions._language import Expression, shorten
from learned_opt_rl.expressions._text import place
from learned_opt_rl.expressions.convert._applied import DTYPES, MATH
from learned_opt_rl.expressions.convert._calls import CALLS
from learned_opt_rl.expressions.convert._formulas import CONSTANTS, Formulas
from learned_opt_rl.expressions.convert._kinds import Items, Stack, Value, refuse
from learned_opt_rl.expressions.convert._static import literal

# This bound keeps hostile code from unrolling forever.
_MAX_TURNS = 64
# Modules of type hints, which are not read.
_HINTS = ("__future__", "typing", "chex", "jaxtyping")
_IMPORTED = {
    *("jax", "jax.numpy", "jax.nn", "jax.lax", "jax.scipy", "jax.scipy.special"),
    "jax.random",
    *("jax.numpy.linalg", "math", "jax.lax.cond"),
    *(*CALLS, *CONSTANTS, *DTYPES, *MATH),
}


def _is_list(value: Value) -> bool:
    """Return whether Python changes a value in place, unlike an array of jax."""
    return isinstance(value, tuple | Items) and not isinstance(value, Stack)


class Body(Formulas):
    """Converts the statements of a proposal, above its function and in it."""

    def module(self, statements: Sequence[ast.stmt]) -> None:
        """Convert what is above the function, where no name is memory."""
        self.inlining += 1
        for statement in statements:
            self.statement(statement)
        self.inlining -= 1
        self.scope = self.scope.new_child({**self.arguments})

    def run(self, definition: ast.FunctionDef) -> Value:
        """Convert the statements of a function up to its return."""
        pending = [*definition.body]
        while pending:
            statement = pending.pop(0)
            if isinstance(statement, ast.If):
                # A test that Python decides may return early.
                self.count(statement)
                taken = self.decide(statement)
                pending[:0] = statement.body if taken else statement.orelse
                continue
            if isinstance(statement, ast.Return):
                if statement in definition.body and pending:
                    problem = "a statement after return has no effect; remove it"
                    raise refuse(pending[0], problem, "structure_error")
                value = statement.value
                if isinstance(value, ast.Tuple) and not self.inlining:
                    # No name stands for this tuple, so its parts need none either.
                    return tuple(self.value(element) for element in value.elts)
                return value and self.value(value)
            self.statement(statement)
        problem = f"{definition.name[:64]} ends without return; return the result"
        raise refuse(definition, problem, "return_error")

    def statement(self, node: ast.stmt) -> None:
        self.count(node)
        match node:
            case ast.Assign(targets=[ast.Name(id=name)], value=ast.List()):
                self.bind(node.targets[0], self.value(node.value))
                found = self.scope[name]
                self.scope[name] = Items(found) if isinstance(found, tuple) else found
            case ast.Expr(
                value=ast.Call(
                    func=ast.Attribute(value=ast.Name(id=name), attr="append"),
                    args=[item],
                    keywords=[],
                )
            ) if _is_list(self.scope.get(name)):
                items, value = self.scope[name], self.values.keep(self.value(item))
                if not isinstance(items, Items) or items.used:
                    problem = "a list grows before its first use only; write "
                    raise refuse(node, f"{problem}{shorten(name)} = [...] in one line")
                items.append(value)
            case ast.Delete(targets=[ast.Name(id=name)]) if name in self.scope.maps[0]:
                del self.scope[name]
            case ast.Delete(targets=[_, *_] as targets) if len(targets) > 1:
                for target in targets:
                    one = ast.copy_location(ast.Delete([target]), node)
                    self.statement(one)
            case ast.Assign(targets=[target]):
                self.bind(target, self.value(node.value))
            case ast.Assign(targets=targets):
                value = self.values.keep(self.value(node.value))
                for target in targets:
                    self.bind(target, value)
            case ast.AnnAssign(value=ast.expr() as value):
                self.bind(node.target, self.value(value))
            case ast.AnnAssign(target=ast.Name()):
                pass
            case ast.AugAssign(target=ast.Name(id=name)) if not _is_list(
                self.scope.get(name)
            ):
                read = ast.copy_location(ast.Name(name, ast.Load()), node)
                whole = ast.BinOp(read, node.op, node.value)
                self.bind(node.target, self.value(ast.copy_location(whole, node)))
            case ast.For(orelse=[]):
                for turn in self._turns(node.iter):
                    self.bind(node.target, turn, count=True)
                    for statement in node.body:
                        self.statement(statement)
            case ast.If():
                for statement in node.body if self.decide(node) else node.orelse:
                    self.statement(statement)
            case ast.FunctionDef(decorator_list=[]):
                self.scope[node.name] = self.closure(node)
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

    def bind(self, target: ast.expr, value: Value, *, count: bool = False) -> None:
        """Bind a target; the counter of a loop stays a written number."""
        match target:
            case ast.Name() if count and self.values.is_static(value):
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
                    self.bind(part, found, count=count)
            case _:
                raise refuse(target, "only names can be assigned; write name = ...")

    def comprehension(self, node: ast.ListComp | ast.GeneratorExp) -> Value:
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
        before, turns = self.scope, self._turns(source)
        self.scope = before.new_child()
        try:
            found = []
            for turn in turns:
                # A target is local, also if it has the name of memory.
                self.inlining += 1
                self.bind(target, turn, count=True)
                self.inlining -= 1
                found.append(self.values.keep(self.value(node.elt)))
            return tuple(found)
        finally:
            self.scope = before

    def _turns(self, node: ast.expr) -> Sequence[Value]:
        """Return the values that a loop runs over."""
        match node:
            case ast.Call(func=ast.Name(id=name)) if name in self.scope:
                # A function of the proposal, which may be called range.
                value = self.value(node)
                if isinstance(value, tuple) and len(value) <= _MAX_TURNS:
                    return value
            case ast.Call(func=ast.Name(id="range"), keywords=[]):
                known = [self.values.known(self.value(bound)) for bound in node.args]
                whole = [bound for bound in known if isinstance(bound, int)]
                if (
                    len(whole) == len(known)
                    and 1 <= len(whole) <= 3
                    and whole[2:] != [0]
                ):
                    turns = range(*whole)
                    if len(turns) <= _MAX_TURNS:
                        return [literal(turn, place(node)) for turn in turns]
            case ast.Call(func=ast.Name(id="enumerate"), keywords=[], args=[source]):
                rows = enumerate(self._turns(source))
                return [(literal(i, place(node)), row) for i, row in rows]
            case ast.Call(func=ast.Name(id="reversed"), keywords=[], args=[source]):
                return self._turns(source)[::-1]
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
        for alias in node.names:
            path, name = alias.name, alias.asname or alias.name
            if isinstance(node, ast.ImportFrom):
                path = f"{'.' * node.level}{node.module or ''}.{alias.name}"
            root = path.partition(".")[0]
            if root in _HINTS:
                continue
            # numpy computes what jax.numpy computes.
            path = f"jax.{path}" if root == "numpy" else path
            if path not in _IMPORTED:
                problem = "only jax, jax.numpy, jax.nn and jax.lax can be imported, "
                problem += "numpy, math and functions of them that the language has"
                raise refuse(node, f"{problem}; remove this")
            if isinstance(node, ast.Import) and not alias.asname:
                # import jax.numpy gives the name jax.
                name, path = root, "jax.numpy" if root == "numpy" else root
            self.modules[name] = path
