"""From the expressions that symbolic regression prints."""

import ast
import bisect
import itertools
import numbers
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from learned_opt_rl.checks import suggest
from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._function import MOMENTUM, Function, function_of
from learned_opt_rl.expressions._functions import (
    FUNCTIONS,
    NOT_HERE,
    SYMBOLIC_NUMBERS,
    templates,
)
from learned_opt_rl.expressions._language import (
    INPUTS,
    LOGICAL,
    NOWHERE,
    SYMBOLS,
    Expression,
    Kind,
    Limits,
    Name,
    Number,
    error,
    names_in,
    shorten,
)
from learned_opt_rl.expressions._text import (
    Reader,
    SourceReader,
    parse_expression,
    place,
)
from learned_opt_rl.expressions.convert._kinds import Value
from learned_opt_rl.expressions.convert._values import Values, arity

# PySR prints the columns of an array with an index below the line, and tables copied
# from a page have typographic minus signs.
_TYPOGRAPHY = str.maketrans("₀₁₂₃₄₅₆₇₈₉\u2212\u2013", "0123456789--")
# Julia writes the exponent of a single-precision number with f.
_JULIA_FLOAT = re.compile(r"\b([0-9]+\.[0-9]+)f(?=[+-]?[0-9])")
# These take more than two arguments in SymPy.
_VARIADIC = ("a + b", "a * b", "a and b", "a or b")
_ONE = "pass a string, a SymPy expression, or one row of model.equations_, such as "
_ONE += "model.get_best()"


# By name in PySR, Julia and SymPy: the parameters and the formula of each function.
_CALLS = {
    name: (row.parameters, row.formula)
    for row in templates()
    for name in row.symbolic.split()
}


def from_pysr(
    expression: Any,
    variables: Sequence[str] | Mapping[str, str],
    kind: Kind = "optimizer",
) -> Function:
    """Turn an expression of PySR or SymPy over named variables into a function.

    The function declares only what it needs; a constant expression is spread over the
    leaf. Functions have the values of jax, so ``log(0)`` is minus infinity, where PySR
    has NaN. A comparison counts as 1 or 0.

    Args:
        expression: The string that PySR (or SymPy) prints, such as
            ``"tanh(x0 * 2.0) - x1"``; powers are ``^`` or ``**``. Or an expression of
            SymPy, or one row of PySR's ``equations_``.
        variables: The meaning of ``x0``, ``x1``, ... in order: expressions of this
            language over the inputs of ``kind``, such as ``"r - 1"``. A plain name
            also stands for itself. Or a mapping from the names of columns to their
            meanings, with spaces as PySR prints them or as they were. For an
            optimizer, ``m_0_9`` and the like are momenta.
        kind: ``"optimizer"`` or ``"drift"``.

    Raises:
        ExpressionError: The expression, or a variable, cannot be converted.
        TypeError: An argument is not of these types.

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
        >>> f = from_pysr(
        ...     "cond(ratio, -atan(edge))", {"ratio": "r - 1", "edge": "A"}, "drift"
        ... )
        >>> print(f.to_text(), end="")
        drift
        inputs r, A
        ratio = r - 1
        return where(ratio > 0, -arctan(A), 0)
    """
    if kind not in INPUTS:
        raise error(
            f"kind={kind!r}; pass 'optimizer' or 'drift'", NOWHERE, "call_error"
        )
    text = _JULIA_FLOAT.sub(r"\1e", _text(expression).translate(_TYPOGRAPHY))
    meanings = _meanings(variables, kind)
    try:
        # Julia prints ^ for a power, Python has ** only.
        return _converted(text.replace("^", "**"), meanings, kind)
    except ExpressionError as problem:
        if problem.line is None or "^" not in text:
            raise
        line = text.split("\n")[problem.line - 1]
        # Where each character of the line ends in the converted line.
        ends = list(itertools.accumulate(1 + (c == "^") for c in line))
        column = bisect.bisect_left(ends, problem.column or 1) + 1
        at = (problem.line, min(column, max(len(line), 1)))
        raise error(problem.problem, at, problem.category) from None


def _text(expression: Any) -> str:
    """Return the text of one expression, from any of its forms."""
    if isinstance(expression, str):
        return expression
    if type(expression).__module__.partition(".")[0] == "sympy":
        return str(expression)
    if isinstance(expression, numbers.Real) and not isinstance(expression, bool):
        if expression != expression:
            raise error(f"expression is missing (NaN); {_ONE}", NOWHERE, "call_error")
        return repr(float(expression))
    if hasattr(expression, "columns"):
        problem = f"expression is a table of {len(expression)} equations; {_ONE}"
        raise error(problem, NOWHERE, "call_error")
    if hasattr(expression, "keys"):
        fields = list(expression.keys())
        for field in ("equation", "Equation", "sympy_format"):
            if field in fields:
                return _text(expression[field])
        named = ", ".join(shorten(str(field)) for field in fields[:8])
        problem = f"expression has no field 'equation' among {named}; {_ONE}"
        raise error(problem, NOWHERE, "call_error")
    raise TypeError(f"expression is {type(expression).__name__}; {_ONE}")


