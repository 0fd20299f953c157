"""From a tree to its canonical text: the fewest parentheses that parse back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from learned_opt_rl.expressions._nodes import (
    BINDING,
    COMPARISONS,
    UNARY_BINDING,
    Binary,
    Call,
    Expression,
    Memory,
    Name,
    Number,
    Unary,
)

if TYPE_CHECKING:
    from learned_opt_rl.expressions._function import Function

_ATOM = 9


def text(function: Function) -> str:
    """The canonical text of a function."""
    lines = [function.kind]
    if function.inputs:
        lines.append("inputs " + ", ".join(function.inputs))
    lines += [f"memory {slot.name} = {_start(slot)}" for slot in function.memory]
    lines += [f"constant {c.name} = {number(c.value)}" for c in function.constants]
    lines += [f"{a.target} = {expression_text(a.value)}" for a in function.body]
    lines.append("return " + expression_text(function.result))
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """The shortest text of a float that reads back as the same float."""
    if value.is_integer():
        digits = str(int(value))
        zeros = len(digits) - len(digits.rstrip("0"))
        return digits if zeros < 6 else f"{digits[:-zeros]}e{zeros}"
    mantissa, e, exponent = repr(value).partition("e")
    return mantissa.removesuffix(".0") + (e and f"e{int(exponent)}")


def expression_text(expression: Expression) -> str:
    """The canonical text of an expression."""
    return _print(expression)[0]


def _start(slot: Memory) -> str:
    if slot.decay is None:
        return number(slot.initial)
    return f"momentum({number(slot.decay)})"


def _print(node: Expression) -> tuple[str, int]:
    """Text and how tightly its outermost operator binds."""
    match node:
        case Number():
            return number(node.value), _ATOM
        case Name():
            return node.name, _ATOM
        case Unary():
            binding = UNARY_BINDING[node.operator]
            space = " " if node.operator == "not" else ""
            return node.operator + space + _at_least(node.operand, binding), binding
        case Call():
            arguments = ", ".join(_print(a)[0] for a in node.arguments)
            return f"{node.function}({arguments})", _ATOM
    return _print_binary(node)


def _print_binary(node: Binary) -> tuple[str, int]:
    binding = BINDING[node.operator]
    # The side on which an operator of equal rank needs parentheses.
    left = binding + (node.operator == "^" or node.operator in COMPARISONS)
    right = binding + (node.operator != "^")
    if node.operator == "^":
        # A sign as exponent needs none: 2^-x.
        right = UNARY_BINDING["-"]
    space = "" if node.operator == "^" else " "
    operands = _at_least(node.left, left), _at_least(node.right, right)
    return f"{space}{node.operator}{space}".join(operands), binding


def _at_least(node: Expression, binding: int) -> str:
    printed, found = _print(node)
    return printed if found >= binding else f"({printed})"
