"""From a tree to its canonical text, with the fewest parentheses, and to LaTeX."""

from __future__ import annotations

import decimal
import re
from typing import TYPE_CHECKING

from learned_opt_rl.expressions._functions import FUNCTIONS
from learned_opt_rl.expressions._language import (
    COMPARISONS,
    OPERATORS,
    UNARY_OPERATORS,
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

# A name or a number binds tighter than every operator.
_ATOM = 9
_SUM, _PRODUCT, _POWER = (OPERATORS[symbol].binding for symbol in ("+", "*", "**"))


def text(function: Function) -> str:
    """Print the canonical text of a function."""
    lines = [function.kind]
    if function.inputs:
        lines.append("inputs " + ", ".join(function.inputs))
    lines += [f"memory {slot.name} = {_start(slot)}" for slot in function.memory]
    lines += [f"constant {c.name} = {number(c.value)}" for c in function.constants]
    lines += [f"{a.target} = {expression_text(a.value)}" for a in function.body]
    lines.append("return " + expression_text(function.result))
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """Print a float with the fewest characters that read back as the same float."""
    if value.is_integer():
        digits = str(int(value))
        zeros = len(digits) - len(digits.rstrip("0"))
        return digits if zeros < 6 else f"{digits[:-zeros]}e{zeros}"
    mantissa, e, exponent = repr(value).partition("e")
    return mantissa.removesuffix(".0") + (e and f"e{int(exponent)}")


def expression_text(expression: Expression) -> str:
    """Print the canonical text of an expression."""
    return _print(expression)[0]


def _start(slot: Memory) -> str:
    if slot.decay is None:
        return number(slot.initial)
    return f"momentum({number(slot.decay)})"


def _print(node: Expression) -> tuple[str, int]:
    """Return the text and how tightly its outermost operator binds."""
    match node:
        case Number():
            return number(node.value), _ATOM
        case Name():
            return node.name, _ATOM
        case Unary():
            binding = UNARY_OPERATORS[node.operator].binding
            space = " " if node.operator == "not" else ""
            return node.operator + space + _at_least(node.operand, binding), binding
        case Call():
            arguments = ", ".join(_print(a)[0] for a in node.arguments)
            return f"{node.function}({arguments})", _ATOM
    return _print_binary(node)


def _print_binary(node: Binary) -> tuple[str, int]:
    binding = OPERATORS[node.operator].binding
    if node.operator == "**":
        # A sign as exponent needs no parentheses: 2**-x.
        right = UNARY_OPERATORS["-"].binding
        return f"{_at_least(node.left, _ATOM)}**{_at_least(node.right, right)}", binding
    left = _at_least(node.left, binding + (node.operator in COMPARISONS))
    return f"{left} {node.operator} {_at_least(node.right, binding + 1)}", binding


def _at_least(node: Expression, binding: int) -> str:
    printed, found = _print(node)
    return printed if found >= binding else f"({printed})"


# --------------------------------------------------------------------------- LaTeX

_GREEK = (
    "alpha beta gamma delta zeta eta theta kappa lambda mu nu xi rho sigma tau phi "
    "chi psi omega"
)
_WORDS = {
    **{name: f"\\{name}" for name in _GREEK.split()},
    "eps": r"\varepsilon",
    "epsilon": r"\varepsilon",
    "log_r": r"\log\left(r\right)",
}
_MOMENTUM = re.compile(r"([a-z]+)_0_([0-9]+)")
_INDEXED = re.compile(r"([A-Za-z]+)([0-9]*)")


def latex(function: Function) -> str:
    """Print a function as an ``aligned`` environment."""
    lines = [f"{_name(c.name)} &= {_number(c.value)[0]}" for c in function.constants]
    lines += [_momentum(slot) for slot in function.memory if slot.decay is not None]
    for assignment in function.body:
        sign = r"\leftarrow" if assignment.target in function.slots else "="
        value = _latex(assignment.value)[0]
        lines.append(f"{_name(assignment.target)} &{sign} {value}")
    output = "update" if function.kind == "optimizer" else "drift"
    lines.append(rf"\text{{{output}}} &= {_latex(function.result)[0]}")
    inside = " \\\\\n".join(lines)
    return f"\\begin{{aligned}}\n{inside}\n\\end{{aligned}}"


def _momentum(slot: Memory) -> str:
    decay = decimal.Decimal(number(slot.decay or 0))
    name = _name(slot.name)
    return rf"{name} &\leftarrow {decay} \, {name} + {1 - decay} \, g"


def _name(name: str) -> str:
    momentum = _MOMENTUM.fullmatch(name)
    if momentum:
        return f"{_word(momentum[1])}_{{0.{momentum[2]}}}"
    if name in _WORDS:
        return _WORDS[name]
    base, *rest = name.split("_")
    indexed = _INDEXED.fullmatch(base)
    if indexed and indexed[2]:
        base, rest = indexed[1], [indexed[2], *rest]
    subscript = ",".join(_word(part) for part in rest if part)
    return _word(base) + (f"_{{{subscript}}}" if subscript else "")


def _word(part: str) -> str:
    plain = len(part) == 1 or part.isdigit()
    return _WORDS.get(part) or (part if plain else rf"\mathrm{{{part}}}")


def _number(value: float) -> tuple[str, int]:
    mantissa, e, exponent = number(value).partition("e")
    if not e:
        return mantissa, _ATOM
    power = f"10^{{{exponent}}}"
    if mantissa == "1":
        return power, _POWER
    return rf"{mantissa} \cdot {power}", _PRODUCT


def _latex(node: Expression) -> tuple[str, int]:
    """Return the LaTeX and how tightly its outermost operator binds."""
    match node:
        case Number():
            return _number(node.value)
        case Name():
            return _name(node.name), _PRODUCT if node.name == "log_r" else _ATOM
        case Unary(operator="not"):
            sign = UNARY_OPERATORS["not"].latex
            return sign + _grouped(node.operand, _ATOM), _PRODUCT
        case Unary():
            # A sign looks like a subtraction, and reads best bound like one.
            return "-" + _grouped(node.operand, _PRODUCT), _SUM
        case Call():
            return _latex_call(node)
    return _latex_binary(node)


def _latex_call(node: Call) -> tuple[str, int]:
    arguments = [_latex(argument)[0] for argument in node.arguments]
    shown = FUNCTIONS[node.function].latex
    if node.function == "where":
        binding = 0
    elif node.function in ("rsqrt", "log2", "log10") or "#*" in shown:
        binding = _PRODUCT
    else:
        binding = _ATOM
    places = {str(i): argument for i, argument in enumerate(arguments, 1)}
    places["*"] = ", ".join(arguments)
    return re.sub(r"#([*1-9])", lambda found: places[found[1]], shown), binding


def _latex_binary(node: Binary) -> tuple[str, int]:
    binding = OPERATORS[node.operator].binding
    if node.operator == "/":
        numerator, denominator = _latex(node.left)[0], _latex(node.right)[0]
        return rf"\frac{{{numerator}}}{{{denominator}}}", _PRODUCT
    if node.operator == "**":
        return f"{_grouped(node.left, _ATOM)}^{{{_latex(node.right)[0]}}}", binding
    left = _grouped(node.left, binding + (node.operator in COMPARISONS))
    if node.operator == "*":
        right = _grouped(node.right, binding)
        sign = r"\cdot" if right[0].isdigit() else r"\,"
    else:
        right = _grouped(node.right, binding + 1)
        sign = OPERATORS[node.operator].latex
    return f"{left} {sign} {right}", binding


def _grouped(node: Expression, binding: int) -> str:
    shown, found = _latex(node)
    return shown if found >= binding else rf"\left({shown}\right)"
