"""The syntax tree: frozen values, compared and hashed without their positions."""

import dataclasses
from collections.abc import Iterator
from typing import TypeAlias

from learned_opt_rl.errors import ExpressionError

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
    """A named number that callers may replace.

    Attributes:
        name: Its name.
        value: Its value unless a call passes another.
    """

    name: str
    value: float
    at: Position = _position()


@dataclasses.dataclass(frozen=True, slots=True)
class Memory:
    """A float per parameter, carried from step to step.

    Attributes:
        name: Its name.
        initial: Its value before the first step.
        decay: ``None`` for a slot that the body assigns; ``b`` for a momentum, which
            follows ``b * m + (1 - b) * g`` before the body runs.
    """

    name: str
    initial: float = 0.0
    decay: float | None = None
    at: Position = _position()


@dataclasses.dataclass(frozen=True)
class Definition:
    """The parts of a function, unchecked; `Function` documents them."""

    kind: str
    inputs: tuple[str, ...]
    memory: tuple[Memory, ...]
    constants: tuple[Constant, ...]
    body: tuple[Assign, ...]
    result: Expression
    input_positions: tuple[Position, ...] = dataclasses.field(
        default=(), compare=False, repr=False
    )

    @property
    def slots(self) -> tuple[str, ...]:
        """The names of all memory slots."""
        return tuple(slot.name for slot in self.memory)


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


def shorten(shown: str) -> str:
    """Cut a text of any length to what fits into a message."""
    return shown if len(shown) <= 40 else shown[:37] + "..."


def error(
    problem: str, at: Position, category: str = "syntax_error"
) -> ExpressionError:
    """Build an `ExpressionError` at a position, or without one for ``NOWHERE``."""
    line, column = at if at != NOWHERE else (None, None)
    return ExpressionError(problem, line, column, category)
