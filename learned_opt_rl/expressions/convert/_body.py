"""The statements of a Python proposal.

Each Python assignment becomes an assignment to a new name (``x``, ``x_2``, ...), so
that earlier values stay readable; only memory is assigned in place.
"""

import ast
from collections.abc import Iterable, Iterator, Sequence

from learned_opt_rl.expressions._language import Expression
from learned_opt_rl.expressions._text import place
from learned_opt_rl.expressions.convert._calls import CALLS, DTYPES, turns
from learned_opt_rl.expressions.convert._formulas import CONSTANTS, Formulas
from learned_opt_rl.expressions.convert._kinds import Value, refuse

# Modules of type hints, which are not read.
_HINTS = ("__future__", "typing", "chex", "jaxtyping")
_MODULES = "jax jax.numpy jax.numpy.linalg jax.nn jax.lax jax.scipy jax.scipy.special "
_MODULES += "jax.random math"
_IMPORTED = {*_MODULES.split(), *CALLS, *CONSTANTS, *DTYPES, "jax.lax.cond"}


class Body(Formulas):
    """Converts the statements of a proposal, above its function and in it."""

    def module(self, statements: Sequence[ast.stmt]) -> None:
        """Convert what is above the function, where no name is memory."""
        self.inlining += 1
        for statement in self._taken(statements):
            self.statement(statement)
        self.inlining -= 1
        self.scope = self.scope.new_child({**self.arguments})

    def run(self, definition: ast.FunctionDef) -> Value:
        """Convert the statements of a function up to its return."""
        body = definition.body
        for statement in self._taken(body):
            if not isinstance(statement, ast.Return):
                self.statement(statement)
                continue
            if statement in body[:-1]:
                problem = "a statement after return has no effect; remove it"
                raise refuse(
                    body[body.index(statement) + 1], problem, "structure_error"
                )
            value = statement.value
            if isinstance(value, ast.Tuple) and not self.inlining:
                # No name stands for this tuple, so its parts need none either.
                return tuple(self.value(element) for element in value.elts)
            return value and self.value(value)
        problem = f"{definition.name[:64]} ends without return; return the result"
        raise refuse(definition, problem, "return_error")

    def _taken(self, statements: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
        """Yield statements, with the side that Python takes in the place of an if."""
        for statement in statements:
            if isinstance(statement, ast.If):
                self.count(statement)
                taken = self.decide(statement)
                yield from self._taken(statement.body if taken else statement.orelse)
            else:
                yield statement

    def statement(self, node: ast.stmt) -> None:
        self.count(node)
        match node:
            case ast.Expr(
                value=ast.Call(
                    func=ast.Attribute(value=ast.Name(id=name), attr="append"),
                    args=[item],
                    keywords=[],
                )
            ) if isinstance(items := self.scope.maps[0].get(name), tuple):
                named = (one for scope in self.scope.maps for one in scope.values())
                if items and sum(one is items for one in named) > 1:
                    problem = "a list of two names cannot grow; write xs = xs + [x]"
                    raise refuse(node, problem)
                self.scope[name] = (*items, self.values.keep(self.value(item)))
            case ast.Delete():
                for target in node.targets:
                    if not isinstance(target, ast.Name):
                        raise self.unknown(node, node)
                    self._name(target)
                    self.scope.maps[0].pop(target.id, None)
            case ast.AnnAssign(target=ast.Name(), value=None) | ast.Pass():
                pass
            case (
                ast.Assign(targets=[target], value=value)
                | ast.AnnAssign(target=target, value=ast.expr() as value)
            ):
                self.bind(target, self.value(value))
            case ast.Assign(targets=targets):
                value = self.values.keep(self.value(node.value))
                for target in targets:
                    self.bind(target, value)
            case ast.AugAssign(target=ast.Name(id=name)):
                read = ast.copy_location(ast.Name(name, ast.Load()), node)
                whole = ast.BinOp(read, node.op, node.value)
                self.bind(node.target, self.value(ast.copy_location(whole, node)))
            case ast.For(orelse=[]):
                for turn in turns(self.value(node.iter), place(node.iter)):
                    self.bind(node.target, turn, count=True)
                    for statement in self._taken(node.body):
                        self.statement(statement)
            case ast.FunctionDef(decorator_list=[]):
                self.scope[node.name] = self.closure(node)
            case ast.Import() | ast.ImportFrom():
                self._import(node)
            case ast.Expr(value=ast.Constant(value=str())):
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
