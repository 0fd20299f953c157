"""What makes a tree a valid function: sizes, declarations, names, types, effects."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from learned_opt_rl.checks import suggest
from learned_opt_rl.expressions._functions import FUNCTIONS, RESERVED
from learned_opt_rl.expressions._language import (
    COMPARISONS,
    ELEMENTWISE,
    INPUTS,
    NOWHERE,
    SCALAR,
    Assign,
    Binary,
    Call,
    Expression,
    Limits,
    Memory,
    Name,
    Number,
    Position,
    Type,
    Unary,
    children,
    error,
    is_name,
    names_in,
    shorten,
    walk,
)
from learned_opt_rl.expressions._printing import expression_text, text

if TYPE_CHECKING:
    from learned_opt_rl.expressions._function import Function

_KINDS = {"optimizer": "an optimizer", "drift": "a drift"}


def check(function: Function) -> None:
    """Raise `ExpressionError` at the first thing wrong with a function."""
    _check_sizes(function)
    types = _declared(function)
    drift = function.kind == "drift"
    for index, assignment in enumerate(function.body):
        _check_target(function, assignment)
        _check_names(function, index, assignment.value, types)
        found = infer(assignment.value, types, drift=drift)
        if assignment.target in function.slots:
            want_boolean(assignment.value, found, False, "a memory slot")
            found = ELEMENTWISE
        types[assignment.target] = found
    _check_names(function, len(function.body), function.result, types)
    found = infer(function.result, types, drift=drift)
    want_boolean(function.result, found, False, "return")
    _check_effects(function)
    if len(text(function)) > Limits.CHARACTERS:
        problem = (
            f"the text of the function has more than {Limits.CHARACTERS} characters"
        )
        raise error(f"{problem}; write a shorter one", NOWHERE, "size_error")


def _check_sizes(function: Function) -> None:
    nodes = 0
    for expression in (*(a.value for a in function.body), function.result):
        for node, depth in walk(expression):
            nodes += 1
            if depth > Limits.DEPTH:
                problem = f"an expression is more than {Limits.DEPTH} operations deep; "
                problem += "give parts a name on lines of their own"
                raise error(problem, expression.at, "size_error")
            if nodes > Limits.NODES:
                problem = f"the function has more than {Limits.NODES} operations and "
                problem += "operands; write a shorter one"
                raise error(problem, node.at, "size_error")
            if isinstance(node, Number):
                _check_number(node.value, node.at)
    if len(function.memory) > Limits.MEMORY:
        problem = f"there are {len(function.memory)} memory slots; declare at most "
        at = function.memory[Limits.MEMORY].at
        raise error(f"{problem}{Limits.MEMORY}", at, "size_error")


def _check_number(value: float, at: Position) -> None:
    if not math.isfinite(value) or abs(value) > Limits.MAGNITUDE:
        problem = f"a number is {value}; write one of magnitude at most "
        raise error(f"{problem}{Limits.MAGNITUDE:g}", at, "size_error")


def _declared(function: Function) -> dict[str, Type]:
    """Return the types of the declared names."""
    if function.kind not in INPUTS:
        raise error(f"kind={function.kind!r}; pass 'optimizer' or 'drift'", NOWHERE)
    known = INPUTS[function.kind]
    types: dict[str, Type] = {}

    def declare(name: str, type_: Type, at: Position) -> None:
        if name in types:
            raise error(f"{name!r} is declared twice; drop one", at, "name_error")
        types[name] = type_

    for name, at in _inputs_with_positions(function):
        if name not in known:
            problem = f"{name!r} is not an input of {_KINDS[function.kind]}; "
            raise error(problem + suggest(name, sorted(known)), at, "name_error")
        declare(name, known[name], at)
    for slot in function.memory:
        _check_own(function, slot.name, slot.at, "a memory slot")
        declare(slot.name, ELEMENTWISE, slot.at)
        _check_slot(function, slot)
    for constant in function.constants:
        _check_own(function, constant.name, constant.at, "a constant")
        declare(constant.name, SCALAR, constant.at)
        _check_number(constant.value, constant.at)
    return types


def _inputs_with_positions(function: Function) -> Iterable[tuple[str, Position]]:
    positions = function.input_positions
    if len(positions) != len(function.inputs):
        # Built by hand, or by dataclasses.replace from one that was read.
        positions = (NOWHERE,) * len(function.inputs)
    return zip(function.inputs, positions, strict=True)


def _check_own(function: Function, name: str, at: Position, what: str) -> None:
    """Raise unless ``name`` may name a slot, a constant or a local."""
    if not is_name(name) or name in RESERVED:
        problem = f"{shorten(name)!r} cannot name {what}; choose another name"
        raise error(problem, at, "name_error")
    if name in INPUTS[function.kind]:
        problem = f"{name!r} is an input of {_KINDS[function.kind]} and cannot name "
        problem += f"{what}; choose another name, such as {name}_1"
        raise error(problem, at, "name_error")


def _check_slot(function: Function, slot: Memory) -> None:
    if function.kind == "drift":
        problem = f"a drift keeps no memory; drop {slot.name!r} or write an optimizer"
        raise error(problem, slot.at, "structure_error")
    _check_number(slot.initial, slot.at)
    if slot.decay is None:
        return
    if not 0 < slot.decay < 1:
        problem = f"momentum({slot.decay}) does not decay; write a number between 0 "
        raise error(f"{problem}and 1", slot.at, "type_error")
    if "g" not in function.inputs:
        problem = f"{slot.name!r} is a momentum of g, which is not declared; add g to "
        raise error(f"{problem}the inputs", slot.at, "name_error")


def _check_target(function: Function, assignment: Assign) -> None:
    target, at = assignment.target, assignment.at
    _check_own(function, target, at, "a local")
    if any(target == constant.name for constant in function.constants):
        raise error(f"{target!r} is a constant; assign another name", at, "name_error")
    for slot in function.memory:
        if target == slot.name and slot.decay is not None:
            problem = f"{target!r} is a momentum and follows its own rule; assign "
            problem += f"another name, or declare: memory {target} = 0"
            raise error(problem, at, "name_error")


def _check_names(
    function: Function, index: int, expression: Expression, types: dict[str, Type]
) -> None:
    """Raise for a name that the expression of statement ``index`` cannot read."""
    for node, _ in walk(expression):
        if not isinstance(node, Name) or node.name in types:
            continue
        name = node.name
        known = {*types, *INPUTS[function.kind]}
        problem = (
            f"unknown name {name!r} ({suggest(name, sorted(known))}); assign it above, "
        )
        problem += "or declare it as memory or constant"
        if name in INPUTS[function.kind]:
            problem = f"the input {name!r} is not declared; add it to the line: "
            problem += "inputs ..."
        for later in function.body[index:]:
            if later.target == name:
                problem = f"{name!r} is read before line {later.at[0]} assigns it; "
                problem += f"move that line up, or declare: memory {name} = 0"
                break
        raise error(problem, node.at, "name_error")


# --------------------------------------------------------------------------- types

Found: TypeAlias = dict[int, tuple[Expression, Type]]


def infer(
    node: Expression,
    known: Mapping[str, Type],
    *,
    drift: bool,
    found: Found | None = None,
) -> Type:
    """Infer the type of an expression, whose names are all in ``known``.

    A drift may not use functions of a whole tensor. A caller that builds a tree bottom
    up and infers the type at every level passes the same ``found`` each time.
    """
    found = {} if found is None else found
    if id(node) not in found:
        # Keeping the node alive keeps its identity from being reused.
        found[id(node)] = node, _infer(node, known, drift, found)
    return found[id(node)][1]


def _infer(
    node: Expression, known: Mapping[str, Type], drift: bool, found: Found
) -> Type:
    match node:
        case Number():
            return SCALAR
        case Name():
            return known[node.name]
    types = [infer(c, known, drift=drift, found=found) for c in children(node)]
    match node:
        case Unary():
            want_boolean(node.operand, types[0], node.operator == "not", node.operator)
            return types[0]
        case Binary(operator=operator):
            logical = operator in ("and", "or")
            want_boolean(node.left, types[0], logical, operator)
            want_boolean(node.right, types[1], logical, operator)
            elementwise = types[0].elementwise or types[1].elementwise
            return Type(logical or operator in COMPARISONS, elementwise)
    return _call(node, types, drift)


def want_boolean(node: Expression, found: Type, boolean: bool, where: str) -> None:
    """Raise unless ``node`` is a condition (``boolean``), or else a number."""
    if found.boolean == boolean:
        return
    shown = shorten(expression_text(node))
    wanted, given, fix = "number", "condition", f"where({shown}, 1, 0)"
    if boolean:
        wanted, given, fix = "condition", "number", f"{shown} != 0"
    problem = f"{where} needs a {wanted}, but {shown} is a {given}; write {fix}"
    raise error(problem, node.at, "type_error")


def _call(node: Call, types: list[Type], drift: bool) -> Type:
    name, builtin = node.function, FUNCTIONS.get(node.function)
    if builtin is None:
        problem = f"unknown function {shorten(name)!r}; {suggest(name, FUNCTIONS)}"
        raise error(problem, node.at, "name_error")
    if not builtin.least <= len(types) <= builtin.most:
        wanted = f"{builtin.least}" + " or more" * (builtin.least < builtin.most)
        problem = f"{name}(...) has {len(types)} arguments; give it {wanted}"
        raise error(problem, node.at, "type_error")
    for index, (argument, type_) in enumerate(zip(node.arguments, types, strict=True)):
        condition = builtin.rule == "where" and index == 0
        want_boolean(argument, type_, condition, f"{name}(...)")
    if builtin.rule in ("reduce", "normalize"):
        _check_tensor(node, types[0], drift)
        return SCALAR if builtin.rule == "reduce" else ELEMENTWISE
    return Type(builtin.rule == "test", any(type_.elementwise for type_ in types))


def _check_tensor(node: Call, found: Type, drift: bool) -> None:
    name = node.function
    if drift:
        problem = f"{name}(...) reduces a whole tensor, but a drift is a function of "
        problem += f"one sample; write the drift without {name}"
        raise error(problem, node.at, "shape_error")
    if not found.elementwise:
        shown = shorten(expression_text(node.arguments[0]))
        problem = f"{name}(...) needs a whole tensor, but {shown} is one number; drop "
        raise error(problem + name, node.at, "shape_error")


# -------------------------------------------------------------------------- effects


def needed(
    body: Sequence[Assign], result: Expression, slots: Collection[str]
) -> tuple[list[bool], frozenset[str]]:
    """Follow the result backwards through the body, and from step to step.

    ``slots`` are the names whose last value is carried to the next step. Returns for
    each assignment whether it influences this or a later result, and the names whose
    value at the start does.
    """
    reads = [names_in(assignment.value) for assignment in body]
    carried: frozenset[str] = frozenset()
    while True:
        live = names_in(result) | carried
        used = [False] * len(body)
        for index in range(len(body) - 1, -1, -1):
            target = body[index].target
            used[index] = target in live
            if used[index]:
                live = (live - {target}) | reads[index]
        # A slot read at the start keeps its last value alive, one step earlier.
        grown = carried | (live & frozenset(slots))
        if grown == carried:
            return used, live
        carried = grown


def _check_effects(function: Function) -> None:
    """Raise for any part whose removal changes no result."""
    used, live = needed(function.body, function.result, function.slots)
    assignments = zip(used, function.body, strict=True)
    parts = [(counts, f"this value of {a.target!r}", a.at) for counts, a in assignments]
    parts += [(s.name in live, f"the memory {s.name!r}", s.at) for s in function.memory]
    constants = [(c.name, c.at) for c in function.constants]
    parts += [(name in live, f"the constant {name!r}", at) for name, at in constants]
    if any(slot.decay is not None for slot in function.memory):
        live = live | {"g"}  # which momenta read by themselves
    inputs = _inputs_with_positions(function)
    parts += [(name in live, f"the input {name!r}", at) for name, at in inputs]
    for counts, part, at in parts:
        if not counts:
            problem = f"{part} has no effect on the result; remove it"
            raise error(problem, at, "name_error")
    assigned = {assignment.target for assignment in function.body}
    for slot in function.memory:
        if slot.decay is None and slot.name not in assigned:
            problem = f"the memory {slot.name!r} is never assigned; declare: constant "
            raise error(f"{problem}{slot.name} = ...", slot.at, "structure_error")
