"""From a tree to LaTeX."""

from __future__ import annotations

import decimal
import re
from typing import TYPE_CHECKING

from learned_opt_rl.expressions._nodes import (
    BINDING,
    COMPARISONS,
    Binary,
    Call,
    Expression,
    Memory,
    Name,
    Number,
    Unary,
)
from learned_opt_rl.expressions._printer import number
from learned_opt_rl.expressions._vocabulary import FUNCTIONS

if TYPE_CHECKING:
    from learned_opt_rl.expressions._function import Function

_ATOM = 9
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
_SIGNS = {
    "<=": r"\le",
    ">=": r"\ge",
    "==": "=",
    "!=": r"\ne",
    "and": r"\land",
    "or": r"\lor",
}
_MOMENTUM = re.compile(r"([a-z]+)_0_([0-9]+)")
_INDEXED = re.compile(r"([A-Za-z]+)([0-9]*)")


def latex(function: Function) -> str:
    """A function as an ``aligned`` environment."""
    slots = {slot.name for slot in function.memory}
    lines = [f"{_name(c.name)} &= {_number(c.value)[0]}" for c in function.constants]
    lines += [_momentum(slot) for slot in function.memory if slot.decay is not None]
    for assignment in function.body:
        sign = r"\leftarrow" if assignment.target in slots else "="
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
        return power, BINDING["^"]
    return rf"{mantissa} \cdot {power}", BINDING["*"]


def _latex(node: Expression) -> tuple[str, int]:
    """LaTeX and how tightly its outermost operator binds."""
    match node:
        case Number():
            return _number(node.value)
        case Name():
            return _name(node.name), BINDING["*"] if node.name == "log_r" else _ATOM
        case Unary(operator="not"):
            return r"\lnot " + _grouped(node.operand, _ATOM), BINDING["*"]
        case Unary():
            # A sign looks like a subtraction, and reads best bound like one.
            return "-" + _grouped(node.operand, BINDING["*"]), BINDING["+"]
        case Call():
            return _call(node)
    return _binary(node)


def _call(node: Call) -> tuple[str, int]:
    arguments = [_latex(argument)[0] for argument in node.arguments]
    shown = FUNCTIONS[node.function].latex
    if node.function == "where":
        binding = 0
    elif node.function in ("rsqrt", "log2", "log10") or "#*" in shown:
        binding = BINDING["*"]
    else:
        binding = _ATOM
    parts = re.split(r"#([*12-9])", shown)
    for place in range(1, len(parts), 2):
        which = parts[place]
        parts[place] = (
            ", ".join(arguments) if which == "*" else arguments[int(which) - 1]
        )
    return "".join(parts), binding


def _binary(node: Binary) -> tuple[str, int]:
    binding = BINDING[node.operator]
    if node.operator == "/":
        numerator, denominator = _latex(node.left)[0], _latex(node.right)[0]
        return rf"\frac{{{numerator}}}{{{denominator}}}", BINDING["*"]
    if node.operator == "^":
        return f"{_grouped(node.left, _ATOM)}^{{{_latex(node.right)[0]}}}", binding
    left = _grouped(node.left, binding + (node.operator in COMPARISONS))
    if node.operator == "*":
        right = _grouped(node.right, binding)
        sign = r"\cdot" if right[0].isdigit() else r"\,"
    else:
        right = _grouped(node.right, binding + 1)
        sign = _SIGNS.get(node.operator, node.operator)
    return f"{left} {sign} {right}", binding


def _grouped(node: Expression, binding: int) -> str:
    shown, found = _latex(node)
    return shown if found >= binding else rf"\left({shown}\right)"
