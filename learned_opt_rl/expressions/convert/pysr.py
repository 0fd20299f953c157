"""From the expressions that symbolic regression prints."""

import bisect
import itertools
import re
from collections.abc import Callable, Sequence

from learned_opt_rl.checks import suggest
from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._function import Function, function_of
from learned_opt_rl.expressions._language import (
    FUNCTIONS,
    INPUTS,
    NOWHERE,
    Assign,
    Binary,
    Call,
    Expression,
    Kind,
    Name,
    Number,
    Position,
    Unary,
    error,
    walk,
)
from learned_opt_rl.expressions._text import parse_expression

_VARIABLE = re.compile(r"x(0|[1-9][0-9]{0,3})")
_ARITHMETIC = ("+", "-", "*", "/", "**")
# SymPy's and Julia's names for functions that the language has under another.
_RENAMED = {"Abs": "abs", "Min": "min", "Max": "max", "fmin": "min", "fmax": "max"}
_RENAMED |= {"atan": "arctan", "ceiling": "ceil"}
_KNOWN = {name: name for name, row in FUNCTIONS.items() if row.rule == "map"} | _RENAMED
_REWRITTEN: dict[str, Callable[[Expression, Position], Expression]] = {
    "neg": lambda x, at: Unary("-", x, at),
    "inv": lambda x, at: Binary("/", Number(1.0, at), x, at),
    "cube": lambda x, at: Binary("**", x, Number(3.0, at), at),
}


def from_pysr(
    expression: str, variables: Sequence[str], kind: Kind = "optimizer"
) -> Function:
    """Turn an expression over ``x0``, ``x1``, ... into a function.

    The function declares only what it needs; a constant expression is spread over the
    leaf.

    Args:
        expression: The string that PySR (or SymPy) prints, such as
            ``"tanh(x0 * 2.0) - x1"``; powers are ``^`` or ``**``.
        variables: The meaning of ``x0``, ``x1``, ... in order: expressions of this
            language over the inputs of ``kind``, such as ``"r - 1"``. For an
            optimizer, ``m_0_9`` and the like are momenta.
        kind: ``"optimizer"`` or ``"drift"``.

    Raises:
        ExpressionError: The expression, or a variable, cannot be converted.

    References:
        Cranmer 2023, "Interpretable Machine Learning for Science with PySR and
        SymbolicRegression.jl".

    Example:
        >>> f = from_pysr("tanh(x0 * -1.5) + square(x1)", ["g", "rms_normalize(p)"])
        >>> print(f.to_text(), end="")
        optimizer
        inputs p, g
        x1 = rms_normalize(p)
        return tanh(g * -1.5) + square(x1)
    """
    if kind not in INPUTS:
        raise error(
            f"kind={kind!r}; pass 'optimizer' or 'drift'", NOWHERE, "call_error"
        )
    try:
        # Julia prints ^ for a power, Python has ** only.
        return _converted(expression.replace("^", "**"), variables, kind)
    except ExpressionError as problem:
        if problem.line is None or "^" not in expression:
            raise
        line = expression.split("\n")[problem.line - 1]
        # Where each character of the line ends in the converted line.
        ends = list(itertools.accumulate(1 + (c == "^") for c in line))
        column = bisect.bisect_left(ends, problem.column or 1) + 1
        at = (problem.line, min(column, max(len(line), 1)))
        raise error(problem.problem, at, problem.category) from None


def _converted(expression: str, variables: Sequence[str], kind: Kind) -> Function:
    tree = parse_expression(expression)
    bindings: dict[str, str] = {}
    body: list[Assign] = []
    for index in sorted(_indices(tree, len(variables))):
        name = bindings[f"x{index}"] = f"x{index}"
        try:
            meaning = parse_expression(variables[index])
        except ExpressionError as problem:
            message = f"variables[{index}] = {variables[index]!r}: {problem}"
            raise error(message, NOWHERE, "call_error") from None
        if isinstance(meaning, Name):
            bindings[name] = meaning.name
        else:
            body.append(Assign(name, meaning))
    return function_of(kind, body, _convert(tree, bindings), {}, ())


def _indices(tree: Expression, count: int) -> set[int]:
    """Return the indices of the variables that an expression reads."""
    found = set()
    for node, _ in walk(tree):
        if not isinstance(node, Name):
            continue
        match = _VARIABLE.fullmatch(node.name)
        if match is None or int(match[1]) >= count:
            wanted = f"x0 to x{count - 1}" if count else "none"
            problem = f"unknown variable {node.name!r}; the variables are {wanted}"
            raise error(problem, node.at, "name_error")
        found.add(int(match[1]))
    return found


def _convert(node: Expression, bindings: dict[str, str]) -> Expression:
    match node:
        case Name():
            return Name(bindings[node.name], node.at)
        case Unary(operator="-"):
            return Unary("-", _convert(node.operand, bindings), node.at)
        case Binary() if node.operator in _ARITHMETIC:
            left, right = _convert(node.left, bindings), _convert(node.right, bindings)
            return Binary(node.operator, left, right, node.at)
        case Call():
            return _call(node, [_convert(a, bindings) for a in node.arguments])
        case Number():
            return node
    problem = f"{node.operator!r} is not an operator here; write + - * / or ^"
    raise error(problem, node.at, "forbidden_syntax")


def _call(node: Call, arguments: list[Expression]) -> Expression:
    if node.function in _REWRITTEN and len(arguments) == 1:
        return _REWRITTEN[node.function](arguments[0], node.at)
    if node.function not in _KNOWN:
        hint = suggest(node.function, sorted({*_KNOWN, *_REWRITTEN}))
        problem = f"unknown function {node.function!r}; {hint}"
        raise error(problem, node.at, "name_error")
    return Call(_KNOWN[node.function], tuple(arguments), node.at)
