"""The syntax tree: plain frozen values, equal and hashed without their positions."""

import dataclasses
from collections.abc import Iterator
from typing import TypeAlias

from learned_opt_rl.errors import ExpressionError

Position: TypeAlias = tuple[int, int]
"""Line and column, both counted from 1; ``(0, 0)`` for a node no text stands for."""

NOWHERE: Position = (0, 0)


@dataclasses.dataclass(frozen=True, slots=True)
class Number:
    """A number, finite and not negative (a minus sign is a `Unary`)."""

    value: float
    at: Position = dataclasses.field(default=NOWHERE, compare=False, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Name:
    """The current value of an input, a memory slot, a constant or a local."""

    name: str
    at: Position = dataclasses.field(default=NOWHERE, compare=False, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Unary:
    """``-x`` or ``not x``."""

    operator: str
    operand: "Expression"
    at: Position = dataclasses.field(default=NOWHERE, compare=False, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Binary:
    """``left operator right``; see `BINDING` for the operators."""

    operator: str
    left: "Expression"
    right: "Expression"
    at: Position = dataclasses.field(default=NOWHERE, compare=False, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Call:
    """``function(arguments...)``; see the vocabulary for the functions."""

    function: str
    arguments: tuple["Expression", ...]
    at: Position = dataclasses.field(default=NOWHERE, compare=False, repr=False)


Expression: TypeAlias = Number | Name | Unary | Binary | Call


@dataclasses.dataclass(frozen=True, slots=True)
class Assign:
    """``target = value``: a new local, or the next value of a memory slot."""

    target: str
    value: Expression
    at: Position = dataclasses.field(default=NOWHERE, compare=False, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Constant:
    """A named number that may be tuned from outside.

    Attributes:
        name: Its name.
        value: The number the text gives, used unless another is passed.
    """

    name: str
    value: float
    at: Position = dataclasses.field(default=NOWHERE, compare=False, repr=False)


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """A float per parameter, carried from step to step.

    Attributes:
        name: Its name.
        initial: Where it starts.
        decay: ``None`` for a slot that the body assigns; ``b`` for a momentum, which
            follows ``b * m + (1 - b) * g`` before the body runs.
    """

    name: str
    initial: float = 0.0
    decay: float | None = None
    at: Position = dataclasses.field(default=NOWHERE, compare=False, repr=False)


COMPARISONS = ("<", "<=", ">", ">=", "==", "!=")
BINDING = {
    "or": 1,
    "and": 2,
    **dict.fromkeys(COMPARISONS, 4),
    "+": 5,
    "-": 5,
    "*": 6,
    "/": 6,
    "^": 8,
}
"""How tightly each binary operator binds; ``^`` groups to the right."""

UNARY_BINDING = {"not": 3, "-": 7}


def children(expression: Expression) -> tuple[Expression, ...]:
    """The direct operands of a node."""
    match expression:
        case Unary():
            return (expression.operand,)
        case Binary():
            return (expression.left, expression.right)
        case Call():
            return expression.arguments
    return ()


def walk(expression: Expression) -> Iterator[tuple[Expression, int]]:
    """Every node with its depth (the root has 1), without recursion."""
    pending = [(expression, 1)]
    while pending:
        node, depth = pending.pop()
        yield node, depth
        pending.extend((child, depth + 1) for child in children(node))


def names_in(expression: Expression) -> frozenset[str]:
    """The names an expression reads."""
    return frozenset(n.name for n, _ in walk(expression) if isinstance(n, Name))


def error(
    problem: str, at: Position, category: str = "syntax_error"
) -> ExpressionError:
    """An `ExpressionError` at a position, or at none where it is `NOWHERE`."""
    line, column = at if at != NOWHERE else (None, None)
    return ExpressionError(problem, line, column, category)
