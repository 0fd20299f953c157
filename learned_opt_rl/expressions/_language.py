"""The language: tables of limits, inputs and operators, and the tree.

The reader, the checker, the evaluator, the printers and the importers all read these
tables; the functions are in ``_functions``.
"""

import ast
import dataclasses
import re
from collections.abc import Iterator
from typing import Literal, NamedTuple, TypeAlias

from learned_opt_rl.errors import ExpressionError

Kind: TypeAlias = Literal["optimizer", "drift"]


class Limits:
    """Bounds within which any text is read, checked and printed in under a second.

    The longest published function has 123 operations and operands.
    """

    CHARACTERS = 16 * 1024
    NODES = 2048
    DEPTH = 64
    MEMORY = 32
    NAME = 64
    DIGITS = 40
    # The cube of a number up to here is still finite in float32.
    MAGNITUDE = 1e12
    ARGUMENTS = 16


class Type(NamedTuple):
    """The type of a value."""

    boolean: bool  # a condition rather than a real number
    elementwise: bool  # one value per parameter (or sample) rather than one for all


SCALAR = Type(boolean=False, elementwise=False)
ELEMENTWISE = Type(boolean=False, elementwise=True)

INPUTS: dict[str, dict[str, Type]] = {
    "optimizer": {
        **dict.fromkeys(("p", "g", "dorm", "rand"), ELEMENTWISE),
        **dict.fromkeys(("t_p", "b_p", "l_p", "lr", "iteration"), SCALAR),
    },
    "drift": dict.fromkeys(("r", "A", "log_r"), ELEMENTWISE),
}
"""By kind, the inputs that a function may declare."""


class Operator(NamedTuple):
    """One operator."""

    syntax: type[ast.AST]
    binding: int  # its precedence; higher binds tighter, and ** groups to the right
    jax: str  # the function of jax.numpy
    latex: str = ""  # empty where the printer has a form of its own
    lax: str = ""  # the function of jax.lax
    symbolic: str = ""  # names in PySR, Julia and SymPy, separated by spaces


OPERATORS: dict[str, Operator] = {
    "or": Operator(ast.Or, 1, "logical_or", r"\lor", symbolic="logical_or Or"),
    "and": Operator(ast.And, 2, "logical_and", r"\land", symbolic="logical_and And"),
    "<": Operator(ast.Lt, 4, "less", "<", "lt", "less Lt StrictLessThan"),
    "<=": Operator(ast.LtE, 4, "less_equal", r"\le", "le", "less_equal Le LessThan"),
    ">": Operator(ast.Gt, 4, "greater", ">", "gt", "greater Gt StrictGreaterThan"),
    ">=": Operator(
        ast.GtE, 4, "greater_equal", r"\ge", "ge", "greater_equal Ge GreaterThan"
    ),
    "==": Operator(ast.Eq, 4, "equal", "=", "eq", "Eq Equality"),
    "!=": Operator(ast.NotEq, 4, "not_equal", r"\ne", "ne", "Ne Unequality"),
    "+": Operator(ast.Add, 5, "add", "+", "add", "plus add Add"),
    "-": Operator(ast.Sub, 5, "subtract", "-", "sub", "sub"),
    "*": Operator(ast.Mult, 6, "multiply", "", "mul", "mult mul Mul"),
    "/": Operator(ast.Div, 6, "divide", symbolic="div"),
    "**": Operator(ast.Pow, 8, "power", "", "pow", "pow safe_pow Pow"),
}
UNARY_OPERATORS: dict[str, Operator] = {
    "not": Operator(ast.Not, 3, "logical_not", r"\lnot ", symbolic="logical_not Not"),
    "-": Operator(ast.USub, 7, "negative", "-", "neg", "neg"),
}
LOGICAL = ("and", "or", "not")
COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
SYMBOLS = {
    row.syntax: symbol for symbol, row in [*OPERATORS.items(), *UNARY_OPERATORS.items()]
}

DECLARATIONS = ("inputs", "memory", "constant")
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")


def is_name(text: str) -> bool:
    """Return whether ``text`` has the form of a name (it may still be reserved)."""
    return len(text) <= Limits.NAME and _NAME.fullmatch(text) is not None


# ------------------------------------------------------------------------ the tree

# Nodes are frozen values, compared and hashed without their positions.
Position: TypeAlias = tuple[int, int]
"""Line and column, both counted from 1; ``NOWHERE`` for a node without a text."""

NOWHERE: Position = (0, 0)


def _position() -> Position:
    return dataclasses.field(default=NOWHERE, compare=False, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Number:
    """A number, finite and not negative (a minus sign is a `Unary`)."""

    value: float
    at: Position = _position()


@dataclasses.dataclass(frozen=True, slots=True)
class Name:
    """The current value of an input, a memory slot, a constant or a local."""

    name: str
    at: Position = _position()


@dataclasses.dataclass(frozen=True, slots=True)
class Unary:
    """``-x`` or ``not x``."""

    operator: str
    operand: "Expression"
    at: Position = _position()


@dataclasses.dataclass(frozen=True, slots=True)
class Binary:
    """``left operator right``, with an operator of ``OPERATORS``."""

    operator: str
    left: "Expression"
    right: "Expression"
    at: Position = _position()


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """``function(arguments...)``, with a function of ``FUNCTIONS``."""

    function: str
    arguments: tuple["Expression", ...]
    at: Position = _position()


Expression: TypeAlias = Number | Name | Unary | Binary | Call


@dataclasses.dataclass(frozen=True, slots=True)
class Assign:
    """``target = value``: a new local, or the next value of a memory slot."""

    target: str
    value: Expression
    at: Position = _position()


@dataclasses.dataclass(frozen=True, slots=True)
class Constant:
    """A named number that callers may replace."""

    name: str
    value: float
    at: Position = _position()


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """A float per parameter, carried from step to step.

    The body assigns a slot whose ``decay`` is ``None``. Any other is a momentum, which
    follows ``decay * m + (1 - decay) * g`` before the body runs.
    """

    name: str
    initial: float = 0.0
    decay: float | None = None
    at: Position = _position()


def children(expression: Expression) -> tuple[Expression, ...]:
    """Return the direct operands of a node."""
    match expression:
        case Unary():
            return (expression.operand,)
        case Binary():
            return (expression.left, expression.right)
        case Call():
            return expression.arguments
    return ()


def walk(expression: Expression) -> Iterator[tuple[Expression, int]]:
    """Yield every node with its depth (the root has 1), without recursion."""
    pending = [(expression, 1)]
    while pending:
        node, depth = pending.pop()
        yield node, depth
        pending.extend((child, depth + 1) for child in children(node))


def names_in(expression: Expression) -> frozenset[str]:
    """Return the names that an expression reads."""
    return frozenset(n.name for n, _ in walk(expression) if isinstance(n, Name))


# Characters of the longest message; a text of the caller may be part of it.
_LONGEST = 400


def shorten(shown: str, limit: int = 40) -> str:
    """Cut a text of any length to what fits into a message."""
    return shown if len(shown) <= limit else shown[: limit - 3] + "..."


def error(
    problem: str, at: Position, category: str = "syntax_error"
) -> ExpressionError:
    """Build an `ExpressionError` at a position, or without one for ``NOWHERE``."""
    line, column = at if at != NOWHERE else (None, None)
    return ExpressionError(shorten(problem, _LONGEST), line, column, category)
