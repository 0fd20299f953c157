"""What makes a tree a valid function: sizes, declarations, names, types, effects."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING

from learned_opt_rl.errors import ExpressionError
from learned_opt_rl.expressions._liveness import needed
from learned_opt_rl.expressions._nodes import (
    NOWHERE,
    Assign,
    Expression,
    Memory,
    Name,
    Number,
    Position,
    error,
    walk,
)
from learned_opt_rl.expressions._printer import text
from learned_opt_rl.expressions._types import infer, want_boolean
from learned_opt_rl.expressions._vocabulary import (
    ELEMENTWISE,
    INPUTS,
    MAX_CHARACTERS,
    MAX_DEPTH,
    MAX_MAGNITUDE,
    MAX_MEMORY,
    MAX_NODES,
    RESERVED,
    SCALAR,
    Type,
    is_name,
    nearest,
)

if TYPE_CHECKING:
    from learned_opt_rl.expressions._function import Function


def check(function: Function) -> None:
    """Raise `ExpressionError` at the first thing wrong with a function."""
    _check_sizes(function)
    types = _declared(function)
    slots = {slot.name for slot in function.memory}
    rigid = _rigid(function)
    drift = function.kind == "drift"
    for index, assignment in enumerate(function.body):
        _check_target(function, assignment, rigid)
        _check_names(function, index, assignment.value, types)
        found = infer(assignment.value, types, drift=drift)
        if assignment.target in slots:
            want_boolean(assignment.value, found, False, "a memory slot")
            found = ELEMENTWISE
        types[assignment.target] = found
    _check_names(function, len(function.body), function.result, types)
    found = infer(function.result, types, drift=drift)
    want_boolean(function.result, found, False, "return")
    _check_effects(function)
    if len(text(function)) > MAX_CHARACTERS:
        raise error(
            f"the function has a text of more than {MAX_CHARACTERS} characters",
            NOWHERE,
            "size_error",
        )


def _check_sizes(function: Function) -> None:
    nodes = 0
    for expression in (*(a.value for a in function.body), function.result):
        for node, depth in walk(expression):
            nodes += 1
            if depth > MAX_DEPTH:
                raise error(
                    f"an expression is more than {MAX_DEPTH} operations deep; give "
                    "parts a name on lines of their own",
                    expression.at,
                    "size_error",
                )
            if nodes > MAX_NODES:
                raise error(
                    f"the function has more than {MAX_NODES} operations and operands",
                    node.at,
                    "size_error",
                )
            if isinstance(node, Number):
                _check_number(node.value, node.at)
    if len(function.memory) > MAX_MEMORY:
        raise error(
            f"there are {len(function.memory)} memory slots; the most is {MAX_MEMORY}",
            function.memory[MAX_MEMORY].at,
            "size_error",
        )


def _check_number(value: float, at: Position) -> None:
    if not math.isfinite(value) or abs(value) > MAX_MAGNITUDE:
        raise error(
            f"a number is {value}; write one of magnitude at most {MAX_MAGNITUDE:g}",
            at,
            "size_error",
        )


def _declared(function: Function) -> dict[str, Type]:
    """The names before the body runs, with their types."""
    if function.kind not in INPUTS:
        raise error(f"the kind is {function.kind!r}; write optimizer or drift", NOWHERE)
    known = INPUTS[function.kind]
    types: dict[str, Type] = {}
    for name, at in _inputs_with_positions(function):
        if name not in known:
            raise error(
                f"{name!r} is no input of {_article(function.kind)}; "
                f"{nearest(name, known)}",
                at,
                "name_error",
            )
        _declare(function, types, name, known[name], at)
    for slot in function.memory:
        _check_own(function, slot.name, slot.at, "a memory slot")
        _declare(function, types, slot.name, ELEMENTWISE, slot.at)
        _check_slot(function, slot)
    for constant in function.constants:
        _check_own(function, constant.name, constant.at, "a constant")
        _declare(function, types, constant.name, SCALAR, constant.at)
        _check_number(constant.value, constant.at)
    return types


def _inputs_with_positions(function: Function) -> Iterable[tuple[str, Position]]:
    positions = function.input_positions
    if len(positions) != len(function.inputs):
        # Built by hand, or by dataclasses.replace from one that was read.
        positions = (NOWHERE,) * len(function.inputs)
    return zip(function.inputs, positions, strict=True)


def _article(kind: str) -> str:
    return "an optimizer" if kind == "optimizer" else "a drift"


def _declare(
    function: Function, types: dict[str, Type], name: str, type_: Type, at: Position
) -> None:
    if name in types:
        raise error(f"{name!r} is declared twice; drop one", at, "name_error")
    types[name] = type_


def _check_own(function: Function, name: str, at: Position, what: str) -> None:
    """Raise unless ``name`` is free to be given to a slot, constant or local."""
    if not is_name(name) or name in RESERVED:
        raise error(f"{name!r} cannot name {what}; choose another", at, "name_error")
    if name in INPUTS[function.kind]:
        raise error(
            f"{name!r} is an input of {_article(function.kind)} and cannot name "
            f"{what}; choose another name, such as {name}_1",
            at,
            "name_error",
        )


def _check_slot(function: Function, slot: Memory) -> None:
    if function.kind == "drift":
        raise error(
            f"a drift keeps no memory; drop {slot.name!r} or write an optimizer",
            slot.at,
            "structure_error",
        )
    _check_number(slot.initial, slot.at)
    if slot.decay is None:
        return
    if not 0 < slot.decay < 1:
        raise error(
            f"momentum({slot.decay}) does not decay; write a number between 0 and 1",
            slot.at,
            "type_error",
        )
    if "g" not in function.inputs:
        raise error(
            f"{slot.name!r} is a momentum of g, which is no input; add g to the inputs",
            slot.at,
            "name_error",
        )


def _rigid(function: Function) -> dict[str, str]:
    """Names that the body must not assign, with what to say."""
    rigid = {c.name: "is a constant; assign another name" for c in function.constants}
    for slot in function.memory:
        if slot.decay is not None:
            rigid[slot.name] = (
                "is a momentum and follows its own rule; assign another name, or "
                f"declare: memory {slot.name} = 0"
            )
    return rigid


def _check_target(
    function: Function, assignment: Assign, rigid: dict[str, str]
) -> None:
    target, at = assignment.target, assignment.at
    _check_own(function, target, at, "a local")
    if target in rigid:
        raise error(f"{target!r} {rigid[target]}", at, "name_error")


def _check_names(
    function: Function, index: int, expression: Expression, types: dict[str, Type]
) -> None:
    for node, _ in walk(expression):
        if isinstance(node, Name) and node.name not in types:
            raise error(_missing(function, index, node, types), node.at, "name_error")


def _missing(function: Function, index: int, node: Name, types: dict[str, Type]) -> str:
    name = node.name
    if name in INPUTS[function.kind]:
        return f"the input {name!r} is not declared; add it to the line: inputs ..."
    for assignment in function.body[index:]:
        if assignment.target == name:
            return (
                f"{name!r} is read before line {assignment.at[0]} assigns it; move "
                f"that line up, or declare: memory {name} = 0"
            )
    known = {*types, *INPUTS[function.kind]}
    return (
        f"unknown name {name!r} ({nearest(name, known)}); assign it above, or declare "
        "it as memory or constant"
    )


def _check_effects(function: Function) -> None:
    """Raise for whatever could be removed without changing any result."""
    slots = [slot.name for slot in function.memory]
    used, live = needed(function.body, function.result, slots)
    for assignment, is_used in zip(function.body, used, strict=True):
        if not is_used:
            raise _unused(f"this value of {assignment.target!r}", assignment.at)
    assigned = {assignment.target for assignment in function.body}
    for slot in function.memory:
        if slot.name not in live:
            raise _unused(f"the memory {slot.name!r}", slot.at)
        if slot.decay is None and slot.name not in assigned:
            raise error(
                f"the memory {slot.name!r} is never assigned; declare: constant "
                f"{slot.name} = ...",
                slot.at,
                "structure_error",
            )
    for constant in function.constants:
        if constant.name not in live:
            raise _unused(f"the constant {constant.name!r}", constant.at)
    momenta = any(slot.decay is not None for slot in function.memory)
    for name, at in _inputs_with_positions(function):
        if name not in live and not (name == "g" and momenta):
            raise _unused(f"the input {name!r}", at)


def _unused(what: str, at: Position) -> ExpressionError:
    return error(f"{what} has no effect on the result; remove it", at, "name_error")
