"""From the expressions that symbolic regression prints."""

import re
from collections.abc import Callable, Sequence

from learned_opt_rl.expressions._declarations import function_of
from learned_opt_rl.expressions._function import Function
from learned_opt_rl.expressions._nodes import (
    Assign,
    Binary,
    Call,
    Expression,
    Name,
    Number,
    Position,
    Unary,
    error,
    walk,
)
from learned_opt_rl.expressions._parser import parse_expression
from learned_opt_rl.expressions._vocabulary import MAX_DEPTH, Kind, nearest

_VARIABLE = re.compile(r"x([0-9]{1,4})")
_SAME = ("sin", "cos", "tan", "exp", "log", "tanh", "sinh", "cosh", "sqrt", "square")
_SAME += ("abs", "sign", "relu", "min", "max")
_RENAMED = {"Abs": "abs", "Min": "min", "Max": "max", "fmin": "min", "fmax": "max"}
_RENAMED |= {"log1p": "log1p", "expm1": "expm1", "cbrt": "cbrt"}
_REWRITTEN: dict[str, Callable[[Expression, Position], Expression]] = {
    "neg": lambda x, at: Unary("-", x, at),
    "inv": lambda x, at: Binary("/", Number(1.0, at), x, at),
    "cube": lambda x, at: Binary("^", x, Number(3.0, at), at),
}
_KNOWN = {**{name: name for name in _SAME}, **_RENAMED}


def from_pysr(
    expression: str, variables: Sequence[str], kind: Kind = "optimizer"
) -> Function:
    """Turn an expression over ``x0``, ``x1``, ... into a function.

    Args:
        expression: What PySR (or SymPy) prints, such as ``"tanh(x0 * 2.0) - x1"``.
        variables: What ``x0``, ``x1``, ... stand for, in order: expressions of this
            language over the inputs of ``kind``, such as ``"r - 1"``. For an
            optimizer, ``m_0_9`` and its like are momenta.
        kind: ``"optimizer"`` or ``"drift"``.

    Returns:
        A function that declares just what it needs. A constant expression gives a
        constant function, whose output is spread over the leaf.

    Raises:
        ExpressionError: The expression, or a variable, cannot be converted.

    References:
        Cranmer 2023, "Interpretable Machine Learning for Science with PySR and
        SymbolicRegression.jl".

    Example:
        >>> f = from_pysr("tanh(x0 * -1.5) + square(x1)", ["g", "rms_normalise(p)"])
        >>> print(f.to_text(), end="")
        optimizer
        inputs p, g
        x1 = rms_normalise(p)
        return tanh(g * -1.5) + square(x1)
    """
    _check_kind(kind)
    # Julia prints ^, SymPy **. The blank keeps the columns.
    tree = parse_expression(expression.replace("**", "^ "))
    _check_depth(tree)
    indices = sorted(_indices(tree, len(variables)))
    bindings: dict[str, str] = {}
    body: list[Assign] = []
    for index in indices:
        meaning = _variable(index, variables[index])
        if isinstance(meaning, Name):
            bindings[f"x{index}"] = meaning.name
        else:
            bindings[f"x{index}"] = f"x{index}"
            body.append(Assign(f"x{index}", meaning))
    return function_of(kind, body, _convert(tree, bindings))


def _check_kind(kind: str) -> None:
    if kind not in ("optimizer", "drift"):
        raise error(f"kind={kind!r}; pass 'optimizer' or 'drift'", (0, 0), "call_error")


def _check_depth(tree: Expression) -> None:
    if max(depth for _, depth in walk(tree)) > MAX_DEPTH:
        raise error(
            f"the expression is more than {MAX_DEPTH} operations deep; search for a "
            "smaller one",
            tree.at,
            "size_error",
        )


def _indices(tree: Expression, count: int) -> set[int]:
    """The variables an expression reads, checked."""
    found = set()
    for node, _ in walk(tree):
        if not isinstance(node, Name):
            continue
        match = _VARIABLE.fullmatch(node.name)
        if match is None or int(match[1]) >= count or node.name != f"x{int(match[1])}":
            wanted = f"x0 to x{count - 1}" if count else "none"
            raise error(
                f"unknown variable {node.name!r}; the variables are {wanted}",
                node.at,
                "name_error",
            )
        found.add(int(match[1]))
    return found


def _variable(index: int, text: str) -> Expression:
    try:
        return parse_expression(text)
    except ValueError as problem:
        raise error(
            f"variables[{index}] = {text!r}: {problem}", (0, 0), "call_error"
        ) from None


def _convert(node: Expression, bindings: dict[str, str]) -> Expression:
    match node:
        case Name():
            return Name(bindings[node.name], node.at)
        case Unary(operator="-"):
            return Unary("-", _convert(node.operand, bindings), node.at)
        case Binary(operator="+" | "-" | "*" | "/" | "^"):
            left, right = _convert(node.left, bindings), _convert(node.right, bindings)
            return Binary(node.operator, left, right, node.at)
        case Call():
            arguments = [_convert(a, bindings) for a in node.arguments]
            return _call(node, arguments)
        case Number():
            return node
    raise error(
        f"{node.operator!r} is no operator of an expression here; write + - * / ^",
        node.at,
        "forbidden_syntax",
    )


def _call(node: Call, arguments: list[Expression]) -> Expression:
    if node.function in _REWRITTEN and len(arguments) == 1:
        return _REWRITTEN[node.function](arguments[0], node.at)
    if node.function not in _KNOWN:
        raise error(
            f"unknown function {node.function!r}; "
            f"{nearest(node.function, {*_KNOWN, *_REWRITTEN})}",
            node.at,
            "name_error",
        )
    return Call(_KNOWN[node.function], tuple(arguments), node.at)
