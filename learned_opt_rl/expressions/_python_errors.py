"""Errors that point into Python, and what to write instead of common constructs."""

import ast

from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._nodes import Position, error


def place(node: ast.AST) -> Position:
    """Where a node begins, both counted from 1."""
    return getattr(node, "lineno", 1), getattr(node, "col_offset", 0) + 1


def refuse(
    node: ast.AST, problem: str, category: str = "forbidden_syntax"
) -> ExpressionError:
    """The error for a construct that has no equal in the language."""
    return error(problem, place(node), category)


_INSTEAD: dict[type[ast.AST], str] = {
    ast.If: "if decides once for all elements; write jnp.where(condition, a, b)",
    ast.IfExp: "a if c else b decides once for all elements; write jnp.where(c, a, b)",
    ast.While: "a while loop may never end; write the steps out",
    ast.BoolOp: (
        "'and' and 'or' ask for the truth value of a whole array, which is ambiguous; "
        "write (a) & (b), (a) | (b)"
    ),
    ast.JoinedStr: "a formatted string has no use here; remove it",
    ast.Try: "errors cannot be caught in a formula; remove try",
    ast.With: "with has no use in a formula; remove it",
    ast.Assert: "assert has no use in a formula; remove it",
    ast.ClassDef: "a class has no use in a formula; remove it",
    ast.ListComp: "a comprehension cannot be converted; write the terms out",
    ast.GeneratorExp: "a comprehension cannot be converted; write the terms out",
    ast.NamedExpr: "assignment inside an expression; assign on a line of its own",
    ast.Starred: "* before an argument cannot be converted; write the arguments out",
    ast.MatMult: "@ mixes elements; formulas are per element",
    ast.FloorDiv: "// cannot be converted; write jnp.floor(a / b)",
    ast.Mod: "% cannot be converted; write a - b * jnp.floor(a / b)",
    ast.BitXor: "^ is no power in Python; write a ** b",
    ast.Not: "not asks for the truth value of a whole array; write ~condition",
}


def unsupported(node: ast.AST, kind: ast.AST | None = None) -> ExpressionError:
    """The error for a kind of syntax the language does not have."""
    kind = node if kind is None else kind
    instead = _INSTEAD.get(
        type(kind), f"{type(kind).__name__} cannot be converted; write it without"
    )
    return refuse(node, instead)
