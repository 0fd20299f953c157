"""Values that Python knows before the formula runs: comparisons of written numbers."""

import operator
from collections.abc import Container, Iterable

from learned_opt_rl.expressions._language import (
    COMPARISONS,
    Assign,
    Binary,
    Expression,
    Name,
    Number,
    Unary,
)

_COMPARED = {
    **{"<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge},
    **{"==": operator.eq, "!=": operator.ne},
}


def written(
    value: object, assignments: Iterable[Assign], slots: Container[str] = ()
) -> float | None:
    """Return the value of written numbers, compared or negated; None for all others.

    ``slots`` are names of memory, whose value changes.
    """
    match value:
        case Number(value=number):
            return number
        case Name(name=name):
            found: list[Expression] = [a.value for a in assignments if a.target == name]
            known = len(found) == 1 and name not in slots
            return written(found[0], assignments, slots) if known else None
        case Unary(operator="-", operand=operand):
            number = written(operand, assignments, slots)
            return None if number is None else -number
        case Binary(operator=symbol, left=left, right=right) if symbol in COMPARISONS:
            sides = [written(side, assignments, slots) for side in (left, right)]
            if None not in sides:
                return float(_COMPARED[symbol](*sides))
    return None