def _meanings(
    variables: Sequence[str] | Mapping[str, str], kind: Kind
) -> dict[str, Expression]:
    """Return what each name of a variable stands for."""
    if isinstance(variables, str) or not isinstance(variables, Iterable):
        form = "a string" if isinstance(variables, str) else type(variables).__name__
        raise TypeError(f"variables={variables!r} is {form}; pass a list of strings")
    named = isinstance(variables, Mapping)
    meanings: dict[str, Expression] = {}
    for index, item in enumerate(variables.items() if named else variables):
        name, meaning = item if named else (f"x{index}", item)
        where = f"variables[{name if named else index!r}]"
        if not isinstance(meaning, str):
            problem = f"{where} is {meaning!r}; pass an expression such as 'r - 1'"
            raise error(problem, NOWHERE, "call_error")
        try:
            tree = parse_expression(meaning)
        except ExpressionError as problem:
            message = f"{where} = {meaning!r}: {problem}"
            raise error(message, NOWHERE, "call_error") from None
        for unknown in sorted(names_in(tree) - {*INPUTS[kind]}):
            if kind == "drift" or not MOMENTUM.fullmatch(unknown):
                problem = f"{where} = {meaning!r}: unknown name {unknown!r}; "
                problem += suggest(unknown, sorted(INPUTS[kind]))
                raise error(problem, NOWHERE, "name_error")
        printed = str(name).replace(" ", "_").translate(_TYPOGRAPHY)
        if not printed.isidentifier() or len(printed) > Limits.NAME:
            problem = f"variables has the name {shorten(repr(name))}; PySR prints "
            problem += "letters, digits and _ only, so rename the column"
            raise error(problem, NOWHERE, "call_error")
        if printed in meanings:
            problem = f"variables has the name {printed!r} twice; rename a column"
            raise error(problem, NOWHERE, "call_error")
        meanings[printed] = tree
    if not named:
        own = {m.name: m for m in meanings.values() if isinstance(m, Name)}
        meanings = own | meanings
    return meanings


def _converted(text: str, meanings: Mapping[str, Expression], kind: Kind) -> Function:
    reader = _Printed(text, meanings, kind)
    result = reader.values.number(reader.value(reader.tree), place(reader.tree))
    return function_of(kind, reader.values.assignments, result, {}, ())


class _Source(SourceReader):
    """Text of PySR or SymPy: names have any letter, and & | ~ combine conditions."""

    unexpected = re.compile(r"[^\w \t+\-*/(),=<>!.&|~]")


