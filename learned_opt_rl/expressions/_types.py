"""Types of expressions: condition or number, one for all or one per element."""

from collections.abc import Mapping
from typing import TypeAlias

from learned_opt_rl.expressions._nodes import (
    COMPARISONS,
    Binary,
    Call,
    Expression,
    Name,
    Number,
    Unary,
    children,
    error,
)
from learned_opt_rl.expressions._printer import expression_text
from learned_opt_rl.expressions._vocabulary import (
    ELEMENTWISE,
    FUNCTIONS,
    SCALAR,
    Builtin,
    Type,
    nearest,
)

Found: TypeAlias = dict[int, tuple[Expression, Type]]


def infer(
    node: Expression,
    known: Mapping[str, Type],
    *,
    drift: bool,
    found: Found | None = None,
) -> Type:
    """The type of an expression.

    Args:
        node: The expression; its names are all in ``known``.
        known: The type of each name.
        drift: Whether functions of a whole tensor are out of place.
        found: Types found before, by node identity, where trees are built bottom up
            and asked about at every level.

    Raises:
        ExpressionError: An operator or function does not take what it is given.
    """
    found = {} if found is None else found
    if id(node) not in found:
        # The node is kept along, so that its identity is not given to another.
        found[id(node)] = node, _infer(node, known, drift, found)
    return found[id(node)][1]


def _infer(
    node: Expression, known: Mapping[str, Type], drift: bool, found: Found
) -> Type:
    match node:
        case Number():
            return SCALAR
        case Name():
            return known[node.name]
    types = [infer(c, known, drift=drift, found=found) for c in children(node)]
    match node:
        case Unary():
            want_boolean(node.operand, types[0], node.operator == "not", node.operator)
            return types[0]
        case Binary():
            return _binary(node, types[0], types[1])
    return _call(node, types, drift)


def want_boolean(node: Expression, found: Type, boolean: bool, where: str) -> None:
    """Raise unless ``node`` is a condition, or a number, as asked."""
    if found.boolean == boolean:
        return
    shown = _shorten(expression_text(node))
    if boolean:
        problem = f"needs a condition, {shown} is a number; write {shown} != 0"
    else:
        problem = f"needs a number, {shown} is a condition; write where({shown}, 1, 0)"
    raise error(f"{where} {problem}", node.at, "type_error")


def _binary(node: Binary, left: Type, right: Type) -> Type:
    logical = node.operator in ("and", "or")
    want_boolean(node.left, left, logical, node.operator)
    want_boolean(node.right, right, logical, node.operator)
    boolean = logical or node.operator in COMPARISONS
    return Type(boolean, left.elementwise or right.elementwise)


def _call(node: Call, types: list[Type], drift: bool) -> Type:
    builtin = _builtin(node)
    for index, (argument, type_) in enumerate(zip(node.arguments, types, strict=True)):
        condition = builtin.rule == "where" and index == 0
        want_boolean(argument, type_, condition, f"{node.function}(...)")
    if builtin.rule in ("reduce", "normalise"):
        _check_tensor(node, types[0], drift)
        return SCALAR if builtin.rule == "reduce" else ELEMENTWISE
    return Type(builtin.rule == "test", any(type_.elementwise for type_ in types))


def _builtin(node: Call) -> Builtin:
    builtin = FUNCTIONS.get(node.function)
    if builtin is None:
        raise error(
            f"unknown function {node.function!r}; {nearest(node.function, FUNCTIONS)}",
            node.at,
            "name_error",
        )
    count = len(node.arguments)
    if not builtin.least <= count <= builtin.most:
        few = f"{builtin.least}"
        wanted = few if builtin.least == builtin.most else f"{few} or more"
        raise error(
            f"{node.function}(...) has {count} arguments; it takes {wanted}",
            node.at,
            "type_error",
        )
    return builtin


def _check_tensor(node: Call, found: Type, drift: bool) -> None:
    if drift:
        raise error(
            f"{node.function}(...) is of a whole tensor, but a drift is a function of "
            "one sample; write it without",
            node.at,
            "shape_error",
        )
    if not found.elementwise:
        shown = _shorten(expression_text(node.arguments[0]))
        raise error(
            f"{node.function}(...) is of a whole tensor, {shown} is one number; drop "
            f"{node.function}",
            node.at,
            "shape_error",
        )


def _shorten(shown: str) -> str:
    return shown if len(shown) <= 40 else shown[:37] + "..."
