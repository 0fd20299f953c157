"""Rewrites for a search: numbers become constants, and operations are left out."""

import dataclasses
import itertools
from collections.abc import Iterator, Sequence

from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._check import needed
from learned_opt_rl.expressions._function import Function
from learned_opt_rl.expressions._functions import FUNCTIONS
from learned_opt_rl.expressions._language import (
    COMPARISONS,
    Binary,
    Call,
    Constant,
    Expression,
    Name,
    Number,
    Unary,
    children,
    walk,
)

# Numbers that are part of a formula's form, as in 1 - t_p or 1 / 2, and not tuned.
_FORM = (0.0, 1.0, 2.0)
_ONE = Number(1.0)


def size(function: Function) -> int:
    r"""Return the number of operations and operands.

    Example:
        >>> from learned_opt_rl.expressions import parse
        >>> size(parse("drift\ninputs r\nreturn (r - 1)**2"))
        5
    """
    parts = (*(a.value for a in function.body), function.result)
    return sum(1 for part in parts for _ in walk(part))


def lift(function: Function) -> Function:
    r"""Declare the numbers in a formula as constants, to tune them.

    Equal numbers become one constant. The numbers 0, 1 and 2, whole exponents and the
    decays of momenta stay.

    Example:
        >>> from learned_opt_rl.expressions import parse
        >>> text = "optimizer\ninputs g, p\nreturn 0.1 * g**3 + 1e-4 * p"
        >>> lift(parse(text)).init_constants()
        {'c1': 0.1, 'c2': 0.0001}
    """
    taken = {*function.slots, *function.init_constants()}
    taken |= {assignment.target for assignment in function.body}
    free = (name for i in itertools.count(1) if (name := f"c{i}") not in taken)
    names: dict[float, str] = {}

    def lifted(node: Expression) -> Expression:
        match node:
            case Number() if node.value not in _FORM:
                if node.value not in names:
                    names[node.value] = next(free)
                return Name(names[node.value])
            case Binary("**", left, right) if _is_whole(right):
                return Binary("**", lifted(left), right)
        return _rebuilt(node, [*map(lifted, children(node))])

    body = tuple(dataclasses.replace(a, value=lifted(a.value)) for a in function.body)
    result = lifted(function.result)
    found = tuple(Constant(name, value) for value, name in names.items())
    return dataclasses.replace(
        function, body=body, result=result, constants=(*function.constants, *found)
    )


def inline(function: Function) -> Function:
    r"""Write the declared constants into the formula as numbers, the inverse of `lift`.

    Example:
        >>> from learned_opt_rl.expressions import parse
        >>> text = "drift\ninputs r, A\nconstant c = -0.5\nreturn (r - 1)**2 * c * A"
        >>> print(inline(parse(text)).to_text(), end="")
        drift
        inputs r, A
        return (r - 1)**2 * -0.5 * A
    """
    values = function.init_constants()

    def written(node: Expression) -> Expression:
        if isinstance(node, Name) and node.name in values:
            number = Number(abs(values[node.name]))
            return Unary("-", number) if values[node.name] < 0 else number
        return _rebuilt(node, [*map(written, children(node))])

    body = tuple(dataclasses.replace(a, value=written(a.value)) for a in function.body)
    result = written(function.result)
    return dataclasses.replace(function, body=body, result=result, constants=())


def fold(function: Function) -> Function:
    r"""Compute with the numbers of a formula, and merge equal terms of a sum.

    Finite values stay the same up to rounding. A number is multiplied into a sum only
    if that makes the formula smaller. A formula whose folded form is not valid is
    returned as it is.

    Example:
        >>> from learned_opt_rl.expressions import parse
        >>> text = "optimizer\ninputs g, p\nreturn 2 * (0.5 * g + 3) + p / 2 - g - p"
        >>> fold(parse(text)).to_text().splitlines()[-1]
        'return 6 - 0.5 * p'
    """
    parts = [*(a.value for a in function.body), function.result]
    # The product of two numbers may be too large, and 0 * g is no longer a tensor.
    try:
        return _cleaned(function, [*map(_folded, parts)])
    except ExpressionError:
        return function


def _folded(node: Expression) -> Expression:
    """Return the smaller of a node with folded operands and of its sum of terms."""
    node = _rebuilt(node, [*map(_folded, children(node))])
    if (
        not isinstance(node, Unary | Binary)
        or isinstance(node, Unary)
        and (node.operator != "-")
    ):
        return node
    summed = _summed(_terms(node))
    return min((summed, node), key=lambda one: sum(1 for _ in walk(one)))


_Terms = dict[Expression | None, float]
"""The factors of the terms of a sum; None stands for its number."""