class _Printed(Reader):
    """Reads what PySR and SymPy print."""

    symbols = {
        **{syntax: s for syntax, s in SYMBOLS.items() if s not in LOGICAL},
        **{ast.BitAnd: "and", ast.BitOr: "or", ast.Invert: "not"},
    }

    def __init__(
        self, text: str, meanings: Mapping[str, Expression], kind: Kind
    ) -> None:
        if "#" in text:
            line = text.count("\n", 0, text.index("#")) + 1
            column = text.split("\n")[line - 1].index("#") + 1
            problem = "#1 and the like are arguments of a template expression; write "
            problem += "the whole expression over the variables"
            raise error(problem, (line, column))
        self._source = _Source(text)
        match self._source.statements:
            case [("", ast.Expr(value=tree))]:
                self.tree = tree
            case [("", ast.Assign(targets=[ast.Name()], value=tree))]:
                # PySR's table shows y = before each equation.
                self.tree = tree
            case _:
                problem = "this is not one expression; write one, as in: a * b + c"
                raise error(problem, (1, 1))
        momenta = [
            name
            for meaning in meanings.values()
            for name in names_in(meaning)
            if MOMENTUM.fullmatch(name)
        ]
        self.values = Values(kind, momenta, (), "julia")
        read = {n.id for n in ast.walk(self.tree) if isinstance(n, ast.Name)}
        self._bound = {
            name: self.values.assigned(name, meaning)
            for name, meaning in meanings.items()
            if name in read
        }
        self._names = list(meanings)

    def at(self, node: ast.AST) -> tuple[int, int]:
        return self._source.at(node)

    def value(self, node: ast.expr) -> Value:
        """Read an expression, which may be a condition."""
        at = self.at(node)
        match node:
            case ast.Name(id=name):
                return self._name(name, node)
            case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]):
                return self._call(name, arguments, node)
            case ast.Constant(value=bool()):
                raise error(f"{node.value} is for Piecewise; write 1 or 0", at)
            case ast.Constant():
                return self.number(node)
            case ast.UnaryOp(op=ast.UAdd()):
                return self.values.number(self.value(node.operand), at)
            case ast.BinOp(
                left=ast.Constant(value=int() as above),
                op=ast.Div(),
                right=ast.Constant(value=int() as below),
            ) if below:
                # A rational number of SymPy, of any number of digits.
                return self.number(ast.copy_location(ast.Constant(above / below), node))
            case ast.BoolOp() | ast.UnaryOp(op=ast.Not()):
                shown = (
                    "not" if isinstance(node, ast.UnaryOp) else SYMBOLS[type(node.op)]
                )
                problem = f"{shown!r} is not an operator here; write + - * / or ^"
                raise error(problem, at, "forbidden_syntax")
        return self.operation(node)

    def apply(
        self, symbol: str, operands: Sequence[ast.expr], node: ast.expr
    ) -> Expression:
        values = [self.value(operand) for operand in operands]
        return self.values.apply(symbol, values, self.at(node))

    def _name(self, name: str, node: ast.expr) -> Value:
        if name in self._bound:
            return self._bound[name]
        if name in SYMBOLIC_NUMBERS:
            return Number(SYMBOLIC_NUMBERS[name], self.at(node))
        self._check_known(name, node)
        if name in _CALLS:
            raise error(f"{name!r} is a function; write {name}(...)", self.at(node))
        known = self._names
        wanted = ", ".join(known) or "none"
        columns = sum(re.fullmatch(r"x[0-9]+", one) is not None for one in known)
        if "x0" in known:
            wanted = f"x0 to x{columns - 1}"
        if "x0" in known and name == f"x{columns}" and "x0" not in self._bound:
            wanted += (
                "; if they count from x1, as in Julia, pass {'x1': ..., 'x2': ...}"
            )
        problem = f"unknown variable {name[: Limits.NAME]!r}; the variables are "
        raise error(problem + wanted, self.at(node), "name_error")

    def _check_known(self, name: str, node: ast.expr) -> None:
        if name in NOT_HERE:
            problem = f"{name!r} cannot be converted; {NOT_HERE[name]}"
            raise error(problem, self.at(node), "name_error")

    def _call(self, name: str, arguments: list[ast.expr], node: ast.Call) -> Value:
        at = self.at(node)
        self.check_arguments(name, node)
        if name == "Piecewise":
            return self._piecewise(arguments, node)
        self._check_known(name, node)
        if name not in _CALLS:
            hint = suggest(name[: Limits.NAME], sorted(_CALLS))
            problem = f"unknown function {shorten(name)!r}; {hint}"
            raise error(problem, at, "name_error")
        parameters, formula = _CALLS[name]
        given = [self.value(argument) for argument in arguments]
        names = parameters.split()
        own = formula.removesuffix("(a, b)")
        if own in FUNCTIONS and FUNCTIONS[own].most > len(names):
            return self.values.call(own, given, at)
        if len(given) > 2 and formula in _VARIADIC:
            whole, *others = given
            for other in others:
                whole = self.values.build(
                    parameters, formula, {"x": whole, "y": other}, at
                )
            return whole
        if len(given) not in arity(parameters):
            wanted = " or ".join(map(str, arity(parameters)))
            problem = f"{name}(...) has {len(given)} arguments; give it {wanted}"
            raise error(problem, at, "type_error")
        bound = dict(zip(names, given, strict=False))
        return self.values.build(parameters, formula, bound, at)

    def _piecewise(self, pairs: list[ast.expr], node: ast.expr) -> Value:
        """Convert SymPy's Piecewise, whose last condition is True."""
        form = "write Piecewise((a, condition), (b, True))"
        read: list[tuple[ast.expr, ast.expr]] = []
        for pair in pairs:
            match pair:
                case ast.Tuple(elts=[value, condition]):
                    read.append((value, condition))
                case _:
                    raise error(f"this is not a pair; {form}", self.at(pair))
        match read:
            case [*others, (last, ast.Constant(value=True))]:
                result = self.value(last)
            case _:
                problem = "a Piecewise without a last pair for True has no value "
                raise error(f"{problem}elsewhere; {form}", self.at(node))
        for value, condition in reversed(others):
            decides = self.values.condition(self.value(condition), self.at(condition))
            result = self.values.choose(
                decides, self.value(value), result, self.at(node)
            )
        return result
