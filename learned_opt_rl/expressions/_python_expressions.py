"""From a Python expression to one of the language."""

from __future__ import annotations

import ast
import math
from typing import TYPE_CHECKING

from learned_opt_rl.expressions import _python_calls
from learned_opt_rl.expressions._nodes import (
    Binary,
    Call,
    Expression,
    Number,
    Unary,
)
from learned_opt_rl.expressions._python_errors import place, refuse, unsupported
from learned_opt_rl.expressions._python_values import Closure, Refused, Value
from learned_opt_rl.expressions._vocabulary import MAX_MAGNITUDE, nearest

if TYPE_CHECKING:
    from learned_opt_rl.expressions._python_body import Body

_MAX_EXPONENT = 16
_ARITHMETIC: dict[type[ast.operator], str] = {
    ast.Add: "+",
    ast.Sub: "-",
    ast.Mult: "*",
    ast.Div: "/",
    ast.Pow: "^",
}
_LOGIC: dict[type[ast.operator], str] = {ast.BitAnd: "and", ast.BitOr: "or"}
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Eq: "==",
    ast.NotEq: "!=",
}
_NUMBERS = {"jax.numpy.pi": math.pi, "jax.numpy.e": math.e}


def value(body: Body, node: ast.expr) -> Value:
    """What a Python expression stands for."""
    match node:
        case ast.Constant():
            return _constant(node)
        case ast.Name():
            return _name(body, node)
        case ast.UnaryOp():
            return _unary(body, node)
        case ast.BinOp():
            return _binary(body, node)
        case ast.Compare():
            return _compare(body, node)
        case ast.Call():
            return _python_calls.call(body, node)
        case ast.Tuple() | ast.List():
            return tuple(body.keep(body.value(element)) for element in node.elts)
        case ast.Subscript():
            return _element(body, node)
        case ast.Lambda():
            return Closure(node, body.scope)
        case ast.Attribute():
            return _attribute(body, node)
    raise unsupported(node)


def _constant(node: ast.Constant) -> Value:
    value = node.value
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise refuse(node, f"{_short(value)} is no number; write numbers only")
    if not abs(value) <= MAX_MAGNITUDE:
        raise refuse(
            node,
            f"a number of magnitude above {MAX_MAGNITUDE:g}; write a smaller one",
            "size_error",
        )
    return Number(float(value), place(node))


def _short(value: object) -> str:
    shown = ascii(value)
    return shown if len(shown) <= 40 else shown[:37] + "..."


def _name(body: Body, node: ast.Name) -> Value:
    if node.id not in body.scope:
        if node.id in body.modules:
            raise refuse(node, f"{node.id!r} is a module; call one of its functions")
        raise refuse(node, f"unknown name {node.id!r}; {nearest(node.id, body.scope)}")
    found = body.scope[node.id]
    if isinstance(found, Refused):
        raise refuse(node, found.reason)
    return found


def _unary(body: Body, node: ast.UnaryOp) -> Value:
    match node.op:
        case ast.USub():
            return Unary("-", body.real(node.operand), place(node))
        case ast.UAdd():
            return body.real(node.operand)
        case ast.Invert():
            return Unary("not", body.condition(node.operand), place(node))
    raise unsupported(node, node.op)


def _binary(body: Body, node: ast.BinOp) -> Value:
    operator, at = type(node.op), place(node)
    if operator in _LOGIC:
        left, right = body.condition(node.left), body.condition(node.right)
        return Binary(_LOGIC[operator], left, right, at)
    if operator not in _ARITHMETIC:
        raise unsupported(node, node.op)
    left, right = body.real(node.left), body.real(node.right)
    if operator is ast.Pow:
        check_exponent(right, node)
    return Binary(_ARITHMETIC[operator], left, right, at)


def check_exponent(exponent: Expression, node: ast.AST) -> None:
    """Raise where an exponent is written as a large number."""
    if isinstance(exponent, Unary):
        exponent = exponent.operand
    if isinstance(exponent, Number) and exponent.value > _MAX_EXPONENT:
        raise refuse(node, f"an exponent above {_MAX_EXPONENT}; write a smaller one")


def _compare(body: Body, node: ast.Compare) -> Value:
    if len(node.ops) > 1:
        raise refuse(
            node,
            "a < b < c asks for the truth value of a whole array, which is ambiguous; "
            "write (a < b) & (b < c)",
        )
    operator = _COMPARISONS.get(type(node.ops[0]))
    if operator is None:
        raise unsupported(node, node.ops[0])
    left, right = body.real(node.left), body.real(node.comparators[0])
    return Binary(operator, left, right, place(node))


def _element(body: Body, node: ast.Subscript) -> Value:
    found = body.value(node.value)
    if not isinstance(found, tuple):
        raise refuse(
            node,
            "an array cannot be indexed; all arrays here already have the shape of "
            "the parameters",
            "shape_error",
        )
    index = body.value(node.slice)
    sign = 1
    if isinstance(index, Unary):
        index, sign = index.operand, -1
    if isinstance(index, Number) and index.value.is_integer():
        at = sign * int(index.value)
        if -len(found) <= at < len(found):
            return found[at]
    raise refuse(node, f"the index has to be a written number below {len(found)}")


def _attribute(body: Body, node: ast.Attribute) -> Value:
    path = _python_calls.dotted(body, node)
    if path in _NUMBERS:
        return Number(_NUMBERS[path], place(node))
    if path is not None:
        raise refuse(node, f"{_short(path)[1:-1]} has no equal here; write a number")
    if node.attr == "size":
        return Call("size", (body.real(node.value),), place(node))
    raise _python_calls.no_attribute(node)