def _terms(node: Expression) -> _Terms:
    match node:
        case Number(value):
            return {None: value}
        case Unary("-", operand):
            return _scaled(_terms(operand), -1.0)
        case Binary("+" | "-" as sign, left, right):
            found = _terms(left)
            for term, factor in _terms(right).items():
                found[term] = found.get(term, 0.0) + (
                    factor if sign == "+" else -factor
                )
            return found
        case Binary("*", left, right):
            factors = _terms(left), _terms(right)
            for one, other in (factors, factors[::-1]):
                if one.keys() == {None}:
                    return _scaled(other, one[None])
            if len(factors[0]) == len(factors[1]) == 1:
                ((a, x),), ((b, y),) = (one.items() for one in factors)
                assert a is not None and b is not None
                return {Binary("*", a, b): x * y}
        case Binary("/", left, Number(value)) if value:
            return _scaled(_terms(left), 1 / value)
    return {node: 1.0}


def _scaled(terms: _Terms, factor: float) -> _Terms:
    return {term: factor * one for term, one in terms.items()}


def _summed(terms: _Terms) -> Expression:
    """Return the sum of terms, a positive one first."""
    kept = {term: factor for term, factor in terms.items() if factor}
    ordered = sorted(kept.items(), key=lambda pair: pair[1] < 0)
    if not ordered:
        return Number(0.0)
    whole: Expression | None = None
    for term, factor in ordered:
        size = Number(abs(factor))
        one = size if term is None else Binary("*", size, term)
        if term is not None and abs(factor) == 1:
            one = term
        if whole is None:
            whole = Unary("-", one) if factor < 0 else one
        else:
            whole = Binary("-" if factor < 0 else "+", whole, one)
    assert whole is not None
    return whole


def simpler(function: Function) -> list[Function]:
    r"""Return the valid functions that lack one operation, the smallest first.

    A term or a factor is dropped, or replaced by 1 as a numerator; a call, a choice of
    ``where`` or a power is replaced by an operand. What then has no effect is removed.

    Example:
        >>> from learned_opt_rl.expressions import parse
        >>> text = "drift\ninputs r, A\nreturn abs(A) * (r - 1)**2"
        >>> for one in simpler(parse(text)):
        ...     print(one.to_text().splitlines()[-1])
        return abs(A)
        return (r - 1)**2
        return abs(A) * (r - 1)
        return abs(A) * r**2
        return A * (r - 1)**2
        return abs(A) * (-1)**2
    """
    parts = [a.value for a in function.body]
    found: dict[str, Function] = {}
    for index, part in enumerate([*parts, function.result]):
        for changed in _without_one(part):
            rest = [*parts, function.result]
            rest[index] = changed
            # A condition in place of a number, for example, is not valid.
            try:
                one = _cleaned(function, rest)
            except ExpressionError:
                continue
            found.setdefault(one.to_text(), one)
    smaller = [one for one in found.values() if size(one) < size(function)]
    return sorted(smaller, key=size)


def _without_one(node: Expression) -> Iterator[Expression]:
    """Yield an expression with each of its operations left out in turn."""
    yield from _operands(node)
    given = children(node)
    for place, child in enumerate(given):
        for changed in _without_one(child):
            yield _rebuilt(node, (*given[:place], changed, *given[place + 1 :]))


def _operands(node: Expression) -> Iterator[Expression]:
    """Yield what may replace an operation."""
    match node:
        case Binary("-", left, right):
            yield from (left, Unary("-", right))
        case Binary("/", left, right):
            yield left
            if left != _ONE:
                yield Binary("/", _ONE, right)
        case Binary("**", left, _):
            yield left
        case Binary(operator, left, right) if operator not in COMPARISONS:
            yield from (left, right)
        case Call("where", (_, yes, no)):
            yield from (yes, no)
        case Call("min" | "max", given):
            for place in range(len(given)):
                rest = given[:place] + given[place + 1 :]
                yield dataclasses.replace(node, arguments=rest) if rest[1:] else rest[0]
        case Call(name, (first, *_)) if FUNCTIONS[name].rule != "reduce":
            yield first


def _cleaned(function: Function, parts: list[Expression]) -> Function:
    """Return a function with other expressions, without what then has no effect."""
    *values, result = parts
    body = [
        dataclasses.replace(a, value=value)
        for a, value in zip(function.body, values, strict=True)
    ]
    used, live = needed(body, result, function.slots)
    memory = tuple(slot for slot in function.memory if slot.name in live)
    if any(slot.decay is not None for slot in memory):
        live = live | {"g"}  # momenta need g even if the body does not
    return dataclasses.replace(
        function,
        inputs=tuple(name for name in function.inputs if name in live),
        memory=memory,
        constants=tuple(c for c in function.constants if c.name in live),
        body=tuple(a for a, counts in zip(body, used, strict=True) if counts),
        result=result,
        input_positions=(),
    )


def _rebuilt(node: Expression, operands: Sequence[Expression]) -> Expression:
    """Return a node with other direct operands."""
    match node:
        case Unary():
            return dataclasses.replace(node, operand=operands[0])
        case Binary():
            return dataclasses.replace(node, left=operands[0], right=operands[1])
        case Call():
            return dataclasses.replace(node, arguments=tuple(operands))
    return node


def _is_whole(exponent: Expression) -> bool:
    if isinstance(exponent, Unary):
        exponent = exponent.operand
    return isinstance(exponent, Number) and exponent.value.is_integer()
